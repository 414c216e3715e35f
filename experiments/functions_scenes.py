"""How well are views of a scene predicted that nobody gave, from a few that somebody did?

    python -m experiments.functions_scenes scenes        half an hour on 2 CPU cores; no download
    python -m experiments.functions_scenes scenes_hour   an hour

The main job on computed scenes (500 to train on, 50 of test, views of 32 x 32), with 128 numbers a
scene, three seeds (of the hour's one). A latent is fitted to 1, 2, 4 or 8 views of a test scene;
PSNR is the mean over pictures of the six views that are never given. Beside it, from the same
views: the Gaussian prior of all training scenes ("Wiener"), PCA with as many numbers, the nearest
training scene, and the mean. These see the novel cameras in training, as the functa does, and know
no others. The hour's run is the same with more steps.
Results: experiments/results/functions_NAME.json, .png (novel views of three test scenes) and .gif
(six test scenes that turn, seen from cameras that no training scene was seen from).

Expected after an hour (100 minutes of one core): 23.4 dB from 8 views and 22.9 from 4, the Gaussian
prior of all scenes 22.3 and 21.6; from a single view the functa is behind it, 18.8 and 19.1.
After the preset's 450 steps (9 minutes 25 seconds in all): 20.85 +- 0.17 and 20.60 +- 0.12 dB.
DeepMind's functa has about 23 dB on SRN cars, 128 x 128 pixels, from one view (Dupont et al. 2022).
"""

import shlex
from dataclasses import dataclass

from experiments import runner
from functa_jax.scenes.novel import NAMES
from groundfloor import cli
from groundfloor.runs import spread

KEPT = (
    "seed",
    "numbers",
    "outer_steps",
    "rollbacks",
    "test_psnr",
    "test_psnr_after_steps",
    "rivals",
    "novel_views",
    "accuracy",
    "train_seconds",
    "device",
    "commit",
    "checkpoint",
)
PICTURES = {"figures/novel_views.png": ".png", "figures/turntable.gif": ".gif"}


@dataclass(frozen=True, kw_only=True)
class Config(runner.SweepConfig):
    """Which runs of functa_jax.meta_train."""

    preset: str = "scenes"
    """Preset of functa_jax.meta_train."""


PRESETS = {
    "scenes": Config(),
    "scenes_hour": Config(flags="--steps 4000", seeds=(0,)),
}


def main(config, name):
    """Run what is missing, then write and print the table; returns what the JSON holds."""
    stem = f"functions_{name}"
    command = ["functa_jax.meta_train", config.preset, *shlex.split(config.flags)]
    out = config.folder(stem)
    commands = {out / f"seed{seed}": [*command, "--seed", seed] for seed in config.seeds}
    runs = list(runner.all_finished(commands, config).values())
    path = config.results / f"{stem}.json"
    for source, suffix in PICTURES.items():
        runner.copy_file(next(iter(commands)) / source, path.with_suffix(suffix))
    first = runs[0]
    result = runner.write(
        path,
        f"functions_scenes {name}",
        {
            "preset": config.preset,
            "flags": config.flags,
            "data": first["data"],
            "data_fingerprint": first["data_fingerprint"],
            "numbers": first["numbers"],
            "psnr_is": first["novel_views_is"],
            "seeds": list(config.seeds),
            "rows": table(runs),
            "runs": [{key: run.get(key) for key in KEPT} for run in runs],
        },
        runs,
    )
    report(result)
    print(path)
    return result


def table(runs):
    """A row for each number of given views: {"views": 4, "functa": spread over the runs, ...}."""
    rows = []
    for count in runs[0]["novel_views"]:
        of_runs = [run["novel_views"][count] for run in runs]
        names = [name for name in NAMES if name in of_runs[0]]
        rows.append(
            {"views": int(count)}
            | {name: spread(found[name] for found in of_runs) for name in names}
        )
    return rows


def report(result):
    """The table as text."""
    names = [name for name in NAMES if name in result["rows"][0]]
    print(f"\n{result['data']}, {result['numbers']} numbers, dB of novel views")
    print(f"{'given views':12s}" + "".join(f"{name:>16s}" for name in names))
    for row in result["rows"]:
        texts = "".join(f"{runner.text(row[name]):>16s}" for name in names)
        print(f"{row['views']:<12d}{texts}")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
