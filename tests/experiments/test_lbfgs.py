"""experiments.lbfgs: rows of one network, PCA beside them, and no fit done twice."""

import json

import pytest

from experiments import lbfgs
from functa_jax.functa import Functa
from functa_jax.model import siren
from groundfloor import cli
from groundfloor.data import datasets


@pytest.mark.slow
def test_more_iterations_are_closer_and_a_second_call_fits_nothing(tmp_path, monkeypatch, capsys):
    digits = datasets.load("digits")
    config = siren.ModelConfig(channels=1, width=8, depth=3, latent_dim=4, w0=5.0)
    about = {"data": "digits", "data_fingerprint": digits.fingerprint}
    functa = Functa(config, siren.init(config, 0), (8, 8), metadata=about)
    functa.save(tmp_path / "functa.npz")
    preset = lbfgs.Config(tmp_path / "functa.npz", (0, 3), 70, results=tmp_path)
    words = ["small", "--out", str(tmp_path / "run")]

    def run(*more):
        return cli.run(lbfgs.main, lbfgs.Config, {"small": preset}, [*words, *more])

    first = run()
    psnr = {row["lbfgs_steps"]: row["test_psnr"] for row in first["table"]}
    assert psnr[3] > psnr[0] == pytest.approx(functa.encode(digits.test.images[:70])[1].mean())
    assert first["images"] == 70 and first["pca_test_psnr"] > 10
    assert first["table"] == json.loads((tmp_path / "lbfgs_small.json").read_text())["table"]
    assert all(row["milliseconds"] > 0 for row in first["table"])
    monkeypatch.setattr(lbfgs, "measured", lambda *_: {0: 1.0, 3: 4.0})
    monkeypatch.setattr(Functa, "encode", None)
    second = run()["table"]
    assert {row["lbfgs_steps"]: row["test_psnr"] for row in second} == psnr
    assert [row["milliseconds"] for row in second] == [1, 4]
    with pytest.raises(SystemExit):
        run("--images", "60")
    assert "images" in capsys.readouterr().err
