"""No command takes a number or a name that it has not said it can take.

Every number in every Config carries an Interval of checks, every name is a Name, and what
lies outside ends in one line before any work: read from the types, so that a new flag is tested
from its first day.
"""

import math
from dataclasses import fields, replace
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from groundfloor import cli
from groundfloor.checks import Interval, PlainName
from groundfloor.errors import UserError
from tests import commands

BAD_NAMES = ("a\nb", "../../x", "a/b", "..", ".hidden", "-x", "a b", "a" * 101)


def leaves(hint, held=()):
    """[(type, constraints)] of all single values in a type."""
    if hasattr(hint, "__metadata__"):
        found = [m for m in hint.__metadata__ if isinstance(m, Interval | PlainName)]
        return leaves(hint.__origin__, (*held, *found))
    if get_origin(hint) is Literal:
        return []
    parts = [part for part in get_args(hint) if part is not Ellipsis]
    return [leaf for part in parts for leaf in leaves(part, held)] if parts else [(hint, held)]


def numbers(hint):
    """[Interval or None] of the int and float values in a type."""
    return [
        next((c for c in held if isinstance(c, Interval)), None)
        for kind, held in leaves(hint)
        if kind in (int, float)
    ]


def is_name(field):
    return field.name in ("name", "suffix")


def length(hint):
    """How many words a flag of this type takes: that of a tuple of fixed length, else 1."""
    for part in (hint, *get_args(hint)):
        if get_origin(part) is tuple and Ellipsis not in get_args(part):
            return len(get_args(part))
    return 1


def is_single(hint):
    """Whether a field holds one number, or none."""
    kinds = [kind for kind, _ in leaves(hint)]
    return set(kinds) <= {int, float, type(None)} and get_origin(hint) is not tuple


def outside(interval):
    """Numbers that it refuses, as words: the nearest to its ends, and what is no number."""
    ends = [interval.low, interval.low - 1, interval.high, interval.high + 1]
    tried = [math.nan, math.inf, -math.inf, 1e20, -1.0, *ends]
    words = {f"{value:.0f}" if value == value // 1 else f"{value}" for value in tried}
    return sorted(word for word in words if interval.fault(float(word)))


def inside(interval):
    """A number that it takes, as a word."""
    candidates = (1, 0, (interval.low + interval.high) / 2, interval.low, interval.high)
    return str(next(value for value in candidates if interval.fault(value) is None))


def refused(config_type, default, words, flag):
    """How a command line is taken, or None if it ends as it should: in one line with the flag."""
    try:
        cli.parse(config_type, default, words)
    except UserError as error:
        line = str(error)
        return None if flag in line and "\n" not in line else f"said: {line!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


def made(config, field, value):
    """The same where a program makes the Config: ValueError, in one line with the flag."""
    try:
        replace(config, **{field: value})
    except ValueError as error:
        return None if f"--{field.replace('_', '-')}" in str(error) else f"said: {error!r}"
    return "accepted"


@pytest.mark.parametrize("name", commands.NAMES)
def test_every_number_and_every_name_says_what_it_may_be(name):
    config_type, *_ = commands.opened(name)
    hints = get_type_hints(config_type, include_extras=True)
    bare = [f.name for f in fields(config_type) if None in numbers(hints[f.name])]
    free = [
        field.name
        for field in fields(config_type)
        if is_name(field)
        and not any(isinstance(c, PlainName) for _, held in leaves(hints[field.name]) for c in held)
    ]
    assert not bare and not free, (
        f"{name}: numbers without Interval {bare}, names that are no Name {free}"
    )


PARSED = set()  # (name, type) of fields whose flag was refused on a command line


@pytest.mark.parametrize("name", commands.NAMES)
def test_what_lies_outside_ends_in_one_line(name):
    """One bad value by the command line, where commands share a field in one of them alone; the
    others by the dataclass, which is faster."""
    config_type, default, needed = commands.opened(name)
    hints = get_type_hints(config_type, include_extras=True)
    config, wrong = default, []
    for field in fields(config_type):
        flag, hint = f"--{field.name.replace('_', '-')}", hints[field.name]
        intervals = [found or Interval() for found in numbers(hint)]
        lines, words, kind = [], [], str if is_name(field) else float
        if is_name(field):
            words = list(BAD_NAMES)
        elif length(hint) > 1:  # each place of a pair
            for place, interval in enumerate(intervals):
                good = [inside(each) for each in intervals]
                lines += [[*good[:place], bad, *good[place + 1 :]] for bad in outside(interval)]
        elif intervals and get_origin(hint) is dict:
            lines += [["key", bad] for bad in outside(intervals[0])]
        elif intervals:
            common = sorted(set.intersection(*(set(outside(each)) for each in intervals)))
            if is_single(hint):
                words = common
            else:
                lines += [[bad] for bad in common]
        if words and (field.name, repr(hint)) not in PARSED:
            PARSED.add((field.name, repr(hint)))
            lines.append([words.pop(0)])
        for bad in words:
            config = config or cli.parse(config_type, None, needed)
            fault = made(config, field.name, kind(bad))
            wrong += [f"{field.name}={bad!r}: {fault}"] if fault else []
        for words in lines:
            line = [*needed, f"{flag}={words[0]}"] if len(words) == 1 else [*needed, flag, *words]
            fault = refused(config_type, default, line, flag)
            if fault:
                wrong.append(f"{' '.join(line)}: {fault}")
    assert not wrong, f"{name}:\n" + "\n".join(wrong)


def test_all_commands_are_found():
    assert len(commands.NAMES) > 30
    assert {"functa_jax.tasks.__main__", "prune_torch.sweep", "optim_torch.train"} < {
        *commands.NAMES
    }
