"""experiments.inner_steps compares what it says, and counts work as it should."""

import json
import shlex

import jax
import jax.numpy as jnp
import pytest

from experiments import inner_steps
from functa_jax import meta_train
from groundfloor import cli
from tests.refusals import refusal

TINY = (
    "--images 40 --width 8 --depth 3 --steps 4 --batch-size 4 --eval-every 2 --dispatch 2 "
    "--warmup 0"
)


@pytest.mark.parametrize("name", inner_steps.PRESETS)
def test_each_variant_is_a_setting_of_its_own(name):
    config = inner_steps.PRESETS[name]
    made = {
        variant: cli.parse(
            meta_train.Config,
            meta_train.PRESETS[config.preset],
            inner_steps.flags_of(config, variant),
        )
        for variant in config.variants
    }
    assert len(set(map(repr, made.values()))) == len(config.variants)
    assert not made["one rate"].rates_of_steps
    assert all(made[variant].rates_of_steps for variant in config.variants[1:])


def test_products_are_counted():
    """Also in scans, gradients and batches: a gradient in both factors has two more products."""
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
    assert inner_steps.product_flops(jnp.matmul, a, b) == 2 * 3 * 4 * 5

    def power(x):
        return jax.lax.scan(lambda c, _: (c @ x, None), x, length=7)[0]

    assert inner_steps.product_flops(jax.vmap(power), jnp.ones((2, 6, 6))) == 2 * 7 * 2 * 6**3
    both = jax.grad(lambda a, b: jnp.sum(jnp.sin(a @ b)), argnums=(0, 1))
    assert inner_steps.product_flops(jax.jit(both), a, b) == 3 * 2 * 3 * 4 * 5


@pytest.mark.slow
def test_work_is_counted():
    """Every conjugate gradient costs the same, and every inner step."""

    def work(flags):
        return inner_steps.flops("digits-spatial", shlex.split(flags))["fit_flops"]

    one, two, three = (
        work(f"--update gauss_newton --cg-iterations {n} --inner-steps 1") for n in (1, 2, 3)
    )
    assert three - two == two - one > 0
    assert work("--inner-steps 4") == 2 * work("--inner-steps 2") == 4 * work("--inner-steps 1")


@pytest.mark.slow
def test_runs_become_a_table(tmp_path, capsys):
    config = inner_steps.Config(
        preset="digits",
        flags=TINY,
        variants=("one rate", "Gauss-Newton, 1 CG"),
        seeds=(0, 1),
        out=tmp_path / "runs",
        results=tmp_path / "results",
    )
    inner_steps.main(config, "tiny")
    rows = json.loads((tmp_path / "results" / "inner_steps_tiny.json").read_text())["rows"]
    assert [row["variant"] for row in rows] == ["one rate", "Gauss-Newton, 1 CG"]
    assert rows[1]["outer_flops"] > rows[0]["outer_flops"] > rows[0]["fit_flops"] > 0
    assert (tmp_path / "results" / "inner_steps_tiny.png").is_file()
    assert f"{rows[0]['val_psnr']['mean']:.2f} ± " in capsys.readouterr().out


def test_an_unknown_variant_is_refused(capsys):
    def command():
        flags = ["digits", "--variants", "newton"]
        cli.run(inner_steps.main, inner_steps.Config, inner_steps.PRESETS, flags)

    assert "--variants newton: no such one" in refusal(capsys, command)
