"""How good is the dense Vision Transformer that a CPU core trains in three hours on CIFAR-10?

    python -m experiments.prune_dense cifar10-small    3 hours of one CPU core

The network that all sweeps of this preset begin with: trained by the preset's recipe, rounded to
float16 and kept as prune_torch/network/PRESET.safetensors with its settings. A killed run goes on.
Chosen on validation after 500 steps, seed 0: AdamW at 1e-3 has 43.7 %; Muon at 2e-3, 5e-3 and 1e-2
(for all but the blocks' matrices AdamW at 1e-3, 1e-3 and 2e-3) has 47.9, 49.8 and 53.1 %.
Result: prune_dense_PRESET.json: validation and test, in float32 and as released.

Expected: 84.0 % of validation and 83.7 % of test, as released too (471,786 parameters, seed 0).
"""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from experiments import runner
from groundfloor import checks, cli
from groundfloor.runs import content_hash
from prune_torch import costs, sweep
from prune_torch.network import released
from prune_torch.protocol import workers


@dataclass(frozen=True, kw_only=True)
class Config(checks.Settings):
    """Where things go."""

    out: Path | None = None
    """Folder of checkpoints; default runs/prune_dense_PRESET."""
    results: Path = runner.RESULTS
    """Folder for the numbers."""
    released: Path = released.FOLDER
    """Folder for the network."""
    images: checks.Count | None = None
    """Use only this many images of each split; none uses all. For rehearsals."""
    steps: checks.Count | None = None
    """Training steps; none: the preset's. For rehearsals."""

    def __post_init__(self):
        super().__post_init__()
        rehearsal = self.images is not None or self.steps is not None
        kept = self.released == released.FOLDER or self.results == runner.RESULTS
        checks.require(
            not (rehearsal and kept),
            "released",
            self.released,
            "a rehearsal (--images, --steps) needs a folder of its own, and --results",
        )


PRESETS = {"cifar10-small": Config()}
SPLITS = ("val", "test")


def main(config, name):
    """Train where it is missing, release, and return what the JSON holds."""
    preset = sweep.PRESETS[name]
    settings = dataclasses.replace(
        preset,
        retrain=True,
        images=config.images,
        dense_steps=config.steps or preset.dense_steps,
    )
    bench = workers.make_bench(settings)
    began = time.monotonic()
    _, facts = bench.dense(config.out or Path("runs") / f"prune_dense_{name}")
    seconds = time.monotonic() - began
    file = config.released / f"{name}.safetensors"
    released.write(bench.model, bench.settings(), file)
    bench.model.load_state_dict(released.state(file))
    task = bench.task
    rounded = {split: task.evaluate(bench.model, getattr(task, split)) for split in SPLITS}
    found = {
        "settings": bench.settings(),
        "parameters": costs.parameters(bench.model),
        "trained": {split: facts[split] for split in SPLITS},
        "released": rounded,
        "bytes": file.stat().st_size,
        "content": content_hash(file),
        "seconds_of_the_last_start": round(seconds),
    }
    print(f"{file}: test top-1 {100 * rounded['test']['top1']:.2f} %")
    return runner.write(config.results / f"prune_dense_{name}.json", f"prune_dense {name}", found)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
