"""Ctrl-C while a command still imports its libraries ends in one line, not in a traceback."""

import os
import sys


def quiet_imports():
    """Called first by each package's __init__; does nothing unless `python -m` is starting it.

    While `python -m package.command` imports the package, sys.argv[0] is "-m" (runpy).
    """
    if sys.argv[:1] == ["-m"]:
        sys.excepthook = _one_line


def _one_line(kind, error, traceback):
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    print("error: stopped before the work began", file=sys.stderr, flush=True)
    os._exit(130)
