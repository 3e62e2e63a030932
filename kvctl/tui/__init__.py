"""The dashboard: a Textual application over `kvctl.view`.

    feed ──▶ WatchingApp.observe ──▶ reduce ──▶ view      (as fast as it comes; nothing is drawn)
    timer, a few times a second ──▶ Scene ──▶ the page that is shown ──▶ rows that differ

* `watching_app`: the half that only looks: the feed's sink, lookups, the paint timer.
* `app`: the whole application: what keys, palette and commands do.
* `key_map`, `deed_runner`: the keys and their help; the thread in which deeds are done.
* `page`, `pages/`: one class per screen; `pages/__init__` lists them by key.
* `scene`: what a page is given to paint: the view and what follows from it, computed once.
* `fixed_table`, `text_pane`, `ring_pane`, `header_line`: widgets that redraw only the lines that
  changed.
* `steady_text`, `wrapped_text`, `notice_line`: text from anywhere, made safe where it is drawn.
* `node_rows`, `operation_rows`, `node_detail`: a view's parts as cells and lines.
* `deeds`, `replica_deeds`, `command_line`: what can be done to the cluster, by key or command.
* `cluster_handle`, `cluster_reader`: what is done to a cluster, and what only one page shows and is
  looked up while it is shown; `local_cluster_handle`, `local_cluster_reader` do it, loaded late.
* `dialogs`, `partition_dialog`, `edit_dialog`: questions, help, planning a cut, writing a value;
  `held_text`: any text as an editor can hold it.
* `web`: the same in a browser of this machine.

It attaches to a running cluster and never owns it: it may be closed or killed at any moment.
Nothing headless imports this package; Textual alone takes longer to load than a `kvctl get` runs.
"""
