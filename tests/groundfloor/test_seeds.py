"""seeds: streams that depend on their whole path and on nothing else."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from groundfloor import seeds

SEEDS = st.integers(0, 2**31 - 1)


@given(SEEDS, SEEDS, SEEDS, SEEDS)
def test_no_two_seeds_or_steps_share_a_stream(seed, step, other_seed, other_step):
    same = (seed, step) == (other_seed, other_step)
    assert same == (seeds.fold(seed, "a", step) == seeds.fold(other_seed, "a", other_step))


@given(SEEDS, SEEDS)
def test_names_lead_to_other_streams_in_the_range_of_a_seed(seed, step):
    folded = [seeds.fold(seed, *path) for path in (("order", step), ("step", step), (step,), ())]
    assert len(set(folded)) == 4
    assert all(0 <= value < 2**63 for value in folded)


def test_old_collisions_are_gone():
    """1,000,003 seed + step met itself: seed 1, step 0 and seed 0, step 1,000,003."""
    assert seeds.fold(1, "step", 0) != seeds.fold(0, "step", 1_000_003)


def test_every_process_has_the_same_streams():
    command = "from groundfloor import seeds; print(seeds.fold(3, 'order', 5))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, check=True)
    assert int(done.stdout) == seeds.fold(3, "order", 5)
