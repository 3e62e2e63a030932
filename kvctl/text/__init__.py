"""Text that people read: what is shown of stored data, and the commands that are shown with it.

* `escaping` makes any text safe for a terminal and any command safe to paste.
* `command_lines` makes commands to be shown, `shell_words` reads them back.
* `cells` makes it fit a grid: text of certain width, cut and wrapped by cells.
* `shown_commands` writes the commands in hints so that each, pasted, does what the hint says.
"""
