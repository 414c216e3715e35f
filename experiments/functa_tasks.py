"""What are latents good for? All tasks of functa_jax on one trained run, and their page.

    python -m experiments.functa_tasks digits            15 minutes on 2 CPU cores
    python -m experiments.functa_tasks mnist             90 minutes on 2 CPU cores
    python -m experiments.functa_tasks digits-spatial    30 minutes
    python -m experiments.functa_tasks mnist-spatial     hours on 2 CPU cores; not yet run
    python -m experiments.functa_tasks cifar10-spatial-cpu   hours on 2 CPU cores
    python -m experiments.functa_tasks cifar10-spatial   on a GPU; not yet run

Each trains (or finds) the run, then `python -m functa_jax.tasks`: classify, generate, inpaint,
superresolve, denoise, interpolate, retrieve, compress, every table beside PCA. Expected on MNIST:
98 to 99 % from latents; on CIFAR-10 with 8x8x16 numbers 90.3 % (Bauer et al. 2023).
Results: tasks_NAME.json, the tables of all tasks, and functa_NAME.npz, the network, from which
`functa_jax.export --run FILE` makes the functaset again. The page of figures stays in the run.
"""

import shlex
import subprocess
import sys
from dataclasses import dataclass

from experiments import runner
from groundfloor import cli
from groundfloor.checks import Flags
from groundfloor.errors import UserError
from groundfloor.runs import read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Config(runner.RunsConfig):
    """Which run of functa_jax.meta_train."""

    preset: str
    """Preset of functa_jax.meta_train."""
    tasks: tuple[Flags, ...] = ()
    """Tasks with flags of their own, as "classify --steps 1000"; others have their defaults."""


PRESETS = {
    "digits": Config(preset="digits"),
    "mnist": Config(preset="mnist"),
    "digits-spatial": Config(preset="digits-spatial"),
    "mnist-spatial": Config(preset="mnist-spatial"),
    # It proves the path: gradient steps, with which tasks are four times as fast, and few images.
    "cifar10-spatial-cpu": Config(
        preset="cifar10-spatial-cpu",
        flags="--update rates --cg-iterations 1 --steps 7000 --eval-every 500 --outer-rate 1e-2 "
        "--classifier-rows 5000",
        tasks=(
            "classify --rows 5000 --classifiers 'logistic regression' MLP ConvNet",
            "generate --prior-steps 400 --samples 500",
            "inpaint --count 40",
            "superresolve --count 40",
            "denoise --count 40",
            "interpolate --count 40",
        ),
    ),
    "cifar10-spatial": Config(
        preset="cifar10-spatial",
        tasks=(
            "classify --rows 5000 --augment 8192 --steps 30000 --search-steps 1000 --batch 512 "
            "--ema 0.999",
            "generate --prior-steps 100000 --width 256 --blocks 8 --prior-batch 256 --ema 0.9999",
        ),
    ),
}


def main(config, name):
    """Train, run the tasks that are missing, keep their tables and the page; returns what the JSON
    holds."""
    stem = f"tasks_{name}"
    out = config.folder(stem)
    command = ["functa_jax.meta_train", config.preset, *shlex.split(config.flags)]
    summary = runner.finished(command, out)
    folder = out / "tasks"
    for task, *flags in map(shlex.split, config.tasks):
        made = folder / f"{task}.json"
        asked = out / "task_flags" / made.name  # those that the report was made with
        if not made.exists():
            write_json(asked, flags)
            _run(f"functa_jax.tasks.{task}", out, *flags)
        elif asked.exists() and read_json(asked) != flags:
            raise UserError(f"{made} was made with other flags; delete it for new ones")
    _run("functa_jax.tasks", out)  # all that are missing, and the page
    reports = {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}
    tables = {
        task: {"rows": report["rows"], "remarks": report["remarks"]}
        for task, report in reports.items()
        if "rows" in report
    }
    facts = {"run": summary, "tasks": tables}
    result = runner.write(config.results / f"{stem}.json", f"functa_tasks {name}", facts, [summary])
    runner.copy_file(out / "functa.npz", config.results / f"functa_{name}.npz")
    return result


def _run(module, out, *flags):
    if subprocess.run([sys.executable, "-m", module, "--run", str(out), *flags]).returncode:
        raise UserError(f"not all tasks on {out} ended well; see above")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
