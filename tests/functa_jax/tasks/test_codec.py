"""What is encoded is decoded, at the length that theory says; files, whole and damaged."""

import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from functa_jax.tasks.compression import codec
from groundfloor.errors import UserError

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
