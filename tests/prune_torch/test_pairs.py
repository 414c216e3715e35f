"""Differences from magnitude by pairs of seeds."""

import pytest
from scipy.stats import ttest_rel

from prune_torch.protocol.pairs import differences


def row(method, density, seed, top1, distil=0.0):
    return {"method": method, "density": density, "seed": seed, "top1": top1, "distil": distil}


def test_differences_are_those_of_the_same_seed():
    ours, theirs = [0.60, 0.70, 0.65], [0.62, 0.71, 0.69]
    rows = [row("magnitude", 0.5, seed, x) for seed, x in enumerate(ours)]
    rows += [row("l1", 0.5, seed, x) for seed, x in reversed(list(enumerate(theirs)))]
    rows += [row("l1", 0.5, 7, 0.1), row("pq-index", None, 0, 0.9)]  # without a partner
    (line,) = differences(rows)
    assert (line["method"], line["density"], line["seeds"]) == ("l1", 0.5, 3)
    assert line["difference"] == pytest.approx(100 * (sum(theirs) - sum(ours)) / 3)
    assert line["p"] == pytest.approx(ttest_rel(theirs, ours).pvalue)


def test_all_densities_together_have_one_difference_a_seed():
    rows = [row("magnitude", d, seed, 0.5) for d in (0.1, 0.9) for seed in (0, 1)]
    rows += [row("snip", d, seed, 0.5 + d / 10 + seed / 100) for d in (0.1, 0.9) for seed in (0, 1)]
    rows += [row("magnitude", 0.1, 0, 0.7, distil=0.5)]
    one, two, overall, taught = differences(rows)
    assert [one["density"], two["density"], overall["density"]] == [0.1, 0.9, "all"]
    assert (one["difference"], two["difference"]) == pytest.approx((1.5, 9.5))
    assert (overall["seeds"], overall["difference"]) == (2, pytest.approx(5.5))
    assert taught["method"] == "magnitude + KD 0.5" and taught["p"] is None
    assert taught["difference"] == pytest.approx(20)


def test_without_magnitude_there_is_nothing_to_compare():
    assert differences([row("snip", 0.5, 0, 0.4)]) == []
