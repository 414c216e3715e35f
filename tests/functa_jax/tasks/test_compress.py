"""Compression: what is encoded is decoded, at the length that theory says; files; the command."""

import json
import math
import zlib
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from functa_jax import functa
from functa_jax.functaset import load_functaset
from functa_jax.model import siren
from functa_jax.tasks import compress, task
from functa_jax.tasks.compression import codec, rates
from functa_jax.training import exporter
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.errors import UserError
from tests import tfds
from tests.refusals import refusal

RANDOM = np.random.default_rng(0)
NAME, OTHER = "0123456789abcdef", "fedcba9876543210"

numbers = st.integers(1, 5)
values = st.floats(-100, 100, width=32)
trains = numbers.flatmap(
    lambda d: arrays(np.float32, st.tuples(st.integers(1, 20), st.just(d)), elements=values)
)


def gaussian(rows, spreads=(1.0, 0.3, 3.0)):
    return (RANDOM.normal(size=(rows, len(spreads))) * spreads + 1).astype(np.float32)


# ---- quantiser ----


@given(trains, st.integers(1, 9), st.integers(0, 99))
def test_train_numbers_are_within_half_a_step(train, bits, seed):
    weights = np.random.default_rng(seed).random(train.shape[1])
    coder = codec.fit(train, bits, weights)
    found = coder.dequantise(coder.quantise(train))
    error = np.abs(found.astype(np.float64) - train)
    several = coder.levels > 1
    scale = 1e-6 * (np.abs(train).max() + 1)
    assert (error[:, several] <= coder.step[several] / 2 * (1 + 1e-3) + scale).all()
    # One level: the mean stands for all.
    np.testing.assert_array_equal(found[:, ~several], coder.mean[~several] + 0 * found[:, ~several])


def test_the_number_that_moves_most_has_its_levels_and_all_move_pictures_alike():
    train, weights = gaussian(5000), np.array([1.0, 2.0, 0.5])
    for bits in (3, 5, 8):
        coder = codec.fit(train, bits, weights)
        np.testing.assert_allclose(coder.step * weights, coder.step[0] * weights[0], rtol=1e-6)
        moved = np.ptp(train, axis=0) * weights
        assert abs(coder.levels[moved.argmax()] - 2**bits) <= 1
        expected = np.ptp(train, axis=0) / coder.step + 1
        assert (np.abs(coder.levels - expected) <= 1).all()


def test_error_is_that_of_uniform_noise():
    train = gaussian(20_000)
    coder = codec.fit(train, 8, np.ones(3))
    error = coder.dequantise(coder.quantise(train)) - train
    np.testing.assert_allclose((error**2).mean(axis=0), coder.step**2 / 12, rtol=0.05)


def test_numbers_without_weight_cost_nothing():
    coder = codec.fit(gaussian(100), 6, np.array([1.0, 0.0, 1.0]))
    assert coder.levels[1] == 1
    nothing = codec.fit(gaussian(100), 6, np.zeros(3))
    assert nothing.encode(nothing.quantise(gaussian(50))) == b""


def test_values_out_of_range_are_clipped():
    coder = codec.fit(gaussian(100), 5, np.ones(3))
    far = np.array([[1e9] * 3, [-1e9] * 3], np.float32)
    np.testing.assert_array_equal(coder.quantise(far), [coder.levels - 1, 0 * coder.levels])


# ---- coder ----


@given(trains, st.integers(1, 9), st.integers(0, 40), st.integers(0, 99))
def test_decoding_undoes_encoding(train, bits, rows, seed):
    random = np.random.default_rng(seed)
    coder = codec.fit(train, bits, random.random(train.shape[1]))
    symbols = random.integers(0, coder.levels, (rows, len(coder.levels))).astype(np.int32)
    np.testing.assert_array_equal(coder.decode(coder.encode(symbols), rows), symbols)


@settings(max_examples=20)
@given(st.integers(2, 8), st.integers(1, 3000), st.integers(0, 99))
def test_length_is_the_cross_entropy(bits, rows, seed):
    coder = codec.fit(gaussian(2000), bits, np.ones(3))
    test = (np.random.default_rng(seed).normal(size=(rows, 3)) * [1, 0.3, 3] + 1).astype(np.float32)
    symbols = coder.quantise(test)
    expected = 0.0
    for table, column in zip(coder.frequencies, symbols.T, strict=True):
        expected += sum(math.log2(table.sum() / table[symbol]) for symbol in column) / 8
    assert coder.bits(symbols) / 8 == pytest.approx(expected)
    length = len(coder.encode(symbols))
    assert expected - 1 <= length <= 1.001 * expected + 8


def test_rate_is_close_to_the_entropy_of_the_quantised_normal():
    """At small steps a normal number of deviation s takes log2(s sqrt(2 pi e) / step) bits."""
    spreads = (1.0, 0.3, 3.0)
    coder = codec.fit(gaussian(50_000, spreads), 7, np.ones(3))
    rows = 20_000
    length = 8 * len(coder.encode(coder.quantise(gaussian(rows, spreads)))) / rows
    expected = np.log2(np.array(spreads) * np.sqrt(2 * np.pi * np.e) / coder.step).sum()
    assert length == pytest.approx(expected, rel=0.01)


@given(arrays(np.int64, st.integers(1, 50), elements=st.integers(0, 10**6)))
def test_frequencies_keep_proportions_and_none_is_zero(counts):
    found = codec._frequencies(counts)
    assert found.dtype == np.uint16 and found.min() >= 1
    share = (counts + 0.5) / (counts + 0.5).max()
    np.testing.assert_allclose(found / found.max(), share, atol=2 / found.max())


def test_frequencies_of_few_and_of_many():
    np.testing.assert_array_equal(codec._frequencies(np.array([0, 1, 3])), [1, 3, 7])
    np.testing.assert_array_equal(codec._frequencies(np.array([0, 10**6])), [1, 2**16 - 1])


# ---- files ----


@given(trains, st.integers(0, 20), st.integers(1, 8))
def test_a_file_gives_back_the_quantised_rows(tmp_path_factory, train, rows, bits):
    path = tmp_path_factory.mktemp("file") / "x"
    coder = codec.fit(train, bits, np.ones(train.shape[1]))
    wanted = np.resize(train, (rows, train.shape[1]))
    sizes = codec.write(path, NAME, coder, wanted)
    assert path.stat().st_size == sizes.fixed + sizes.payload
    found = codec.read(path, NAME)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, coder.dequantise(coder.quantise(wanted)))


@pytest.fixture(scope="module")
def packed():
    return codec.packed(NAME, codec.fit(gaussian(200), 5, np.ones(3)), gaussian(40))[0]


def complaint(path, data, name=NAME):
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        codec.read(path, name)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


@settings(max_examples=60)
@given(st.data())
def test_any_damaged_byte_is_noticed(tmp_path_factory, packed, data):
    place, change = data.draw(st.integers(0, len(packed) - 1)), data.draw(st.integers(1, 255))
    damaged = bytearray(packed)
    damaged[place] ^= change
    complaint(tmp_path_factory.mktemp("d") / "x", bytes(damaged))


@pytest.mark.parametrize("length", [0, 1, 4, 20, 32, 60, -5, -1])
def test_any_cut_file_is_noticed(length, packed, tmp_path):
    complaint(tmp_path / "x", packed[:length])


def with_check(body):
    return body + codec.CHECK.pack(zlib.crc32(body))


def test_files_of_others_are_named(packed, tmp_path):
    path = tmp_path / "x"
    assert NAME in complaint(path, packed, OTHER) and OTHER in complaint(path, packed, OTHER)
    assert "not a file of" in complaint(path, b"\x93NUMPY" + packed)
    newer = bytearray(packed[:-4])
    newer[4] += 1
    assert "version 2" in complaint(path, with_check(bytes(newer)))
    # A right check sum over wrong contents: tables that are none, or too few of them.
    header = codec.HEADER.size
    assert "damaged" in complaint(path, with_check(packed[:header] + b"?" * 50))
    fewer = codec.HEADER.pack(codec.MAGIC, 1, bytes.fromhex(NAME), 1, 9, len(packed), 0)
    assert "damaged" in complaint(path, with_check(fewer + packed[header:-4]))
    with pytest.raises(UserError, match="3 numbers a row, not 4"):
        codec.read(written(path, packed), NAME, 4)


def written(path, data):
    path.write_bytes(data)
    return path


def with_field(data, place, value):
    """A file with another number in its header, and a right check sum."""
    fields = list(codec.HEADER.unpack_from(data))
    fields[place] = value
    return with_check(codec.HEADER.pack(*fields) + data[codec.HEADER.size : -codec.CHECK.size])


def test_counts_that_ask_for_more_memory_than_there_is(packed, tmp_path):
    path = tmp_path / "x"
    assert "claims 4,294,967,295 rows" in complaint(path, with_field(packed, 3, 2**32 - 1))
    assert "no room for 1,000,000 rows" in complaint(path, with_field(packed, 3, 10**6))
    # Numbers of one level take no room at all: only the most that a file may hold bounds them.
    constant = codec.fit(np.ones((5, 3)), 4, np.ones(3))
    free = codec.packed(NAME, constant, np.ones((7, 3)))[0]
    assert codec.read(written(path, free), NAME).shape == (7, 3)
    assert "claims" in complaint(path, with_field(free, 3, codec.MOST_NUMBERS // 3 + 1))


def test_tables_that_unpack_without_end(packed, tmp_path):
    """A thousand times the file's size, and more than its numbers can have."""
    bomb = zlib.compress(bytes(2**24), 9)
    fields = list(codec.HEADER.unpack_from(packed))
    fields[4], fields[5], fields[6] = 1, len(bomb), 0
    body = codec.HEADER.pack(*fields) + bomb
    assert "damaged" in complaint(tmp_path / "x", with_check(body))


@pytest.mark.parametrize("field, value", [("mean", np.nan), ("step", np.inf)])
def test_tables_that_would_make_pictures_of_nothing(field, value, tmp_path):
    coder = codec.fit(gaussian(200), 5, np.ones(3))
    data = codec.packed(NAME, coder, gaussian(4))[0]
    getattr(coder, field)[1] = value
    tables = zlib.compress(codec._tables(coder), 9)
    fields = list(codec.HEADER.unpack_from(data))
    start = codec.HEADER.size + fields[5]
    fields[5] = len(tables)
    body = codec.HEADER.pack(*fields) + tables + data[start : -codec.CHECK.size]
    assert "not finite" in complaint(tmp_path / "x", with_check(body))


def test_what_could_not_be_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(codec, "MOST_NUMBERS", 30)
    coder = codec.fit(gaussian(200), 5, np.ones(3))
    codec.write(tmp_path / "x", NAME, coder, gaussian(10))
    assert codec.read(tmp_path / "x", NAME).shape == (10, 3)
    with pytest.raises(UserError, match="11 rows are too many for one file: at most 10"):
        codec.write(tmp_path / "y", NAME, coder, gaussian(11))


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        codec.read(tmp_path / "none", NAME)


# ---- rates ----


def pictures(n, side, channels):
    """Smooth colours and a little noise, uint8."""
    y, x = np.mgrid[:side, :side] / side
    phase = RANDOM.random((n, 1, 1, channels)) * 6
    waves = np.sin(5 * x[..., None] + 3 * y[..., None] + phase) * 100 + 128
    return (waves + RANDOM.normal(size=waves.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_headers_of_jpeg_are_the_same_in_all_files(channels):
    images = pictures(3, 16, channels)
    for quality in (10, 75):
        heads = set()
        for image in images:
            picture = Image.fromarray(image.squeeze())
            data = rates._saved(picture, "JPEG", quality=quality)
            length = rates.jpeg_scan_bytes(data)
            heads.add(data[: len(data) - length - 2])
            bare, whole, decoded = rates.one_file("JPEG", image, quality)
            assert bare == length > 0 and whole <= len(data) and decoded.shape == image.shape
        assert len(heads) == 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("method", rates.QUALITIES)
def test_more_quality_takes_more_bytes_and_gains_decibels(method, channels):
    curve = rates.standard(method, pictures(4, 16, channels), np.array([0, 2]))
    for name in ("bare", "whole", "psnr"):
        assert getattr(curve[0], name) < getattr(curve[-1], name)
    assert all(0 < point.bare < point.whole for point in curve)
    assert curve[-1].psnr > 25 and curve[0].pictures.shape == (2, 16, 16, channels)


def test_webp_header_is_what_two_files_share():
    images = [np.full((16, 16, 1), level, np.uint8) for level in (0, 255)]
    files = [
        rates._saved(Image.fromarray(i.squeeze()).convert("RGB"), "WEBP", quality=50)
        for i in images
    ]
    for data in files:
        assert data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8 "
        assert data[23:26] == b"\x9d\x01\x2a"  # start code of a key frame (RFC 6386, 9.1)
    assert files[0][23:30] == files[1][23:30]  # with 16 x 16 after it


def test_alpha_is_kept_whole_and_counted():
    images = pictures(3, 16, 4)
    images[0, ..., 3] = 255  # opaque: WebP then leaves alpha out
    images[1, :8, :, 3] = 0
    for number, image in enumerate(images):
        bare, whole, decoded = rates.one_file("WebP", image, 100)
        np.testing.assert_array_equal(decoded[..., 3], image[..., 3])  # WebP's alpha is lossless
        data = rates._saved(Image.fromarray(image), "WEBP", quality=100, method=6, exact=True)
        headers = 12 + 8 + 10 if number == 0 else 12 + 18 + 8 + 8 + 10  # with VP8X and ALPH
        assert bare == whole - headers == rates.webp_data_bytes(data)
        assert rates.mean_psnr(decoded[None], image[None]) > 25


def test_psnr_in_closed_form():
    images = np.zeros((2, 4, 4, 1), np.uint8)
    other = images.copy()
    other[0] += 51  # a fifth: 20 log10(5) dB
    floor = 10 * np.log10(12 * 255**2)
    assert rates.mean_psnr(other, images) == pytest.approx((20 * np.log10(5) + floor) / 2)


@given(st.integers(0, 10**6), st.integers(1, 500), st.integers(1, 500))
def test_from_how_many_images_on_a_network_pays(shared, ours, theirs):
    found = rates.pays_from(shared, ours, theirs)
    if theirs <= ours:
        assert found is None
    else:
        assert shared + found * ours < found * theirs
        assert shared + (found - 1) * ours >= (found - 1) * theirs


def test_bytes_between_points():
    curve = [rates.Point("", "", size, 10 * size, psnr, None) for size, psnr in ((9, 30), (5, 20))]
    assert rates.bytes_at(curve, 25, "bare") == 7 and rates.bytes_at(curve, 20, "whole") == 50
    assert rates.bytes_at(curve, 31, "bare") is rates.bytes_at(curve, 19, "bare") is None


# ---- with a functa ----


@pytest.fixture(scope="module", params=[None, 2], ids=["vectors", "grids"])
def run(request, tmp_path_factory):
    """A run folder of an untrained functa on a few digits, as meta_train leaves it."""
    folder = tmp_path_factory.mktemp("run")
    config = siren.ModelConfig(1, width=8, depth=3, latent_dim=4, w0=5.0, grid=request.param)
    params = jax.tree.map(np.asarray, siren.init(config, 0))
    model = functa.Functa(config, params, (8, 8), metadata={"data": "digits"})
    model.save(folder / "functa.npz")
    exporter.export(model, datasets.load("digits", images=40), folder / "functaset.npz")
    (folder / "config.json").write_text(json.dumps({"dataset": "digits", "images": 40}))
    return folder


def command(*args):
    return cli.run(compress.main, compress.Config, args=[str(arg) for arg in args])


@pytest.mark.slow
def test_weights_are_the_root_mean_square_of_the_jacobian(run):
    model = functa.load(run)
    latents = RANDOM.normal(size=(6, model.config.numbers)).astype(np.float32) * 1e-2
    found = compress.weights(model, latents)
    apply = siren.with_params(model.config, model.params)
    points = siren.points(model.config, (8, 8))
    shape = model.config.latent_shape
    jacobians = jax.vmap(jax.jacfwd(lambda z: apply(points, z.reshape(shape)).ravel()))(latents)
    expected = np.sqrt(np.mean(np.asarray(jacobians) ** 2, axis=(0, 1)))
    np.testing.assert_allclose(found, expected, rtol=1e-2)
    latents[:, 1] = 0.5
    assert compress.weights(model, latents)[1] == 0


def test_command_packs_and_unpacks(run, tmp_path, capsys):
    images = datasets.load("digits").test.images[:30]
    np.save(tmp_path / "images.npy", images[..., 0])
    flags = ("--bits", 8, "--steps", 3)
    files = [tmp_path / name for name in ("images.npy", "small.functa", "back.npy")]
    command("--run", run, "--pack", files[0], "--to", files[1], *flags)
    command("--run", run, "--unpack", files[1], "--to", files[2])
    said = capsys.readouterr().out
    found = np.load(files[2])
    model = functa.load(run)
    assert found.shape == images.shape and found.dtype == np.uint8
    train = load_functaset(run).train.latents.reshape(40, -1)
    coder = codec.fit(train, 8, compress.weights(model, train))
    symbols = coder.quantise(model.encode(images)[0].reshape(30, -1))
    expected = compress.rendered(model, coder.dequantise(symbols))
    np.testing.assert_array_equal(found, expected)
    assert f"30 images in {files[1].stat().st_size:,} bytes" in said
    assert f"{rates.mean_psnr(found, images):.2f} dB" in said


def test_an_encoded_file_belongs_to_its_functa(run, tmp_path):
    found = task.load(task.TaskConfig(run))
    path = tmp_path / "x"
    compress.encode_file(path, found, found.data.test.images[:5])
    assert compress.decode_file(path, found.functa).shape == (5, 8, 8, 1)
    moved = {**found.functa.params, "inner_rate": 2 * found.functa.params["inner_rate"]}
    with pytest.raises(UserError, match="was packed with functa"):
        compress.decode_file(path, replace(found.functa, params=moved))


def test_command_measures(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compress, "SHOWN", 2)
    monkeypatch.setattr(compress, "RENDERED", 8)
    monkeypatch.setattr(rates, "BITS", (2, 3, 4, 5))
    monkeypatch.setattr(rates, "QUALITIES", {"JPEG": (10, 90), "WebP": (10, 90)})
    command("--run", run, "--out", tmp_path, "--images", 12, "--steps", 4)
    report = json.loads((tmp_path / "compress.json").read_text())
    methods = list(dict.fromkeys(row["method"] for row in report["rows"]))
    count = report["numbers"]
    ours = ["latents, 3 steps", "latents, 4 steps"]
    pca = [f"PCA, {count} numbers", "PCA, 40 numbers"]  # as many as there are train images
    assert methods == [*ours, *pca, "JPEG", "WebP"]
    for row in report["rows"]:
        assert 0 < row["bits/pixel"] < row["bits/pixel, whole files"] and row["PSNR (dB)"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"compress.json", *report["figures"]}
    assert "The network weighs" in capsys.readouterr().out


def test_a_kind_of_file_that_cannot_hold_the_channels_is_left_out_and_said(
    tmp_path, monkeypatch, capsys
):
    images = pictures(60, 8, 4)
    data = tmp_path / "data"
    labels = np.arange(60) % 3
    splits = {"train": tfds.rows_of(images[:40], labels), "test": tfds.rows_of(images[40:], labels)}
    tfds.write_tfds(data, "rgba", splits, num_classes=3, shape=(8, 8, 4))
    config = siren.ModelConfig(channels=4, width=8, depth=3, latent_dim=4, w0=5.0)
    model = functa.Functa(config, siren.init(config, 0), (8, 8), metadata={"data": "rgba"})
    run = tmp_path / "run"
    run.mkdir()
    model.save(run / "functa.npz")
    exporter.export(model, datasets.load("rgba", data), run / "functaset.npz")
    (run / "config.json").write_text(json.dumps({"dataset": "rgba"}))
    monkeypatch.setattr(compress, "RENDERED", 8)
    command("--run", run, "--data-dir", data, "--steps", 3, "--bits", 7)
    report = json.loads((run / "tasks" / "compress.json").read_text())
    methods = {row["method"] for row in report["rows"]}
    assert "WebP" in methods and "JPEG" not in methods
    said = capsys.readouterr().out
    assert "No JPEG: such a file cannot hold 4 channels." in said
    assert "without effect here: --bits" in said
    assert "fitting 20 images with 3 steps, about" in said


# ---- refusals ----


@pytest.mark.parametrize(
    "flags",
    [
        *(("--images", 0), ("--steps", 0), ("--bits", 0), ("--bits", 15)),
        *(("--pack", "a.npy"), ("--to", "b"), ("--unpack", "a")),
        ("--pack", "a.npy", "--unpack", "b", "--to", "c"),
    ],
    ids=str,
)
def test_command_refuses_impossible_flags(flags, run, capsys):
    assert flags[0] in refusal(capsys, lambda: command("--run", run, *flags))


@pytest.mark.parametrize(
    "images",
    [np.zeros((3, 8, 8)), np.zeros((3, 9, 8), np.uint8), np.zeros((0, 8, 8), np.uint8), b"text"],
    ids=["floats", "size", "none", "text"],
)
def test_command_refuses_what_it_cannot_pack(images, run, capsys, tmp_path):
    path = tmp_path / "images.npy"
    if isinstance(images, bytes):
        path.write_bytes(images)
    else:
        np.save(path, images)
    flags = ("--pack", path, "--to", tmp_path / "out")
    refusal(capsys, lambda: command("--run", run, *flags))
    assert not (tmp_path / "out").exists()


def test_command_refuses_a_damaged_file(run, packed, capsys, tmp_path):
    (tmp_path / "x").write_bytes(packed[:-9])
    flags = ("--unpack", tmp_path / "x", "--to", tmp_path / "out.npy")
    assert "is damaged" in refusal(capsys, lambda: command("--run", run, *flags))
    assert not (tmp_path / "out.npy").exists()
