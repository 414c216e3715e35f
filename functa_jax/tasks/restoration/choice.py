"""Which setting restores validation images best."""

from typing import NamedTuple

import numpy as np

from groundfloor.errors import UserError
from groundfloor.tables import cell

WIDER = 2.0  # how far beyond the ends of a list the next candidate lies
WIDENED = 4  # times


class Choice(NamedTuple):
    """A candidate, its measure, and whether it lies at an end of all that were tried."""

    value: float
    measure: float
    last: bool

    def said(self, name):
        """{name: the candidate as text}; that it lies at an end is said."""
        return {name: cell(self.value) + " (the last tried)" * self.last}


def best(candidates, measure, wider=None):
    """The Choice of the candidate that measures most in dB; thousandths and less decide nothing.

    wider: where the first or last candidate is the best, one `wider` times further is tried too, up
    to WIDENED times. Candidates whose measure is not finite are out; UserError if all are.
    """
    measured, left = {value: measure(value) for value in candidates}, WIDENED if wider else 0
    while True:
        finite = {value: dB for value, dB in measured.items() if np.isfinite(dB)}
        if not finite:
            raise UserError("no setting gives finite pictures of the validation images")
        value = max(finite, key=lambda value: round(finite[value], 2))
        low, high = min(measured), max(measured)
        last = low < high and value in (low, high)
        if not (last and left):
            return Choice(value, finite[value], last)
        further = value / wider if value == low else value * wider
        measured[further] = measure(further)
        left -= 1
