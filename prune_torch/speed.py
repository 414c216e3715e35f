"""How fast are networks of a sweep, in pairs with the dense one?

    python -m prune_torch.speed dense.safetensors neurons-d0.5-s0.safetensors

The first file is the reference; each engine times all files in turns, so that what slows the
machine slows all alike. Engines: eager PyTorch, torch.compile, ONNX Runtime, and dynamic int8 (the
linear layers' weights as integers) in PyTorch and in ONNX Runtime. An engine that is not installed
or cannot take a network is said and left out. Zeros that are not cut out change nothing here: see
prune_torch.breakeven.
"""

import importlib.util
import io
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import nn

from groundfloor import checks, cli
from groundfloor.checks import Count
from groundfloor.errors import UserError, first_line
from groundfloor.machine import cores, environment
from groundfloor.runs import Progress, write_json
from prune_torch import compact, costs, export_onnx
from prune_torch.network import stored


class Session(nn.Module):
    """An ONNX file in ONNX Runtime, called as a network: (n, c, h, w) -> (n, classes)."""

    def __init__(self, path):
        from onnxruntime import InferenceSession, SessionOptions

        super().__init__()
        options = SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.bytes = Path(path).stat().st_size
        self.session = InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def forward(self, images):
        return torch.from_numpy(self.session.run(None, {"images": images.numpy()})[0])


def eager(model):
    return model


def compiled(model):
    return torch.compile(model, dynamic=False, fullgraph=True)


def int8(model):
    """Linear layers with integer weights, activations quantised as they come."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)


def onnx(model):
    with tempfile.TemporaryDirectory() as folder:
        export_onnx.export(model, Path(folder) / "model.onnx")
        return Session(Path(folder) / "model.onnx")


def onnx_int8(model):
    from onnxruntime.quantization import quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        export_onnx.export(model, whole)
        quantize_dynamic(whole, small)
        return Session(small)


ENGINES = {
    "eager": eager,
    "compile": compiled,
    "int8": int8,
    "onnx": onnx,
    "onnx-int8": onnx_int8,
}


@dataclass(frozen=True)
class Config(checks.Settings):
    """Which files, how many images at once, in which engines."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Networks of a sweep; the first is what the others are compared with."""
    batches: tuple[Count, ...] = (1, 64)
    """Images at once."""
    engines: tuple[str, ...] = tuple(ENGINES)
    """Of eager, compile, int8, onnx, onnx-int8."""
    rounds: Count = 20
    """Times that the networks take turns."""
    threads: Count | None = None
    """Threads; default: as many as torch takes."""
    json: Path | None = None
    """File for the numbers and the machine; none: only print."""

    def __post_init__(self):
        unknown = [name for name in self.engines if name not in ENGINES]
        checks.require(not unknown, "engines", unknown[:1], f"there are {', '.join(ENGINES)}")
        if not (self.files and self.batches and self.engines):
            raise ValueError("give files, --batches and --engines")
        super().__post_init__()


def main(config):
    """Measure and print a table; returns what --json writes: rows, left_out, machine."""
    checks.refuse_beyond("threads", config.threads, cores(), f"there are {cores()} cores")
    if config.json:
        stored.refuse_existing(config.json, "--json")
    torch.set_num_threads(config.threads or torch.get_num_threads())
    models = {path: compact.load(path).float() for path in config.files}
    sides = {(model.in_chans, *model.patch_embed.img_size) for model in models.values()}
    if len(sides) > 1:
        raise UserError("the networks take images of different sizes: they cannot be compared")
    rows, left_out = measure(models, config.batches, config.engines, config.rounds)
    print(f"{'file':40s}{'engine':>10s}{'images':>8s}{'ms':>10s}{'/ first':>9s}{'MB':>8s}")
    for row in rows:
        sizes = f"{row['ms']:10.2f}{row['ratio']:9.3f}{row['megabytes']:8.2f}"
        print(f"{Path(row['file']).stem:40s}{row['engine']:>10s}{row['batch']:8d}{sizes}")
    for engine, why in left_out.items():
        print(f"left out: {engine} ({why})")
    results = {"rows": rows, "left_out": left_out, "threads": torch.get_num_threads()}
    results |= {"rounds": config.rounds, **environment()}
    if config.json:
        write_json(config.json, results)
    return results


def measure(models, batches, engines, rounds):
    """(rows, left_out): a dict for each engine, batch and model, and why engines are left out.

    models: dict of path -> network, the reference first. A row: file, engine, batch, ms (median
    time of a call), ratio (median of time / the reference's in the same round), megabytes (of the
    weights as the engine keeps them).
    """
    rows, left_out = [], {}
    # All networks share the code of their class, and each number of images is compiled by itself.
    compiled_all = torch._dynamo.config.patch(recompile_limit=len(models) * len(batches) + 1)
    with compiled_all, Progress(len(engines) * len(batches), "measurement") as progress:
        for engine in engines:
            try:
                found = _measure(models, batches, engine, rounds, progress)
            except Exception as error:  # of compilers, exporters and runtimes: many kinds
                left_out[engine] = first_line(error)
            else:
                rows += found
    return rows, left_out


@torch.inference_mode()
def _measure(models, batches, engine, rounds, progress):
    if engine.startswith("onnx"):
        missing = [p for p in export_onnx.PACKAGES if importlib.util.find_spec(p) is None]
        if missing:
            raise UserError(f"needs {' '.join(missing)}")
    ready = {path: ENGINES[engine](model.eval()) for path, model in models.items()}
    first, rows = next(iter(models.values())), []
    for batch in batches:
        images = torch.randn(batch, first.in_chans, *first.patch_embed.img_size)
        for model in ready.values():
            model(images)  # compiles
        times = costs.latency(ready, images, rounds)
        for path, time in times.items():
            facts = {"file": str(path), "engine": engine, "batch": batch, **time}
            rows.append({**facts, "megabytes": megabytes(ready[path])})
        progress.advance(1)
    return rows


def megabytes(model):
    """Of a network's weights as they are kept, integers packed."""
    if isinstance(model, Session):
        return model.bytes / 1e6
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell() / 1e6


if __name__ == "__main__":
    cli.run(main, Config)
