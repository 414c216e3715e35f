"""Command lines: `python -m package.command [preset] [--flag value ...]`.

A command is one frozen dataclass and a dict of presets (instances of it); tyro makes the flags.
Whatever the user got wrong ends in one line on stderr and exit code 2.
"""

import contextlib
import difflib
import inspect
import io
import os
import re
import signal
import sys
from dataclasses import MISSING, fields, make_dataclass
from functools import cache
from typing import Annotated, get_type_hints

import docstring_parser  # which tyro requires
import tyro

from groundfloor.errors import UserError
from groundfloor.runs import Stopping


class Given:
    """The words of the command that runs now, after its preset; none between commands."""

    words = ()


def run(main, config_type, presets=None, args=None):
    """Parse `args` (default: sys.argv) and call main(config) or main(config, preset name).

    presets: dict of name -> config, the first being the default; None for a command without
    presets, whose config_type then holds the defaults.
    """
    as_program = args is None
    Stopping.kept, Stopping.asked = None, False  # of an earlier command of this process
    args = sys.argv[1:] if as_program else list(args)
    for stream in (sys.stdout, sys.stderr):  # a Γ in a help text must not end a job
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if as_program:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        if presets is None:
            Given.words = tuple(args)
            return main(parse(config_type, None, args))
        name = args.pop(0) if args and not args[0].startswith("-") else next(iter(presets))
        if name not in presets:
            near = difflib.get_close_matches(name, presets, 1)
            hint = f"did you mean {near[0]}?" if near else f"presets: {', '.join(presets)}"
            raise UserError(f"unknown preset {name!r}; {hint}")
        Given.words = tuple(args)
        return main(parse(config_type, presets[name], args, presets), name)
    except UserError as error:
        fail(error)
    except PermissionError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else error)
    except KeyboardInterrupt:
        _stop(as_program)
    except BrokenPipeError:  # whoever read our output has gone: `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception:
        if not Stopping.asked:
            raise
        _stop(as_program)  # XLA turns the KeyboardInterrupt of a callback into an error of its own
    finally:
        Given.words = ()


GRACE = 5  # seconds


def _interrupt(*_):
    """Ctrl-C raises KeyboardInterrupt as ever, but ends the command also where a library swallows
    it, as some do while they are imported."""
    Stopping.asked = True
    sys.unraisablehook = lambda _: None  # raised in a callback of the collector, it is printed
    if hasattr(signal, "alarm"):  # not on Windows
        signal.signal(signal.SIGALRM, lambda *_: _stop(as_program=True))
        signal.alarm(GRACE)
    raise KeyboardInterrupt


def _stop(as_program):
    """Ctrl-C: one line that says what is kept, exit code 130."""
    kept = Stopping.kept
    left = f"the same command goes on from {kept}" if kept else "nothing was kept yet"
    try:
        fail(f"stopped; {left}", code=130)
    finally:
        if as_program:  # threads of XLA may still compute, and Python's own end would crash in them
            sys.stdout.flush()
            os._exit(130)


def fail(message, code=2):
    """One line on stderr, then exit."""
    line = " ".join(str(message).splitlines())  # a file's name may hold a line break
    print(f"error: {line}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def parse(config_type, default, args, presets=()):
    """The dataclass `config_type` from flags; `default` (an instance) fills in what is not given.

    Raises UserError in one line for unknown flags and values of the wrong type.
    """
    program = sys.modules.get("__main__")
    options = {
        "args": args,
        "description": (getattr(program, "__doc__", "") or "").strip(),
        "config": (tyro.conf.OmitArgPrefixes,),
        "prog": _name(program) + (f" [{'|'.join(presets)}]" if presets else ""),
    }
    whole, usual = _groups(config_type, default)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            groups = tyro.cli(whole, default=usual, **options)
        settings = {}
        for group in vars(groups).values():
            settings |= vars(group)
        return config_type(**settings)
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        raise UserError(_one_line(complaint.getvalue())) from None
    except ValueError as error:  # a dataclass refused its values
        raise UserError(str(error)) from None


def _groups(config_type, default):
    """(dataclass with a nested one for each class that defines fields of `config_type`, instance of
    it that holds the defaults): --help has a box for each nested dataclass."""
    usual = {field.name: _usual(field) for field in fields(config_type)}
    usual |= vars(default) if default is not None else {}
    whole, boxes = _boxes(config_type)
    groups = {
        title: box(**{field.name: usual[field.name] for field in fields(box)})
        for title, box in boxes.items()
    }
    return whole, whole(**groups)


@cache  # tyro reads the source of each new type
def _boxes(config_type):
    """(dataclass of all boxes, {title: dataclass of one}) of a Config."""
    names = [field.name for field in fields(config_type)]
    hints = get_type_hints(config_type, include_extras=True)
    owner = {}
    for kind in reversed(config_type.__mro__[:-1]):
        owner |= dict.fromkeys(vars(kind).get("__annotations__", ()), kind)
        for field in _described(kind):
            text = " ".join(field.description.split())  # tyro keeps the breaks of the source
            hints[field.arg_name] = Annotated[hints[field.arg_name], tyro.conf.arg(help=text)]
    titled = {}  # classes of one title share a box
    for kind in reversed(config_type.__mro__):
        title = kind.__name__.removesuffix("Config").lower() or "command"
        own = [name for name in names if owner[name] is kind]
        if own:
            titled[title] = (kind, titled.get(title, (kind, []))[1] + own)
    boxes = {
        title: make_dataclass(kind.__name__, [(name, hints[name]) for name in held])
        for title, (kind, held) in titled.items()
    }
    texts = {title: inspect.cleandoc(kind.__doc__ or "") for title, (kind, _) in titled.items()}
    described = [
        (title, Annotated[box, tyro.conf.arg(help=texts[title])]) for title, box in boxes.items()
    ]
    return make_dataclass("Groups", described), boxes


def _described(kind):
    """The fields that a class describes; none where its source is not at hand (a notebook's)."""
    try:
        return docstring_parser.parse_from_object(kind).params
    except (OSError, TypeError):
        return []


def _usual(field):
    """The default of a dataclass field; tyro.MISSING if there is none."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return tyro.MISSING if field.default is MISSING else field.default


def _name(program):
    spec = getattr(program, "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else sys.argv[0]


def _one_line(complaint):
    """tyro's framed message as one line: no frame, no title, and one suggestion at most."""
    text = re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]|-{5,}", " ", complaint)  # also ASCII frames
    lines = [line.strip() for line in text.splitlines() if line.strip()][1:]
    message = re.split(r"Argument helptext:|For full helptext", " ".join(lines))[0].strip()
    message = re.sub(r"^Error parsing \w+: ", "", message)  # of a Config that refused its values
    message, *hint = message.split("Perhaps you meant:")
    if hint:
        message = f"{message.strip()}; did you mean {hint[0].split()[0]}?"
    return re.sub(r"\s+", " ", message).strip() or "the command line could not be read"
