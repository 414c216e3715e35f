"""Break-even of sparse products: the products are right, the densities exact, the line closed."""

import dataclasses
import json

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from groundfloor import cli
from groundfloor.errors import UserError
from prune_torch import breakeven
from tests.refusals import refusal

torch.set_num_threads(1)


def test_matrices_of_a_block():
    assert breakeven.matrices("vit_tiny_patch16_224") == {
        "qkv 576x192": (576, 192),
        "proj 192x192": (192, 192),
        "fc1 768x192": (768, 192),
        "fc2 192x768": (192, 768),
    }


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(0, 1, exclude_min=True),
    st.integers(0, 99),
)
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_every_product_is_that_of_its_own_dense_weight(n, out, width, density, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, dtype=torch.float64, generator=generator)
    weight = torch.randn(out, width, dtype=torch.float64, generator=generator)
    found = breakeven.products(weight, [density], generator)
    assert list(found) == [("dense", 1), ("csr", density), ("rows", density)]
    for product in found.values():
        torch.testing.assert_close(product(x), x @ product.weight.to_dense().T)
    dense, sparse, rows = (product.weight.to_dense() for product in found.values())
    assert torch.equal(dense, weight)
    assert sparse.count_nonzero() == found["csr", density].weight.values().numel()
    assert sparse.count_nonzero() == round(density * out * width)
    assert torch.equal(sparse, weight * (sparse != 0))
    assert torch.equal(rows, weight[: max(1, round(density * out))])


@given(
    st.lists(st.floats(0.01, 1), min_size=2, max_size=6, unique=True),
    st.floats(0, 2),
    st.floats(0.1, 9),
)
def test_break_even_of_a_time_linear_in_density_is_exact(densities, start, slope):
    ratios = [start + slope * density for density in densities]
    assume(all(abs(ratio - 1) > 1e-6 for ratio in ratios))
    found = breakeven.break_even(densities, ratios)
    if min(ratios) > 1:
        assert found is None
    elif max(ratios) <= 1:
        assert found == max(densities)
    else:
        assert found == pytest.approx((1 - start) / slope)


def test_break_even_trusts_no_density_above_the_first_slow_one():
    assert breakeven.break_even([0.4, 0.1, 0.2, 0.3], [0.5, 0.8, 1.2, 0.5]) == pytest.approx(0.15)
    assert breakeven.break_even([0.1, 0.2], [1.0, 2.0]) == 0.1
    assert breakeven.break_even([0.5], [0.9]) == 0.5


def test_advice_says_whether_zeros_help():
    rows = [{"density": d, "rows_speed": s} for d, s in [(0.5, 1.9), (0.1, 7.0), (0.1, 9.0)]]
    removed = "Rows removed: 7.0 to 9.0 times as fast at 0.1."
    assert breakeven.advice(rows, {"qkv": None, "fc1": None}) == (
        f"Zeros do not help here: CSR loses to dense even at density 0.1. {removed}"
    )
    assert breakeven.advice(rows, {"qkv": 0.123, "fc1": None}) == (
        f"Zeros help here only as CSR and below density: qkv 0.12, fc1 never. {removed}"
    )


def run(*args):
    small = ["--model", "test_vit", "--tokens", "3", "--threads", "1", "--rounds", "1"]
    return cli.run(breakeven.main, breakeven.Config, args=[*small, *args])


def test_the_command_prints_a_table_and_writes_all_numbers(tmp_path, capsys):
    results = run("--densities", "0.5", "0.1", "--json", str(tmp_path / "new" / "b.json"))
    table, *_, advice = capsys.readouterr().out.splitlines()
    assert table.startswith("test_vit, 3 tokens, threads: 1")
    assert advice.startswith("Zeros ")
    assert json.loads((tmp_path / "new" / "b.json").read_text()) == results
    assert [row["density"] for row in results["rows"]] == [0.5, 0.1] * 4
    assert {row["matrix"] for row in results["rows"]} == results["csr_break_even"].keys()
    assert all(number > 0 for row in results["rows"] for number in list(row.values())[1:])
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]


MISTAKES = [
    (["--model", "vit_tny"], "vit_tny"),
    (["--model", "resnet18"], "resnet18: no prunable parameters"),
    (["--densities", "0", "0.1"], "--densities 0.0: must be in (0, 1]"),
    (["--densities", "1.5"], "--densities 1.5: must be in (0, 1]"),
    (["--densities", "nan"], "--densities nan: must be a finite number"),
    (["--densities"], "--densities: needs at least one value"),
    (["--threads", "0"], "--threads"),
    (["--threads", "100000"], "--threads 100000: there are"),
    (["--json", "."], ". exists; choose another --json"),
    (["--tokens", "many"], "many"),
]


@pytest.mark.parametrize("args, message", MISTAKES)
def test_a_mistake_is_one_line(args, message, capsys):
    assert message in refusal(capsys, lambda: run(*args))


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    config = breakeven.Config(model="test_vit", densities=(1.0,), tokens=1, rounds=1)
    (tmp_path / "file").touch()
    config = dataclasses.replace(config, json=tmp_path / "file" / "b.json")
    with pytest.raises(UserError, match=f"cannot write {tmp_path}"):
        breakeven.main(config)
