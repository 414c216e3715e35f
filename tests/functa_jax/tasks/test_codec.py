"""What is encoded is decoded, at the length that theory says; bits weigh; files, whole or not."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functa_jax.tasks.compression import codec, context, transform
from groundfloor.errors import UserError
from tests.functa_jax.tasks.test_context import random_context

NAME, OTHER = "0123456789abcdef", "fedcba9876543210"
CELLS, NUMBERS, SIDE = 4, 3, 2  # grids of 4 x 4 cells of 3 numbers in 2 x 2 blocks
KEPT = 7  # of the 12 numbers of a block


def grids_of(n, seed=0):
    random = np.random.default_rng(seed)
    return (random.normal(size=(n, CELLS, CELLS, NUMBERS)) + 1).astype(np.float32)


def coder_of(seed=0, rate_weight=0.0, step=0.4):
    found = transform.fit(grids_of(200, seed), SIDE).first(KEPT)
    model = random_context(CELLS // SIDE, KEPT, seed)
    return codec.Codec(found, step, model, np.array([0.2, 0.1, 0.05]), rate_weight)


# ---- coder ----


@settings(max_examples=25)
@given(st.integers(0, 9), st.integers(0, 99), st.sampled_from([0.0, 0.2]), st.sampled_from([3, 99]))
def test_decoding_undoes_encoding(rows, seed, rate_weight, piece):
    coder = coder_of(seed, rate_weight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "PIECE", piece)
        symbols, means, scales = coder.choose(coder.transform.apply(30 * grids_of(rows, seed)))
        found = coder.decode(coder.encode(symbols, means, scales), rows)
    np.testing.assert_array_equal(found[0], symbols)
    np.testing.assert_array_equal(found[1], means)


def test_length_is_what_the_model_says():
    coder = coder_of()
    chosen = coder.choose(coder.transform.apply(grids_of(500)))
    leak = 2.0**-24  # that the coder leaves to each symbol
    share = np.exp2(-context.laplace_bits(*(part.astype(np.float64) for part in chosen)))
    expected = -np.log2(share * (1 - 2 * codec.LARGEST * leak) + leak).sum() / 8
    assert expected - 1 <= len(coder.encode(*chosen)) <= 1.002 * expected + 8


def test_without_weight_of_bits_symbols_are_rounded_and_far_ones_clipped():
    coder = coder_of()
    coordinates = coder.transform.apply(grids_of(20))
    symbols, *_ = coder.choose(coordinates)
    np.testing.assert_array_equal(symbols, np.rint(coordinates / coder.step))
    far, *_ = coder.choose(np.full_like(coordinates, -1e9))
    assert (far == -codec.LARGEST).all()


def test_the_finest_step_is_where_clipping_begins(capsys):
    coordinates = coder_of().transform.apply(grids_of(20))
    least = codec.finest(coordinates)
    for step, clipped in ((1.001 * least, False), (0.9 * least, True)):
        coder = coder_of(step=step)
        symbols, *_ = coder.choose(coordinates)
        assert np.array_equal(symbols, np.rint(coordinates / step)) != clipped
        codec.say_clipped(coder, coordinates, "latents")
        assert ("latents, step" in capsys.readouterr().out) == clipped


def test_of_the_nearest_the_next_and_zero_the_cheapest_is_taken():
    """Beside a slow search over these three, one image and symbol at a time."""
    coder = coder_of(rate_weight=0.3)
    wanted = coder.transform.apply(2 * grids_of(4)) / coder.step
    symbols, means, scales = coder.choose(wanted * coder.step)
    assert (np.abs(symbols) < np.abs(np.rint(wanted))).any()
    for place in np.ndindex(*wanted.shape):
        nearest = round(float(wanted[place]))
        costs = {}
        for k in (nearest, nearest - np.sign(nearest), 0):
            pull = coder.pulls[min(abs(k), 2)] * np.clip(means[place] - k, -1, 1)
            bits = context.laplace_bits(k, np.float64(means[place]), np.float64(scales[place]))
            costs[int(k)] = (wanted[place] - k - pull) ** 2 + coder.rate_weight * bits
        assert costs[symbols[place]] == pytest.approx(min(costs.values()), rel=1e-4)


def test_pulls_leave_the_least_squared_error():
    random = np.random.default_rng(0)
    wanted = random.laplace(size=2000) * 2
    symbols, means = np.rint(wanted * 0.9), random.normal(size=2000)
    pulls = codec._pulls(wanted, symbols, means)

    def error(pulls):
        pull = pulls[np.minimum(np.abs(symbols), 2).astype(int)]
        return np.sum((wanted - symbols - pull * np.clip(means - symbols, -1, 1)) ** 2)

    for size in range(3):
        for change in (-1e-2, 1e-2):
            assert error(pulls) < error(pulls + change * (np.arange(3) == size))


def test_a_fitted_codec_costs_less_the_coarser_it_is_and_errs_as_its_step_says():
    train, held, test = grids_of(300, 1), grids_of(60, 2), grids_of(100, 3)
    whole = transform.fit(train, SIDE)
    sizes = []
    for step in (0.5, 0.25):
        coder = codec.fit(whole, train, held, step, rate_weight=0.0, steps=0)
        chosen = coder.choose(coder.transform.apply(test))
        error = np.mean((coder.dequantise(*chosen[:2]) - test) ** 2)
        assert error == pytest.approx(step**2 / 12, rel=0.1)
        sizes.append(len(coder.encode(*chosen)))
    # One more bit for each of 48 numbers of 100 images.
    assert sizes[1] - sizes[0] == pytest.approx(48 * 100 / 8, rel=0.1)


def test_numbers_that_are_never_sent_are_left_out(monkeypatch):
    monkeypatch.setattr(codec, "MULTIPLE", 1)
    train = grids_of(100)
    train[..., 1] = 2.0
    coder = codec.fit(transform.fit(train, 1), train, train, 0.5, steps=0)
    assert coder.context.shape == (4, 4, 2)
    chosen = coder.choose(coder.transform.apply(train))
    np.testing.assert_allclose(coder.dequantise(*chosen[:2])[..., 1], 2.0, atol=1e-5)


# ---- files ----


def packed_file(rows=9, seed=0):
    coder = coder_of(seed)
    chosen = coder.choose(coder.transform.apply(grids_of(rows, seed)))
    data, sizes = codec.packed(NAME, coder, rows, coder.encode(*chosen))
    return data, sizes, coder.dequantise(*chosen[:2])


@settings(max_examples=10)
@given(st.integers(0, 9), st.integers(0, 99))
def test_a_file_gives_back_what_its_symbols_stand_for(tmp_path_factory, rows, seed):
    path = tmp_path_factory.mktemp("file") / "x"
    data, sizes, wanted = packed_file(rows, seed)
    assert len(data) == sizes.fixed + sizes.payload
    found = codec.read(written(path, data), NAME, wanted.shape[1:])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.fixture(scope="module")
def packed():
    return packed_file()[0]


def written(path, data):
    path.write_bytes(data)
    return path


def complaint(path, data, name=NAME):
    with pytest.raises(UserError) as caught:
        codec.read(written(path, data), name)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


@settings(max_examples=40)
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


def with_field(data, place, value):
    """A file with another number in its header, and a right check sum."""
    fields = list(codec.HEADERS[2].unpack_from(data))
    fields[place] = value
    return with_check(
        codec.HEADERS[2].pack(*fields) + data[codec.HEADERS[2].size : -codec.CHECK.size]
    )


def test_files_of_others_are_named(packed, tmp_path):
    path = tmp_path / "x"
    assert NAME in complaint(path, packed, OTHER) and OTHER in complaint(path, packed, OTHER)
    assert "not a file of" in complaint(path, b"\x93NUMPY" + packed)
    assert "version 1" in complaint(path, with_field(packed, 1, 1))
    with pytest.raises(UserError, match="its grids are"):
        codec.read(written(path, packed), NAME, (4, 4, 5))


@pytest.mark.parametrize("place", range(4, 11))
@pytest.mark.parametrize("value", [0, 1, 65535])
def test_sizes_that_do_not_fit_the_tables_are_damage(place, value, packed, tmp_path):
    assert "damaged" in complaint(tmp_path / "x", with_field(packed, place, value))


def test_counts_that_ask_for_more_memory_than_there_is(packed, tmp_path):
    path = tmp_path / "x"
    assert "claims 4,294,967,295 images" in complaint(path, with_field(packed, 3, 2**32 - 1))
    assert "no room for 1,000,000 images" in complaint(path, with_field(packed, 3, 10**6))


def test_a_payload_of_noise_is_damage_or_numbers(tmp_path):
    """Right tables and check sum over a payload that no coder wrote."""
    coder, noise = coder_of(), np.random.default_rng(0).bytes(400)
    path = written(tmp_path / "x", codec.packed(NAME, coder, 9, noise)[0])
    try:
        assert np.isfinite(codec.read(path, NAME)).all()
    except UserError as error:
        assert "damaged" in str(error)


def with_tables(data, tables):
    fields = list(codec.HEADERS[2].unpack_from(data))
    start = codec.HEADERS[2].size + fields[9]
    fields[9] = len(tables)
    return with_check(codec.HEADERS[2].pack(*fields) + tables + data[start : -codec.CHECK.size])


def test_tables_that_unpack_without_end(packed, tmp_path):
    """A thousand times the file's size, and more than its numbers can have."""
    bomb = zlib.compress(bytes(2**24), 9)
    assert "damaged" in complaint(tmp_path / "x", with_tables(packed, bomb))
    assert "damaged" in complaint(tmp_path / "x", with_tables(packed, b"?" * 50))


@pytest.mark.parametrize("field, value", [("step", np.inf), ("mean", np.nan)])
def test_tables_that_would_make_pictures_of_nothing(field, value, packed, tmp_path):
    coder = coder_of()
    if field == "step":
        coder = replace(coder, step=value)
    else:
        coder.transform.mean[0, 0, 0] = value
    tables = zlib.compress(codec._tables(coder), 9)
    assert f"{field} is not finite" in complaint(tmp_path / "x", with_tables(packed, tables))


def test_what_could_not_be_read_is_not_written(tmp_path, monkeypatch):
    coder = coder_of()
    chosen = coder.choose(coder.transform.apply(grids_of(3)))
    payload = coder.encode(*chosen)
    monkeypatch.setattr(codec, "MOST_NUMBERS", 3 * CELLS**2 * NUMBERS)
    codec.write(tmp_path / "x", NAME, coder, chosen[0], payload)
    assert codec.read(tmp_path / "x", NAME).shape == (3, CELLS, CELLS, NUMBERS)
    with pytest.raises(UserError, match="4 images are too many for one file: at most 3"):
        codec.write(tmp_path / "y", NAME, coder, np.resize(chosen[0], (4, 2, 2, KEPT)), payload)


def test_a_cell_of_more_numbers_than_16_bits_count(tmp_path):
    numbers, kept = 70_000, 3
    mean = np.linspace(0, 1, numbers, dtype=np.float32).reshape(1, 1, -1)
    inverse = np.zeros((kept, numbers), np.float32)
    inverse[:, -kept:] = np.eye(kept)
    turned = transform.Transform(mean, inverse.T, inverse, 1)
    coder = codec.Codec(turned, 0.5, random_context(1, kept, 0), np.zeros(3))
    grids = mean + np.zeros((2, 1, 1, 1), np.float32)
    grids[..., -kept:] += [[[[1.0, -2.0, 0.5]]], [[[0.0, 3.0, -7.5]]]]
    chosen = coder.choose(coder.transform.apply(grids))
    codec.write(tmp_path / "x", NAME, coder, chosen[0], coder.encode(*chosen))
    found = codec.read(tmp_path / "x", NAME, grids.shape[1:])
    np.testing.assert_allclose(found, grids, atol=1e-6)


def test_small_cells_have_the_short_header_and_another_version_is_damage(packed, tmp_path):
    assert packed[4] == 2
    assert "damaged" in complaint(tmp_path / "x", with_field(packed, 1, 3))


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        codec.read(tmp_path / "none", NAME)
