"""Mirrored grids: cells and their neighbours, and a table whose rows are bounded by theory."""

import numpy as np

from experiments import mirrored_grids, runner


def test_neighbourhoods_hold_each_cell_in_their_middle_and_repeat_the_edge():
    latents = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    found = mirrored_grids.neighbourhoods(latents).reshape(2, 4, 4, 9, 3)
    assert np.array_equal(found[..., 4, :], latents)
    assert np.array_equal(found[:, 1:, 1:, 0], latents[:, :-1, :-1])
    assert np.array_equal(found[:, :, 3, 5], latents[:, :, 3])
    assert np.array_equal(found[:, 0, :, 1], latents[:, 0])


def test_encoded_latents_are_exact_and_a_map_errs_less_than_none(tmp_path):
    config = mirrored_grids.Config(
        functa=runner.RESULTS / "functa_digits-spatial.npz",
        dataset="digits",
        images=150,
        results=tmp_path,
    )
    untouched, one, neighbours, encoded = mirrored_grids.main(config)["table"]
    assert encoded["r2"] == 1.0
    assert untouched["r2"] < one["r2"] < 1 and neighbours["r2"] < 1
    assert untouched["test_psnr"] < one["test_psnr"] < encoded["test_psnr"]
