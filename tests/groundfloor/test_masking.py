"""Masks: which weights stay."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundfloor.pytorch import masking


@given(
    values=st.lists(st.integers(-3, 3), min_size=1, max_size=40),
    share=st.floats(0, 1, allow_subnormal=False),
    cut=st.integers(0, 40),
)
def test_top_masks_are_a_stable_sort(values, share, cut):
    """Against Python's sort: larger scores first, equal ones in their order; many ties."""
    cut, count = min(cut, len(values)), round(share * len(values))
    scores = {"a": torch.tensor(values[:cut]).float(), "b": torch.tensor(values[cut:]).float()}
    masks = masking.top_masks(scores, count)
    found = torch.cat([masks["a"], masks["b"]]).nonzero().flatten().tolist()
    assert found == sorted(sorted(range(len(values)), key=lambda i: -values[i])[:count])


def test_infinite_scores_are_ordered():
    scores = {"a": torch.tensor([-torch.inf, 1.0, torch.inf, -2.0])}
    assert masking.top_masks(scores, 1)["a"].tolist() == [False, False, True, False]
    assert masking.top_masks(scores, 3)["a"].tolist() == [False, True, True, True]
    with pytest.raises(ValueError, match="cannot keep 5 of 4"):
        masking.top_masks(scores, 5)
