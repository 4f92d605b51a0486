"""Signals as a terminal would give them: a background job starts with SIGINT ignored, nohup with SIGHUP, and the
programs under test would inherit that.
"""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
