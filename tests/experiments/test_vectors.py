"""experiments.vectors: each variant is what it says, and what is there is not made again."""

import json

import numpy as np
import pytest

from experiments import vectors
from functa_jax.evaluation import reconstruction
from groundfloor.errors import UserError

TINY = "--dataset digits --images 40 --latent-dim 8 --width 4 --depth 3 --steps 2 --batch-size 4"
DIFFERENT = {"refined PCA": (0, "refined_pca"), "through a step": (1, "refined_pca")}


@pytest.mark.parametrize("variant", vectors.VARIANTS)
def test_variants_have_as_many_numbers_images_and_steps(variant):
    config = vectors.settings(vectors.PRESETS["cifar10"], variant, 2)
    cells = (config.grid or 1) ** 2
    assert (config.latent_dim * cells, config.batch_size, config.steps) == (256, 8, 200)
    assert (config.update, config.seed) == ("gauss_newton", 2)
    trained_at = (config.training_steps, config.decoder)
    assert trained_at == DIFFERENT.get(variant, (None, "siren"))


@pytest.mark.slow
def test_the_table_has_pca_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    """Training itself is left out here."""
    made = []

    def trained(config, data, basis, val):
        made.append(config.seed)
        assert basis.components_.shape == (40, 64)
        psnr = [10.0 + config.seed] * 4
        return {"val_psnr_after_steps": psnr, "train_seconds": 1.0, "inner_steps": 2}

    monkeypatch.setattr(vectors, "trained", trained)
    folders = {"out": tmp_path / "runs", "results": tmp_path / "results"}
    for seeds in ((0,), (0, 1)):
        config = vectors.Config(preset="cifar10-vector-cpu", flags=TINY, seeds=seeds, **folders)
        vectors.main(config, "tiny")
    assert made == [0] * 3 + [1] * 3
    *rows, pca = json.loads((tmp_path / "results" / "vectors_tiny.json").read_text())["table"]
    assert [row["variant"] for row in rows] == list(vectors.VARIANTS)
    assert all(row["val_psnr"]["mean"] == 10.5 for row in rows)
    assert (tmp_path / "results" / "vectors_tiny.png").is_file()
    data = vectors.settings(config, "refined PCA", 0).load(images=40)
    model = reconstruction.pca(data.train.images, 8)
    np.testing.assert_allclose(
        pca["val_psnr"], reconstruction.pca_psnr(model, data.val.images), rtol=1e-5
    )
    assert f"{pca['val_psnr']:.2f} dB" in capsys.readouterr().out
    other = vectors.Config(preset="cifar10-vector-cpu", flags=f"{TINY} --w0 3", **folders)
    with pytest.raises(UserError, match="flags"):
        vectors.main(other, "tiny")
