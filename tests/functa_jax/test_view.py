"""The viewer: its file, and what a real browser shows of it."""

import base64
import contextlib
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from functa_jax import view
from functa_jax.functaset import SPLITS, Functaset, Latents, load_functaset
from functa_jax.modalities import files
from functa_jax.model import siren
from functa_jax.model.config import ModelConfig
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.data.functions import lattice_points
from tests.browser import CHROMIUM, Browser, canvas
from tests.functa_jax.random_functa import RANDOM, functa_of, latents_of
from tests.refusals import refusal


@pytest.fixture(scope="module", params=["plain", "spatial"])
def run(request, tmp_path_factory):
    """A run folder: a functa of digits (untrained) and a functaset of random latents."""
    folder = tmp_path_factory.mktemp(request.param)
    config = ModelConfig(1, width=12, depth=4, latent_dim=6, w0=20.0, inner_rate=1.0)
    if request.param == "spatial":
        config = replace(config, grid=2, interpolation="bilinear", map_size=3, coordinates="local")
    functa = replace(functa_of(config, (8, 8)), metadata={"data": "digits"})
    functa.save(folder / "functa.npz")
    functaset_of(functa).save(folder / "functaset.npz")
    return folder, functa


def functaset_of(functa, n=60):
    """What an export would write, but with random latents, whose PSNR is bad and right."""
    data = datasets.load("digits")
    splits = {}
    for name in SPLITS:
        split, latents = getattr(data, name).take(slice(n)), latents_of(functa.config, n)
        errors = (functa.decode(latents) - split.images / 255) ** 2
        psnr = -10 * np.log10(errors.mean(axis=(1, 2, 3)), dtype=np.float32)
        splits[name] = Latents(latents, split.labels, split.ids, psnr)
    train = splits["train"].latents
    metadata = {
        "data": "digits",
        "data_fingerprint": data.fingerprint,
        "resolution": list(functa.resolution),
        "checkpoint": functa.hash,
    }
    return Functaset(**splits, mean=train.mean(0), std=train.std(0), metadata=metadata)


plain_only = pytest.mark.parametrize("run", ["plain"], indirect=True)


def command(*flags):
    return lambda: cli.run(view.main, view.Config, args=list(map(str, flags)))


def content(path):
    """The JSON data of a written page."""
    found = re.search(r'<script type="application/json" id="data">(.*)</script>', path.read_text())
    return json.loads(found[1])


def array(text, *shape, dtype="<f4"):
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


def test_the_file_holds_everything_and_names_nothing_outside(run, capsys):
    folder, functa = run
    command("--run", folder, "--images", 7)()
    assert "7 test images, with their originals" in capsys.readouterr().out
    page = (folder / "viewer.html").read_text()
    assert "{{" not in page and "default-src 'none'" in page
    assert re.findall(r"(?:src|href)=.(?!data:)", page) == []
    assert not re.search(r"https?:|\bimport\b|fetch\(|XMLHttpRequest|WebSocket", page)
    data, functaset = content(folder / "viewer.html"), load_functaset(folder)
    for name, value in siren.flatten(functa.params).items():
        np.testing.assert_array_equal(array(data["params"][name], *value.shape), value)
    shape = functa.config.latent_shape
    latents = array(data["latents"], 7, *shape)
    rows = [functaset.test.ids.tolist().index(number) for number in data["ids"]]
    assert len(set(rows)) == 7 and rows[0] == 0 and rows[-1] == 59
    np.testing.assert_array_equal(latents, functaset.test.latents[rows])
    np.testing.assert_array_equal(data["labels"], functaset.test.labels[rows])
    np.testing.assert_array_equal(array(data["mean"], *shape), functaset.mean)
    # Each original is that of its latent: together they have the PSNR that the export found.
    originals = array(data["originals"], 7, 8, 8, 1, dtype=np.uint8) / 255
    errors = ((functa.decode(latents) - originals) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(-10 * np.log10(errors), functaset.test.psnr[rows], atol=1e-3)


def test_directions_are_those_of_the_covariance():
    latents = RANDOM.normal(size=(200, 3, 2)) @ np.diag([1.0, 5.0]) + 3
    vectors, deviations, shares = view.directions(latents, 4)
    variances = np.linalg.eigvalsh(np.cov(latents.reshape(200, 6).T))[::-1][:4]
    np.testing.assert_allclose(deviations**2, variances, rtol=1e-4)
    np.testing.assert_allclose(
        shares, variances / latents.reshape(200, 6).var(0, ddof=1).sum(), 1e-4
    )
    np.testing.assert_allclose(view.directions(latents)[2].sum(), 1, rtol=1e-4)
    rows = vectors.reshape(4, 6)
    np.testing.assert_allclose(rows @ rows.T, np.eye(4), atol=1e-5)
    scores = latents.reshape(200, 6) @ rows.T
    np.testing.assert_allclose(scores.std(axis=0, ddof=1), deviations, rtol=1e-4)


def test_directions_without_any_spread_are_left_out():
    latents = np.zeros((50, 6), np.float32)
    latents[:, 1] = RANDOM.normal(size=50)
    vectors, *_ = view.directions(latents)
    np.testing.assert_allclose(np.abs(vectors), np.eye(6)[[1]], atol=1e-6)


@plain_only
def test_a_set_of_another_name_does_without_originals_and_cannot_break_the_page(run, tmp_path):
    folder, _ = run
    functaset = load_functaset(folder)
    odd = replace(functaset, metadata=functaset.metadata | {"data": "</script><b>&"})
    odd.save(tmp_path / "odd.npz")
    out = tmp_path / "odd.html"
    summary = command("--run", folder, "--functaset", tmp_path / "odd.npz", "--out", out)()
    data = content(out)
    assert summary == {"path": str(out), "images": len(data["ids"]), "originals": False}
    assert data["name"] == "</script><b>&" and data["originals"] is None
    assert "<b>" not in out.read_text()


def test_a_volume_is_shown_by_its_slices(tmp_path, capsys):
    lattice, values = (2, 3, 4), RANDOM.random((40, 24, 1)).astype(np.float32)
    np.savez(tmp_path / "own.npz", values=values, coords=lattice_points(*lattice))
    data = files.load(tmp_path / "own.npz")
    config = ModelConfig(1, width=8, depth=3, latent_dim=4, inputs=3, modality="functions")
    about = {"data": data.name, "data_fingerprint": data.fingerprint}
    functa = replace(functa_of(config, lattice), metadata=about, coords=lattice_points(*lattice))
    functa.save(tmp_path / "functa.npz")
    splits = {
        name: Latents(
            latents_of(config, len(getattr(data, name))),
            getattr(data, name).labels,
            getattr(data, name).ids,
            np.zeros(len(getattr(data, name)), np.float32),
        )
        for name in SPLITS
    }
    mean = splits["train"].latents.mean(0)
    Functaset(**splits, mean=mean, std=mean, metadata=about | {"checkpoint": functa.hash}).save(
        tmp_path / "functaset.npz"
    )
    command("--run", tmp_path)()
    assert "with their originals" in capsys.readouterr().out
    page = content(tmp_path / "viewer.html")
    assert page["resolution"] == [2, 3, 4] and page["config"]["loss"] == "squared"
    originals = array(page["originals"], len(page["ids"]), 24, 1, dtype=np.uint8)
    np.testing.assert_array_equal(originals, np.rint(255 * data.test.values))
    for resolution in (lattice, (4, 6)):  # the second as on a sphere: points of three dimensions
        turned = replace(functa, resolution=resolution, coords=lattice_points(*lattice)[::-1])
        turned.save(tmp_path / "functa.npz")
        *_, said = _error(capsys, command("--run", tmp_path))
        assert "slices of what lies on a lattice" in said


def _error(capsys, run):
    with pytest.raises(SystemExit):
        run()
    return capsys.readouterr().err.splitlines()


@plain_only
def test_other_images_are_not_taken_for_originals(run):
    folder, functa = run
    functaset = load_functaset(folder)
    other = replace(functaset, metadata=functaset.metadata | {"data_fingerprint": "another"})
    images, reason = view.originals(functa, folder, other, [0, 1])
    assert images is None and "digits is not what the functaset was made from" in reason


def test_values_beyond_black_and_white_are_no_originals(tmp_path):
    values = RANDOM.uniform(-0.4, 1.4, (40, 16, 1)).astype(np.float32)
    np.savez(tmp_path / "own.npz", values=values, coords=lattice_points(4, 4))
    data = files.load(tmp_path / "own.npz")
    about = {"data": data.name, "data_fingerprint": data.fingerprint}
    config = ModelConfig(1, width=8, depth=3, latent_dim=4, modality="functions")
    functa = replace(functa_of(config, (4, 4)), metadata=about, coords=lattice_points(4, 4))
    splits = {name: getattr(data, name) for name in SPLITS}
    latents = {
        name: Latents(latents_of(config, len(part)), part.labels, part.ids, np.zeros(len(part)))
        for name, part in splits.items()
    }
    functaset = Functaset(**latents, mean=np.zeros(4), std=np.ones(4), metadata=about)
    images, reason = view.originals(functa, tmp_path / "functa.npz", functaset, [0, 1])
    assert images is None and reason == "its values leave [0, 1]"


# ---- refusals ----


@plain_only
def test_what_cannot_be_shown_is_refused(run, tmp_path, capsys):
    folder, functa = run
    out = tmp_path / "viewer.html"

    def said(*flags):
        line = refusal(capsys, command(*flags, "--out", out))
        assert not out.exists()
        return line

    assert "does not exist" in said("--run", tmp_path)
    assert "--images 0: must be" in said("--run", folder, "--images", "0")
    functa.save(tmp_path / "functa.npz")
    assert f"no functaset at {tmp_path}" in said("--run", tmp_path)
    other = replace(functa, config=replace(functa.config, w0=9.0))
    other.save(tmp_path / "functa.npz")
    shutil.copy(folder / "functaset.npz", tmp_path)
    line = said("--run", tmp_path)
    assert functa.hash in line and other.hash in line and "export it again" in line
    functaset = load_functaset(folder)
    none = Latents(*(column[:0] for column in vars(functaset.test).values()))
    replace(functaset, test=none).save(tmp_path / "empty.npz")
    assert "no test images" in said("--run", folder, "--functaset", tmp_path / "empty.npz")
    config = ModelConfig(1, width=257, depth=2, latent_dim=1)
    functa_of(config).save(tmp_path / "functa.npz")
    assert "works up to width 256" in said("--run", tmp_path)


@plain_only
def test_a_place_that_cannot_be_written_is_refused(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "viewer.html"
    assert "cannot write" in refusal(
        capsys, command("--run", run[0], "--out", out, "--images", "1")
    )


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome is installed")
    with contextlib.closing(Browser()) as started:
        yield started


@pytest.mark.slow
def test_a_real_browser_shows_what_jax_decodes(run, browser, tmp_path):
    folder, functa = run
    out = tmp_path / "viewer.html"
    command("--run", folder, "--images", 5, "--out", out)()
    functaset, data = load_functaset(folder), content(out)
    latents = array(data["latents"], 5, *functa.config.latent_shape)
    browser.open(out)

    def colours(latent, *resolution):
        script = f"viewer.decode({latent.ravel().tolist()}, ...{list(resolution)}).then(Array.from)"
        return np.array(browser.ask(script)).reshape(*resolution, -1)

    for resolution in ((8, 8), (13, 30)):
        expected = functa.decode(latents[:1], resolution)[0]
        np.testing.assert_allclose(colours(latents[0], *resolution), expected, atol=1 / 255)

    def shown(latent, top=0.0, left=0.0, size=1.0):
        """The canvas shows this part of the image with this latent."""
        browser.settle()
        pixels = canvas(browser, "picture").astype(int)
        coords = np.asarray(siren.coordinate_grid(*pixels.shape[:2])) * size + [top, left]
        expected = functa.decode(latent[None], coords=coords)[0].clip(0, 1) * 255
        assert np.ptp(expected) > 3
        difference = pixels[..., :3].reshape(-1, 3) - np.rint(expected)
        assert np.abs(difference).max() <= 1

    browser.settle()
    small = canvas(browser, "picture")  # 8x8 images open as they are
    assert browser.ask("document.getElementById('native').checked")
    assert len(np.unique(small.reshape(-1, 4), axis=0)) <= 64
    browser.ask("document.getElementById('native').click()")
    shown(latents[0])
    assert "at 8 × 8" in browser.ask("document.getElementById('psnr').textContent")
    # What a vector has not is not seen, whatever the style sheet says of bars.
    hidden = (
        """["cell", "pager"].map((id) => getComputedStyle(document.getElementById(id)).display)"""
    )
    grid = bool(functa.config.grid)
    assert [display != "none" for display in browser.ask(hidden)] == [grid, False]
    rows = [functaset.test.ids.tolist().index(number) for number in data["ids"]]
    assert abs(browser.ask("viewer.psnr") - functaset.test.psnr[rows[0]]) < 1e-3
    truth = canvas(browser, "original")[..., 0]
    side = len(truth)
    centres = ((np.arange(8) + 0.5) * side / 8).astype(int)
    original = array(data["originals"], 5, 8, 8, dtype=np.uint8)[0]
    np.testing.assert_array_equal(truth[np.ix_(centres, centres)], original)

    browser.ask("document.getElementById('lines').click()")
    browser.settle()
    lined = canvas(browser, "original")[..., 0]
    assert (lined != truth).any() and canvas(browser, "overlay").any()  # lines on both sides
    browser.ask("document.getElementById('lines').click()")

    browser.ask("viewer.look(0.25, 0.4, 0.7)")
    shown(latents[0], 0.4 - 0.125, 0.7 - 0.125, 0.25)

    # The controls: an image for B, half way, a direction, a single number; then everything back.
    browser.ask("document.querySelector('[name=end][value=\"1\"]').click()")
    browser.ask("document.querySelectorAll('#gallery button')[3].click(); viewer.look(1, .5, .5)")
    slide = """((input, value) => {
      input.value = value;
      input.dispatchEvent(new Event("input"));
    })"""
    browser.ask(f"{slide}(document.getElementById('blend'), 0.5)")
    expected = (latents[0] + latents[3]) / 2
    shown(expected)
    browser.ask(f"{slide}(document.querySelectorAll('#directions input')[1], 2)")
    vectors, deviations, _ = view.directions(functaset.train.latents)
    expected = expected + 2 * deviations[1] * vectors[1]
    shown(expected)
    if functa.config.grid:
        browser.ask(f"{slide}(document.getElementById('column'), 2)")
        browser.ask("document.getElementById('column').dispatchEvent(new Event('change'))")
    value = float(functaset.mean[..., 2].max())
    browser.ask(f"{slide}(document.querySelectorAll('#numbers input')[2], {value})")
    expected[(0, 1, 2) if functa.config.grid else 2] = value
    found = np.array(browser.ask("Array.from(viewer.latent)")).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    shown(expected)
    browser.ask("document.getElementById('reset').click()")
    shown(latents[0])

    asked = [
        event["params"]["request"]["url"].split(":")[0]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert set(asked) <= {"file", "blob", "data"} and "file" in asked
    assert not [e for e in browser.events if e["method"] in ("Runtime.exceptionThrown",)]


def test_gestures_and_keys_move_the_view(run, browser, tmp_path):
    folder, functa = run
    out = tmp_path / "viewer.html"
    command("--run", folder, "--images", 2, "--out", out)()
    browser.open(out)
    box = browser.ask(
        "(({ left, top, width }) => [left, top, width])"
        "(document.getElementById('picture').getBoundingClientRect())"
    )
    left, top, side = box

    def view_now():
        state = browser.ask("viewer.state.view")
        return np.array([state["top"], state["left"], state["size"]])

    def mouse(kind, v, u, **more):
        x, y = left + u * side, top + v * side
        button = {} if kind == "mouseWheel" else {"button": "left", "clickCount": 1}
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button, **more)

    mouse("mouseWheel", 0.25, 0.75, deltaX=0, deltaY=-400)
    y, x, size = view_now()
    np.testing.assert_allclose(size, np.exp(-1), rtol=1e-3)
    np.testing.assert_allclose([y + 0.25 * size, x + 0.75 * size], [0.25, 0.75], atol=0.01)
    for kind, v, u in (("mousePressed", 0.5, 0.5), ("mouseMoved", 0.6, 0.3)):
        mouse(kind, v, u, buttons=1)
    mouse("mouseReleased", 0.6, 0.3)
    moved = view_now() - [y, x, size]
    np.testing.assert_allclose(moved, [-0.1 * size, 0.2 * size, 0], atol=0.01)

    mouse("mouseWheel", 0.5, 0.5, deltaX=0, deltaY=99999)
    np.testing.assert_array_equal(view_now(), [0, 0, 1])  # no farther out than the whole image
    browser.ask("document.getElementById('picture').focus()")
    for key, expected in (("+", [1 / 6, 1 / 6, 2 / 3]), ("ArrowDown", [0.25, 1 / 6, 2 / 3])):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key=key)
        np.testing.assert_allclose(view_now(), expected, atol=1e-6)
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="0")
    np.testing.assert_array_equal(view_now(), [0, 0, 1])

    for kind in ("mousePressed", "mouseReleased"):
        mouse(kind, 0.2, 0.8)
    assert browser.ask("viewer.state.cell") == (1 if functa.config.grid else 0)

    fingers = [[{"x": left + u * side, "y": top + side / 2, "id": i} for i, u in enumerate(us)]
               for us in ((0.4, 0.6), (0.3, 0.7))]  # fmt: skip
    for kind, points in zip(("touchStart", "touchMove"), fingers, strict=True):
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    np.testing.assert_allclose(view_now(), [0.25, 0.25, 0.5], atol=0.01)
