"""checks: what a setting may be is said by its type and held for every leaf of its value."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundfloor import checks, cli
from groundfloor.errors import UserError


@dataclass(frozen=True)
class Config(checks.Settings):
    steps: checks.Count = 1
    rate: checks.Positive | None = 0.1
    rates: tuple[checks.NotNegative, ...] = (0.0,)
    pair: tuple[checks.Share, checks.Share] = (0.0, 1.0)
    none: tuple[checks.Count, ...] = ()
    seed: checks.Seed = 0
    name: checks.Name = ""
    flags: checks.Flags = "--x 'a b'"
    flag: bool = False


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"steps": 0}, "--steps 0: must be in [1, 2147483647]"),
        ({"rate": 0.0}, "--rate 0.0: must be above 0"),
        ({"rate": math.nan}, "--rate nan: must be a finite number"),
        ({"rates": (1.0, math.inf)}, "--rates inf: must be a finite number"),
        ({"rates": (1.0, -1.0)}, "--rates -1.0: must be at least 0"),
        ({"rates": ()}, "--rates: needs at least one value"),
        ({"pair": (0.0, 1.5)}, "--pair 1.5: must be in [0, 1]"),
        ({"seed": 10**20}, "--seed"),
        ({"name": "../x"}, "--name ../x: must be a plain name"),
        ({"name": "a/b"}, "--name a/b: must be a plain name"),
        ({"name": ".."}, "plain name"),
        ({"name": "a" * 101}, "too long"),
        ({"flags": "--x 'a"}, "--flags --x 'a: cannot be split into flags (No closing quotation)"),
    ],
)
def test_faults_name_flag_value_and_need(settings, message):
    with pytest.raises(ValueError) as refusal:
        Config(**settings)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@given(st.floats(), st.floats(), st.floats(), st.booleans(), st.booleans())
def test_an_interval_is_what_its_ends_say(value, low, high, without_low, without_high):
    interval = checks.Interval(low, high, without_low, without_high)
    inside = (
        math.isfinite(value)
        and (value > low if without_low else value >= low)
        and (value < high if without_high else value <= high)
    )
    assert (interval.fault(value) is None) == inside


def test_none_passes_and_the_command_line_reads_checked_types():
    assert Config(rate=None).rate is None
    read = cli.parse(Config, Config(), ["--rates", "1", "2", "--rate", "None", "--seed", "7"])
    assert read == Config(rates=(1.0, 2.0), rate=None, seed=7)
    with pytest.raises(UserError) as refusal:
        cli.parse(Config, Config(), ["--rates", "1", "nan"])
    assert str(refusal.value) == "--rates nan: must be a finite number"


def test_what_the_data_have_is_the_most():
    checks.refuse_beyond("batch_size", 4, 4, "too many")
    checks.refuse_beyond("images", None, 4, "too many")
    with pytest.raises(UserError, match="--batch-size 5: digits has only 4"):
        checks.refuse_beyond("batch_size", 5, 4, "digits has only 4")


def test_what_was_changed_and_does_nothing_is_said(capsys):
    @dataclass(frozen=True)
    class Settings:
        rate: float = 0.1
        batch_size: int = 8
        steps: int = 5

    rules = ((True, ("rate", "batch_size"), "with --steps 0"), (False, ("steps",), "never"))
    checks.say_idle(Settings(batch_size=4, steps=0), Settings(), rules)
    assert capsys.readouterr().out == "--batch-size has no effect with --steps 0\n"
