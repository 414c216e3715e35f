"""Proximal maps against their optimality conditions, groupings against slow loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optim_torch import DessiLBI
from optim_torch.dessilbi import groups

torch.set_num_threads(1)

SHAPES = [(6,), (4, 3), (3, 2, 2), (2, 3, 2, 2), (2, 2, 1, 2, 3)]


def random(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slow_members(penalty, shape):
    """Index lists of the groups of one tensor, by counting."""
    index = torch.arange(math.prod(shape)).reshape(shape)
    if penalty == "l1":
        return [[i] for i in range(math.prod(shape))]
    if penalty == "layer":
        return [index.flatten().tolist()]
    axis = ("filter", "column").index(penalty)
    return [index.select(axis, i).flatten().tolist() for i in range(shape[axis])]


CASES = [
    (penalty, shape)
    for penalty in ("l1", "filter", "column", "layer")
    for shape in SHAPES
    if not (penalty == "column" and len(shape) < 2)
]


@pytest.mark.parametrize(("penalty", "shape"), CASES)
def test_named_penalties_equal_index_groups(penalty, shape):
    tensor, members = random(shape), slow_members(penalty, shape)
    ((_, named),) = groups.partition(penalty, [tensor])
    ((_, labels),) = groups.partition(members, [tensor])
    norms = torch.tensor([tensor.flatten()[m].norm() for m in members], dtype=torch.float64)
    for grouping in (named, labels):
        torch.testing.assert_close(grouping.norms([tensor]).flatten(), norms)
        assert grouping.sizes([tensor]).flatten().tolist() == [len(m) for m in members]
        (spread,) = grouping.spread(grouping.norms([tensor]), [tensor])
        for member, norm in zip(members, norms, strict=True):
            torch.testing.assert_close(spread.flatten()[member], norm.expand(len(member)))
        threshold = float(norms.median())
        (found,) = groups.proximal([grouping], [[tensor]], [threshold])[0][0]
        for member, norm in zip(members, norms, strict=True):
            expected = tensor.flatten()[member] * max(0.0, 1 - threshold / float(norm))
            torch.testing.assert_close(found.flatten()[member], expected, atol=1e-14, rtol=1e-13)


LAYOUTS = {  # shape -> tensors of that shape that lie differently in memory
    "channels_last": lambda: random((4, 3, 2, 2)).to(memory_format=torch.channels_last),
    "channels_last_3d": lambda: random((4, 3, 2, 2, 2)).to(memory_format=torch.channels_last_3d),
    "transposed": lambda: random((5, 4)).t(),
    "permuted": lambda: random((2, 5, 4)).permute(2, 0, 1),
    "every other": lambda: random((8, 6))[::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("penalty", ["l1", "filter", "column", "layer", "slices", "labels"])
def test_every_penalty_is_the_same_in_every_layout(penalty, layout):
    """Norms, proximal map and its inverse, and whole steps: as of contiguous memory."""
    tensor = LAYOUTS[layout]()
    plain = tensor.contiguous()
    assert not tensor.is_contiguous()
    half = (2, 2, tensor.numel() // 4)  # two groups, of quarters 0 and 2, and 1 and 3
    if penalty == "slices":
        penalty = {"slices": [(half, 1)]}
    elif penalty == "labels":
        penalty = list(torch.arange(tensor.numel()).reshape(half).transpose(0, 1).flatten(1))
    steps = []
    for weight in (tensor, plain):
        ((_, grouping),) = groups.partition(penalty, [weight])
        norms = grouping.norms([weight])
        (gamma,) = groups.proximal([grouping], [[weight]], [0.7 * float(norms.median())])[0][0]
        (back,) = groups.inverse_proximal(grouping, [gamma], 0.3, 2.0)
        parameter = torch.nn.Parameter(weight.clone(memory_format=torch.preserve_format))
        optimizer = DessiLBI([parameter], 0.1, nu=0.2, threshold=0.1, penalty=penalty)
        for _ in range(3):
            optimizer.zero_grad()
            parameter.square().sum().backward()
            optimizer.step()
        own = optimizer.state[parameter]
        stepped = [own[key] for key in ("v", "gamma", "entry")]
        optimizer.warm_start()
        steps.append((norms, gamma, back, parameter, *stepped, own["v"], own["gamma"]))
    for found, expected in zip(*steps, strict=True):
        assert found.abs().sum() > 0
        torch.testing.assert_close(found, expected)


@given(
    penalty=st.sampled_from(["l1", "filter", "column", "layer"]),
    threshold=st.floats(0, 3, allow_subnormal=False),
    seed=st.integers(0, 1000),
)
def test_proximal_map_is_optimal(penalty, threshold, seed):
    """0 lies in x - v + threshold * subgradient of the sum of norms at x."""
    v = random((4, 3, 2), seed)
    ((_, grouping),) = groups.partition(penalty, [v])
    (x,) = groups.proximal([grouping], [[v]], [threshold])[0][0]
    norms = grouping.norms([x])
    residual = v - x
    inside = grouping.norms([residual]) <= threshold + 1e-12
    assert inside[norms == 0].all()
    (norms,) = (t.expand(v.shape) for t in grouping.spread(norms, [v]))
    active = norms > 0
    expected = threshold * x[active] / norms[active]
    torch.testing.assert_close(residual[active], expected, atol=1e-12, rtol=1e-12)


@given(
    penalty=st.sampled_from(["l1", "filter", "column", "layer"]),
    threshold=st.floats(0, 3, allow_subnormal=False),
    kappa=st.floats(0.1, 10, allow_subnormal=False),
    seed=st.integers(0, 1000),
)
def test_inverse_proximal_gives_the_gamma_back(penalty, threshold, kappa, seed):
    gamma = random((4, 3, 2), seed)
    gamma[1] = 0
    ((_, grouping),) = groups.partition(penalty, [gamma])
    (v,) = groups.inverse_proximal(grouping, [gamma], threshold, kappa)
    (found,) = groups.proximal([grouping], [[v]], [threshold])[0][0]
    torch.testing.assert_close(kappa * found, gamma, atol=1e-12, rtol=1e-12)
    if penalty == "l1":
        torch.testing.assert_close(v, gamma / kappa + threshold * gamma.sign())


def test_zero_threshold_and_zero_norm_stay_finite():
    v = torch.zeros(3, 2)
    ((_, grouping),) = groups.partition("filter", [v])
    assert torch.equal(groups.proximal([grouping], [[v]], [0.0])[0][0][0], v)


def test_size_scaling_multiplies_by_the_root():
    v = random((4, 3, 2))
    ((_, grouping),) = groups.partition("filter", [v])
    assert groups.thresholds(grouping, [v], 2.0, True) == pytest.approx(2 * math.sqrt(6))
    ((_, labels),) = groups.partition([range(20), range(20, 24)], [v])
    found = groups.thresholds(labels, [v], 2.0, True)
    torch.testing.assert_close(found, 2 * torch.tensor([20.0, 4.0]).sqrt())


def test_coupled_slices_equal_index_groups_over_several_tensors():
    """Two heads of a joint q, k, v matrix (rows), its bias, and the projection (columns)."""
    qkv, bias, proj = random((12, 5), 1), random((12,), 2), random((7, 4), 3)
    slices = {"slices": [((3, 2, 2, 5), 1), ((3, 2, 2), 1), ((7, 2, 2), 1)]}
    numbers = torch.arange(60 + 12 + 28).split([60, 12, 28])
    members = [
        torch.cat(
            [
                numbers[0].reshape(3, 2, 2, 5)[:, head].flatten(),
                numbers[1].reshape(3, 2, 2)[:, head].flatten(),
                numbers[2].reshape(7, 2, 2)[:, head].flatten(),
            ]
        )
        for head in range(2)
    ]
    tensors = [qkv, bias, proj]
    ((positions, coupled),) = groups.partition(slices, tensors)
    ((_, labels),) = groups.partition(members, tensors)
    assert positions == (0, 1, 2)
    torch.testing.assert_close(coupled.norms(tensors), labels.norms(tensors))
    assert torch.equal(coupled.sizes(tensors), labels.sizes(tensors))
    threshold = float(coupled.norms(tensors).mean())
    for a, b in zip(
        groups.proximal([coupled], [tensors], [threshold])[0][0],
        groups.proximal([labels], [tensors], [threshold])[0][0],
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_auto_takes_filters_entries_and_leaves_the_rest():
    shapes = [(8, 3, 3, 3), (8,), (5, 8), (1, 1, 16), (1, 4, 16), (4, 2, 3), (2, 2, 3, 3, 3), ()]
    found = groups.partition("auto", [torch.zeros(shape) for shape in shapes])
    kinds = {positions[0]: type(grouping).__name__ for positions, grouping in found}
    assert kinds == {0: "Slices", 2: "Entries", 5: "Slices", 6: "Slices"}


@pytest.mark.parametrize(
    ("penalty", "shape", "words"),
    [
        ("lasso", (3, 2), "penalty must be one of"),
        ("column", (3,), "at least 2 dimensions"),
        ("filter", (), "at least 1 dimensions"),
        ([[0, 1], [1, 2]], (3,), "each of the 3 entries once"),
        ([[0, 1]], (3,), "each of the 3 entries once"),
        ([[0, 1, 5]], (3,), "each of the 3 entries once"),
        ([], (3,), "each of the 3 entries once"),
        ({"slices": []}, (3,), "0 views for 1 tensors"),
        ({"slices": [((2, 2), 0)]}, (3,), "does not fit shape"),
        ({"slices": [((3, 1), 2)]}, (3,), "does not fit shape"),
    ],
)
def test_penalties_that_do_not_fit_are_refused(penalty, shape, words):
    with pytest.raises(ValueError, match=words):
        groups.partition(penalty, [torch.zeros(shape)])


def test_complex_and_uncoupled_tensors_are_refused():
    with pytest.raises(ValueError, match="real parameters"):
        groups.partition("l1", [torch.zeros(2, 2, dtype=torch.complex64)])
    with pytest.raises(ValueError, match="different numbers of slices"):
        slices = {"slices": [((3, 2), 0), ((2, 3), 0)]}
        groups.partition(slices, [torch.zeros(3, 2), torch.zeros(2, 3)])
