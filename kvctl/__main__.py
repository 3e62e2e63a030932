"""`kvctl` and `python -m kvctl`."""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130
"""The exit code; `kvctl.errors` has it too, but may not be imported yet when it is needed."""


def occupy_standard_streams() -> None:
    """Give a standard stream that the caller closed a descriptor that refuses.

    Left free, its number would go to the next file or socket opened, and what is meant for stdout
    would be written there. Opened the wrong way round, /dev/null refuses to be read as stdin and to
    be written as stdout, so that neither is mistaken for an empty input or a delivered output.
    """
    for descriptor, name, flags in (
        (0, "stdin", os.O_WRONLY),
        (1, "stdout", os.O_RDONLY),
        (2, "stderr", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, flags)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            mode = "r" if name == "stdin" else "w"
            # As Python would have made it; a closed one it does not make at all.
            stream = os.fdopen(descriptor, mode, encoding="utf-8", errors="surrogateescape")
            setattr(sys, name, stream)


def main() -> None:
    """Entry point of the console script: run the command line and exit with its code."""
    occupy_standard_streams()
    try:
        from kvctl.cli.app import main as run

        code = run()
    except KeyboardInterrupt:  # pressed while modules were still being imported
        code = INTERRUPTED
    if code == INTERRUPTED:
        # CPython remembers that ctrl-c came while a string was evaluated (an annotation, say), even
        # if it was caught, and `python -m` would then die of the signal. The next one clears that.
        eval("0")
    sys.exit(code)


if __name__ == "__main__":
    main()
