"""Packed files: every bit comes back, no tensor grows, and damage never goes unnoticed."""

import errno
import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from groundfloor import cli
from groundfloor.errors import UserError
from prune_torch import pack
from prune_torch.network import stored
from tests.refusals import refusal

DTYPES = """float64 float32 float16 bfloat16 bool int64 int32 int16 int8 uint8 uint16 uint32
uint64 complex64 float8_e4m3fn float8_e5m2"""
SHAPES = [(), (0,), (3, 0, 2), (1,), (7,), (8, 8), (3, 5, 7), (2, 3, 4, 5), (129, 33)]


def random(dtype, shape, density, seed=0):
    """Random bits, NaNs of every kind among them; a share of about 1 - density has no bit set."""
    generator = np.random.default_rng(seed)
    bits = generator.integers(0, 256, (int(np.prod(shape)), dtype.itemsize), np.uint8)
    bits[generator.random(len(bits)) >= density] = 0
    if dtype == torch.bool:
        bits %= 2
    return torch.from_numpy(bits.view(f"i{dtype.itemsize}")).view(dtype).reshape(shape)


def assert_same_bits(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        ours, theirs = (t.contiguous().flatten().view(torch.uint8) for t in (found[name], tensor))
        assert torch.equal(ours, theirs), name


tensors = st.builds(
    random,
    st.sampled_from([getattr(torch, name) for name in DTYPES.split()]),
    st.sampled_from(SHAPES),
    st.sampled_from([0.0, 0.05, 0.3, 0.8, 0.9, 0.97, 1.0]),
    st.integers(0, 99),
)


@settings(max_examples=25)
@given(st.dictionaries(st.text(max_size=9), tensors, max_size=5))
def test_every_bit_comes_back_and_no_tensor_grows(state_dict):
    with TemporaryDirectory() as folder:
        path, ordinary = Path(folder, "packed.safetensors"), Path(folder, "ordinary.safetensors")
        pack.save(state_dict, path)
        assert_same_bits(pack.load(path), state_dict)
        save_file({f"dense/{name}": tensor for name, tensor in state_dict.items()}, ordinary)
        layout = json.dumps(dict.fromkeys(state_dict), ensure_ascii=False)
        header = len(json.dumps(layout, ensure_ascii=False).encode()) + 200
        assert path.stat().st_size <= ordinary.stat().st_size + 2 * header
    parts, _ = pack.pack(state_dict)
    dense = sum(tensor.nbytes for tensor in state_dict.values())
    assert sum(tensor.nbytes for tensor in parts.values()) <= dense


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("side", [-0.01, 0.01])
def test_breaks_even_at_density_one_minus_one_over_bits(dtype, side, tmp_path):
    n, bits = 80_000, 8 * dtype.itemsize
    nonzeros = round(n * (1 - 1 / bits + side))
    weight = torch.zeros(n, dtype=dtype)
    weight[torch.randperm(n)[:nonzeros]] = 1
    pack.save({"w": weight.view(200, 400)}, tmp_path / "w")
    size = (tmp_path / "w").stat().st_size
    if side < 0:
        assert 0 <= size - (n / 8 + nonzeros * dtype.itemsize) < 500
        assert size < weight.nbytes
    else:
        assert 0 <= size - weight.nbytes < 500


def test_negative_zeros_and_payloads_of_nan_are_values(tmp_path):
    bits = torch.zeros(400, dtype=torch.int32)
    bits[:4] = torch.tensor([-(2**31), 0x7FC00001, 0x7F800001, 1])  # -0.0, two NaNs, a subnormal
    parts, _ = pack.pack({"w": bits.view(torch.float32)})
    assert parts["values/w"].view(torch.int32).tolist() == bits[:4].tolist()
    pack.save({"w": bits.view(torch.float32)}, tmp_path / "w")
    assert torch.equal(pack.load(tmp_path / "w")["w"].view(torch.int32), bits)


def test_tied_tensors_views_and_parameters_come_back(tmp_path):
    weight = torch.nn.Parameter(random(torch.float32, (40, 30), 0.2))
    state_dict = {
        "a": weight,
        "tied": weight,
        "part": weight[3:9],
        "transposed": weight.T,
        "expanded": weight[:1].expand(50, 30),
        "dense": torch.arange(50),
    }
    state_dict |= {"same": state_dict["dense"], "dense part": state_dict["dense"][5:]}
    pack.save(state_dict, tmp_path / "w")
    assert_same_bits(pack.load(tmp_path / "w"), {n: t.detach() for n, t in state_dict.items()})


def test_names_that_look_like_ours_and_metadata_are_kept():
    names = ["w", "bits/w", "values/w", "dense/w", "__metadata__", "", "κ.0"]
    state_dict = {name: random(torch.float32, (20, 20), 0.1, i) for i, name in enumerate(names)}
    found, metadata = pack.unpack(*pack.pack(state_dict, {"format": "pt"}))
    assert_same_bits(found, state_dict)
    assert metadata == {"format": "pt"}


@pytest.mark.parametrize(
    "entry",
    [3, torch.ones(2, dtype=torch.complex128), torch.eye(3).to_sparse()],
    ids=["number", "complex128", "sparse"],
)
def test_what_safetensors_cannot_hold_is_named(entry):
    with pytest.raises(ValueError, match="epoch"):
        pack.pack({"epoch": entry})


def small(path):
    pack.save({"w": random(torch.float32, (16, 16), 0.2), "b": torch.arange(5)}, path)
    return path.read_bytes()


def test_any_flipped_bit_and_any_truncation_is_noticed(tmp_path):
    path = tmp_path / "w.safetensors"
    content = small(path)
    damaged = [content[:end] for end in range(0, len(content), 61)]
    for index in range(0, len(content), 7):
        flipped = content[index] ^ (1 << index % 7)
        damaged.append(content[:index] + bytes([flipped]) + content[index + 1 :])
    for bad in damaged:
        path.write_bytes(bad)
        with pytest.raises(UserError, match=r"w\.safetensors") as error:
            pack.load(path)
        assert "\n" not in str(error.value)


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "w"
    content = small(path)

    def halves():
        yield b"half"
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(stored, "serialised", lambda tensors, metadata: halves())
    with pytest.raises(UserError, match="disk full"):
        pack.save({"w": torch.ones(3)}, path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


# ---- the command ----


def run(*args):
    return cli.run(pack.main, pack.Config, args=[str(arg) for arg in args])


@pytest.mark.parametrize("around", ["state_dict", "model", None])
def test_a_checkpoint_becomes_an_ordinary_file_again(around, tmp_path, capsys):
    weight = torch.zeros(100, 100)
    weight[:10] = 1
    weight[50, :3] = -0.0
    state_dict = {"model": weight, "bias": torch.zeros(())}
    torch.save({around: state_dict, "epoch": 3} if around else state_dict, tmp_path / "net.v1.pth")
    run(tmp_path / "net.v1.pth")
    packed = tmp_path / "net.v1.packed.safetensors"
    said = capsys.readouterr().out
    assert "dense 0.04 MB, packed 0.01 MB, density 0.1000" in said
    assert "3 zeros are -0.0" in said
    run(packed, "--unpack")
    assert "dense 0.04 MB, packed 0.01 MB, density 0.1000" in capsys.readouterr().out
    found = load_file(tmp_path / "net.v1.safetensors")
    assert_same_bits({name: found[name] for name in state_dict}, state_dict)


def test_metadata_of_a_file_survives(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"w": torch.zeros(30, 30)}, path, {"description": "κ"})
    run(path)
    run(tmp_path / "w.packed.safetensors", "--unpack", "--out", tmp_path / "new" / "again")
    with safe_open(tmp_path / "new" / "again", "pt") as file:
        metadata = file.metadata()
    assert metadata.pop(stored.SEAL)  # what we write carries a digest
    assert metadata == {"description": "κ"}


MISTAKES = [
    (["missing.pth"], "missing.pth"),
    (["missing.safetensors"], "missing.safetensors"),
    (["text.pth"], "text.pth is damaged or not a file of weights"),
    (["text.safetensors"], "text.safetensors is damaged or not a safetensors file"),
    (["list.pth"], "list.pth is damaged or not a file of weights (it holds no state_dict"),
    (["optimizer.pth"], "not a file of weights (the entry 'lr' of the state_dict"),
    (["packed.safetensors", "--out", "x"], "packed.safetensors is packed already; copy it"),
    (["none.pth"], "none.pth is damaged or not a file of weights (it holds no tensors"),
    (["empty.safetensors"], "empty.safetensors is damaged or not a safetensors file"),
    (["folder.safetensors"], "folder.safetensors"),
    (["sparse.safetensors", "--out", "sparse.safetensors"], "sparse.safetensors exists; choose"),
    (["sparse.safetensors", "--out", "folder.safetensors"], "folder.safetensors exists; choose"),
    (["ordinary.safetensors", "--unpack"], "it is not packed"),
    (["sparse.safetensors", "--out", "text.pth"], "text.pth exists; choose another --out"),
    (["sparse.safetensors", "--out", "text.pth/x"], "cannot write text.pth/x"),
    ([], "a packed file. (required)"),
]


@pytest.mark.parametrize("args, message", MISTAKES)
def test_a_mistake_is_one_line(args, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("text.pth", "text.safetensors"):
        Path(name).write_text("weights\n")
    torch.save([1, 2], "list.pth")
    torch.save({"lr": 0.1}, "optimizer.pth")
    small(Path("packed.safetensors"))
    save_file({"w": torch.ones(3)}, "ordinary.safetensors")
    stored.write(Path("sparse.safetensors"), {"w": torch.zeros(99, 99)})
    torch.save({}, "none.pth")
    Path("empty.safetensors").touch()
    Path("folder.safetensors").mkdir()
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    if args == ["ordinary.safetensors", "--unpack"]:
        args = [*args, "--out", "x"]
    assert message in refusal(capsys, lambda: run(*args))
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_dense_network_stays_as_it_is(dtype, tmp_path, capsys):
    weight = random(dtype, (40, 50), 1.0)
    stored.write(tmp_path / "w.safetensors", {"w": weight, "one": weight[0, 0]})
    run(tmp_path / "w.safetensors", "--out", tmp_path / "packed")
    assert "would not become smaller" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_packed_file_is_said_to_be_packed(tmp_path, capsys):
    weight = random(torch.float32, (90, 90), 0.3)
    pack.save({"w": weight}, tmp_path / "w.safetensors", {"note": "κ"})
    run(tmp_path / "w.safetensors")
    said = capsys.readouterr().out
    assert "w.safetensors is packed already" in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


# ---- digests of ordinary files ----


@given(st.dictionaries(st.text(max_size=5), tensors, max_size=4), st.data())
def test_flipped_bits_are_noticed_in_every_file_that_we_write(state_dict, data):
    """Whatever is flipped: an error, or the very same content."""
    state_dict.pop("__metadata__", None)
    facts = {"note": "κ"}
    with TemporaryDirectory() as folder:
        path = Path(folder, "w.safetensors")
        stored.write(path, state_dict, facts)
        found, metadata = stored.read(path)
        assert_same_bits({name: found[name] for name in state_dict}, state_dict)
        content = bytearray(path.read_bytes())
        stored.write(path, found, metadata)  # the seal is renewed, not sealed again
        assert path.read_bytes() == content
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        try:
            found, metadata = stored.read(path)
        except UserError as error:
            assert path.name in str(error) and "\n" not in str(error)
            return
        assert stored.SEAL not in metadata or metadata["note"] == "κ"
        assert_same_bits({name: found[name] for name in state_dict}, state_dict)


def test_what_carries_no_digest_is_said(tmp_path, capsys):
    weight = random(torch.float32, (90, 90), 0.3)
    save_file({"w": weight}, tmp_path / "theirs.safetensors")
    stored.write(tmp_path / "ours.safetensors", {"w": weight})
    for name in ("theirs", "ours"):
        run(tmp_path / f"{name}.safetensors")
        said = capsys.readouterr().out
        assert ("carries no digest of ours" in said) == (name == "theirs")
    run(tmp_path / "ours.packed.safetensors", "--unpack", "--out", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "ours.safetensors").read_bytes()


def test_files_packed_before_are_read_still(tmp_path):
    """Their digest was of the same bytes: layout and metadata as JSON, then name by name."""
    tensors = {"dense/b": torch.arange(5)}
    whole = hashlib.sha256(json.dumps([{"b": None}, [["format", "pt"]]]).encode())
    whole.update(b"dense/b torch.int64 [5]" + np.arange(5).tobytes())
    ours = json.dumps({"layout": {"b": None}, "sha256": whole.hexdigest()})
    save_file(tensors, tmp_path / "w", {"format": "pt", pack.KEY: ours})
    assert_same_bits(pack.load(tmp_path / "w"), {"b": torch.arange(5)})
