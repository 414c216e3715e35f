"""Ctrl-C while a command still imports its libraries ends in one line, not in a traceback."""

import os
import signal
import sys


def quiet_imports():
    """Called first by each package's __init__; does nothing unless `python -m` is starting it.

    While `python -m package.command` imports the package, sys.argv[0] is "-m" (runpy). A handler
    that raises nothing: libraries swallow exceptions in their imports. `cli.run` takes over.
    """
    if sys.argv[:1] == ["-m"]:
        signal.signal(signal.SIGINT, _end)


def _end(*_):
    print("error: stopped before the work began", file=sys.stderr, flush=True)
    os._exit(130)
