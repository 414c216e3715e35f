"""Pictures of a sweep: families, and differences to magnitude with their intervals."""

import numpy as np
import pytest
from scipy.stats import binomtest

from prune_torch.methods import METHODS
from prune_torch.protocol import families


def row(method, density, top1, seed=0, distil=0.0, images=100):
    hits = round(top1 * images)
    interval = binomtest(hits, images).proportion_ci(method="wilson")
    shares = {"top1": hits / images, "top1_low": interval.low, "top1_high": interval.high}
    return {"method": method, "density": density, "seed": seed, "distil": distil, **shares}


def test_the_interval_of_a_difference_is_that_of_newcombe():
    """56 of 70 against 48 of 80: 0.2 in [0.0524, 0.3339] (Newcombe 1998, table II a, method 10)."""
    ours, theirs = row("l1", 0.5, 56 / 70, images=70), row("magnitude", 0.5, 48 / 80, images=80)
    found = families.differences([ours], {(0.5, 0): theirs})
    np.testing.assert_allclose(found[0.5], [5.24, 20, 33.39], atol=0.006)
    other = families.differences([theirs], {(0.5, 0): ours})  # the other way round, all mirrored
    np.testing.assert_allclose(other[0.5], -np.array(found[0.5])[::-1])


def test_several_seeds_are_compared_in_pairs_and_what_has_no_partner_is_left_out():
    tops = {0: (0.6, 0.5), 1: (0.5, 0.42)}
    ours = [row("l1", 0.5, a, seed) for seed, (a, _) in tops.items()]
    theirs = {(0.5, seed): row("magnitude", 0.5, b, seed) for seed, (_, b) in tops.items()}
    more = [row("l1", 0.7, 0.9), row("l1", None, 0.9)]
    found = families.differences([*ours, *more], theirs)
    assert list(found) == [0.5]
    np.testing.assert_allclose(found[0.5], [9 - 2**0.5, 9, 9 + 2**0.5])


def test_every_method_has_a_panel_and_a_colour_of_its_own_in_it():
    rows = [row(method, 0.5, 0.5) for method in [*METHODS, "of tomorrow"]]
    panels = families.families(rows)
    shown = [name for own in panels.values() for name in own]
    assert sorted(shown) == sorted({*METHODS, "of tomorrow"} - {"magnitude", "unpruned"})
    assert list(panels)[-1] == "others" and list(panels["others"]) == ["of tomorrow"]
    for own in panels.values():
        assert len({style["color"] for _, style in own.values()}) == len(own)


@pytest.mark.parametrize("method", ["magnitude", "l1"])
def test_a_taught_line_is_dashed_in_its_methods_colour(method):
    panels = families.families([row(method, 0.5, 0.5), row(method, 0.5, 0.6, distil=0.5)])
    ((_, own),) = panels.items()
    assert own[f"{method} + KD 0.5"][1]["linestyle"] == "--"
    if method in own:
        assert own[method][1]["color"] == own[f"{method} + KD 0.5"][1]["color"]
