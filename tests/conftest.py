"""For all tests: ctrl-c reaches the processes they start.

A shell starts background jobs with SIGINT ignored, and whatever such a job starts inherits that:
nothing below it could be interrupted, which many tests do.
"""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
