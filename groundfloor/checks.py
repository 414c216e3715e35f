"""What a setting may be, stated beside its type and checked in one place.

    @dataclass(frozen=True)
    class Config(checks.Settings):
        steps: Count = 3000
        rate: Positive | None = None
        rates: tuple[Positive, ...] = (0.1,)

`check`, which `Settings` calls, raises ValueError, "--steps 0: must be at least 1", which the
command line prints as it is. Numbers must be finite whatever else they must be. None passes where
the type has it, an empty tuple where it is the default.
"""

import math
import re
import shlex
from dataclasses import dataclass, fields
from pathlib import PurePath
from typing import Annotated, get_args, get_type_hints

from groundfloor.errors import UserError


@dataclass(frozen=True)
class Interval:
    """Finite numbers from `low` to `high`, ends included unless said otherwise."""

    low: float = -math.inf
    high: float = math.inf
    without_low: bool = False
    without_high: bool = False

    def fault(self, value):
        """What is wrong with a number, or None."""
        if not math.isfinite(value):
            return "must be a finite number"
        above = value > self.low if self.without_low else value >= self.low
        below = value < self.high if self.without_high else value <= self.high
        return None if above and below else f"must be {self._words()}"

    def _words(self):
        if math.isinf(self.high):
            return f"above {self.low:g}" if self.without_low else f"at least {self.low:g}"
        opening, closing = "[("[self.without_low], "])"[self.without_high]
        return f"in {opening}{self.low:g}, {self.high:.10g}{closing}"


class PlainName:
    """Text that may be part of a file's name: no folders, no surprises for a shell."""

    def fault(self, value):
        """What is wrong with a name, or None."""
        if not re.fullmatch(r"[\w.=+-]*", value) or value.startswith((".", "-")):
            return "must be a plain name: letters, digits and . _ = + - only, no . or - first"
        return "is too long for a file's name" if len(value) > 100 else None


class Words:
    """Text that a shell can split into words."""

    def fault(self, value):
        """What is wrong with it, or None."""
        try:
            shlex.split(value)
        except ValueError as error:
            return f"cannot be split into flags ({error})"
        return None


LARGEST = 2**31 - 1  # of whole numbers: what a 32-bit index can count

Count = Annotated[int, Interval(1, LARGEST)]
CountOrZero = Annotated[int, Interval(0, LARGEST)]
AtLeastTwo = Annotated[int, Interval(2, LARGEST)]
Seed = Annotated[int, Interval(0, LARGEST)]
Finite = Annotated[float, Interval()]
Positive = Annotated[float, Interval(0, without_low=True)]
NotNegative = Annotated[float, Interval(0)]
Share = Annotated[float, Interval(0, 1)]  # both ends are possible
PositiveShare = Annotated[float, Interval(0, 1, without_low=True)]
ShareBelowOne = Annotated[float, Interval(0, 1, without_high=True)]
InnerShare = Annotated[float, Interval(0, 1, without_low=True, without_high=True)]
Name = Annotated[str, PlainName()]
Flags = Annotated[str, Words()]  # of another command, as one string


@dataclass(frozen=True)
class Settings:
    """A command's settings, or a part of them that a Config inherits together with other parts.

    One with rules of its own extends `__post_init__`, calling super's first.
    """

    def __post_init__(self):
        check(self)


def check(config):
    """Hold all fields of a dataclass against their constraints; ValueError at the first fault."""
    hints = get_type_hints(type(config), include_extras=True)
    for field in fields(config):
        held, whole = constraints(hints[field.name]), getattr(config, field.name)
        if held and whole == () != field.default:
            raise ValueError(f"{_flag(field.name)}: needs at least one value")
        for constraint in held:
            for value in _leaves(whole):
                fault = constraint.fault(value)
                require(fault is None, field.name, value, fault)


def constraints(hint):
    """All constraints in a type, however deep: of the type itself, of its union, of its items."""
    own = [m for m in getattr(hint, "__metadata__", ()) if hasattr(m, "fault")]
    return own + [inner for part in get_args(hint) for inner in constraints(part)]


def _leaves(value):
    if isinstance(value, tuple | list | set):
        return [leaf for item in value for leaf in _leaves(item)]
    if isinstance(value, dict):
        return _leaves(list(value.values()))
    return [] if value is None or isinstance(value, bool | PurePath) else [value]


def require(good, field, value, why):
    """ValueError "--field value: why" unless `good`: for what one field's type cannot say."""
    if not good:
        raise ValueError(f"{_flag(field)} {_shown(value)}: {why}")


def refuse_beyond(field, value, most, what):
    """UserError unless a number is at most what the data have: "--batch-size 500: digits has only
    360 train images"."""
    if value is not None and value > most:
        raise UserError(f"{_flag(field)} {value}: {what}")


def _flag(field):
    return f"--{field.replace('_', '-')}"


def say_idle(config, usual, rules):
    """Print one line for every field that was changed from `usual` and has no effect.

    rules: triples of a condition, the fields that do nothing where it holds, and why: "with ...".
    """
    for idle, names, why in rules:
        for name in names:
            if idle and getattr(config, name) != getattr(usual, name):
                print(f"--{name.replace('_', '-')} has no effect {why}", flush=True)


def _shown(value):
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else value
