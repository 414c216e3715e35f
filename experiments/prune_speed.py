"""What does a smaller Vision Transformer gain in milliseconds, and at what accuracy?

    python -m experiments.prune_speed cifar10-small    20 minutes on 2 CPU cores

Networks of a finished sweep (experiments.prune_sweep cifar10-groups) whose heads and neurons were
cut out, in pairs with the dense one: one and 64 images at once, in eager PyTorch, torch.compile,
ONNX Runtime and dynamic int8. Top-1 on the test images is the sweep's, but of both int8, which is
measured here. Memory at run time (prune_torch.memory) is that of eager PyTorch with the most images
at once, each network in a process of its own. Networks of zeros alone stand for nothing here: a
dense product takes as long, and where a sparse one would be faster is another question
(prune_torch.breakeven, whose numbers are kept beside).
Result: prune_speed_NAME.json; picture: the front of accuracy against milliseconds.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from experiments import runner
from groundfloor import checks, cli
from groundfloor.checks import Count, PositiveShare
from groundfloor.errors import UserError
from groundfloor.runs import Progress, read_json
from prune_torch import breakeven, compact, memory, speed, sweep
from prune_torch.methods import METHODS
from prune_torch.protocol import pareto, workers


@dataclass(frozen=True, kw_only=True)
class Config(checks.Settings):
    """Which networks, and how often."""

    run: Path | None = None
    """Folder of the sweep; default that of experiments.prune_sweep."""
    methods: tuple[str, ...] = ("compensated", "group-lasso", "neurons", "group-envelope")
    """Methods that cut heads and neurons out."""
    densities: tuple[PositiveShare, ...] = (0.3, 0.5, 0.7)
    """Nonzero parameters / all parameters."""
    batches: tuple[Count, ...] = (1, 64)
    """Images at once."""
    rounds: Count = 20
    """Times that the networks take turns."""
    images: Count | None = None
    """Use only this many test images for int8; none uses all."""
    results: Path = runner.RESULTS
    """Folder for numbers and picture."""

    def __post_init__(self):
        whole = [n for n in self.methods if n not in METHODS or not METHODS[n].structured]
        checks.require(not whole, "methods", whole[:1], "must be a method that removes groups")
        super().__post_init__()


PRESETS = {
    "cifar10-small": Config(run=Path("runs/prune_sweep_cifar10-groups")),
    "digits": Config(densities=(0.5, 0.8)),
}


def main(config, name):
    """Measure, draw, and return what the JSON holds."""
    folder = config.run or Path("runs") / f"prune_sweep_{name}"
    dense, accuracies = networks(config, folder)
    bench = workers.make_bench(dataclasses.replace(sweep.PRESETS[name], device="cpu"))
    models = {path: compact.load(path) for path in (dense, *accuracies)}
    rows, left_out = speed.measure(models, config.batches, tuple(speed.ENGINES), config.rounds)
    summary = read_json(folder / "summary.json")
    accuracies = {dense: summary["dense"]["test"]["top1"], **accuracies}
    ran = {row["engine"] for row in rows}
    rounded = {
        engine: accuracies_of(config, bench.task, models, engine)
        for engine in ("int8", "onnx-int8")
        if engine in ran
    }
    used = memory_of(models, max(config.batches))
    table = []
    for row in rows:
        path = Path(row["file"])
        top1 = rounded.get(row["engine"], accuracies)[path]
        called = "dense" if path == dense else path.stem.removesuffix("-s0")
        told = used.get((path, row["engine"], row["batch"]), {})
        table.append({**row, "file": path.name, "name": called, "top1": top1, **told})
    pareto.picture(config.results / f"prune_speed_{name}.png", table)
    model = models[dense]
    sparse = breakeven.main(
        breakeven.Config(
            model=model.pretrained_cfg["architecture"], tokens=model.patch_embed.num_patches
        )
    )
    facts = {"rows": table, "left_out": left_out, "breakeven": sparse, "sweep": folder.name}
    path = config.results / f"prune_speed_{name}.json"
    return runner.write(path, f"prune_speed {name}", facts)


def networks(config, folder):
    """The dense network's file of a sweep, and a dict of file -> top-1 of the chosen cells."""
    dense = sorted(folder.glob("dense-*.safetensors"))
    cells = [read_json(path) for path in sorted((folder / "cells").glob("[!.]*-s0.json"))]
    chosen = {
        folder / "cells" / row["checkpoint"]: row["top1"]
        for row in cells
        if row["method"] in config.methods and row["density"] in config.densities
    }
    if len(dense) != 1 or not chosen:
        raise UserError(f"{folder} holds no finished sweep with these methods and densities")
    return dense[0], chosen


def memory_of(models, batch):
    """(file, engine, batch) -> the columns of memory at run time; the first file is the measure.

    run_megabytes, and run_ratio to those of the first; empty where the system does not tell.
    """
    peaks = {path: memory.peak(path, batch) for path in models}
    if None in peaks.values():
        return {}
    first = next(iter(peaks.values()))
    return {
        (path, "eager", batch): {"run_megabytes": peak / 1e6, "run_ratio": peak / first}
        for path, peak in peaks.items()
    }


def accuracies_of(config, task, models, engine):
    """Test top-1 of the networks in an engine: dict of file -> share."""
    images = task.test
    if config.images:
        images = type(images)(images.pixels[: config.images], images.labels[: config.images])
    found = {}
    with Progress(len(models), "network") as progress:
        for path, model in models.items():
            found[path] = task.evaluate(speed.ENGINES[engine](model), images)["top1"]
            progress.advance(1, **{engine: f"{path.stem}: {100 * found[path]:.2f} %"})
    return found


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
