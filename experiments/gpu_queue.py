"""What waits for a GPU, in order of value, in slices that end when the machine is given back.

    python -m experiments.gpu_queue --dry-run                     what there is, and the minutes
    python -m experiments.gpu_queue --minutes 9 --out $OUT        as much as fits

Runs lie in runs/gpu_queue: a command that is cut off goes on there when the queue is called again,
and one that is finished is skipped. In --out are tables, pictures and JSON files alone, which may
be copied to experiments/results. Minutes are estimates for an H100; none was measured here.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

from experiments import all as everything
from experiments.claims import GPU_CLAIMS
from groundfloor import checks, cli, tables
from groundfloor.checks import Positive
from groundfloor.errors import UserError
from groundfloor.machine import cores
from groundfloor.runs import counted

RUNS = Path("runs/gpu_queue")
RESULTS = RUNS / "results"


@dataclass(frozen=True)
class Config(checks.Settings):
    """For how long, and where the results go."""

    minutes: Positive | None = None
    """Time in minutes; the command that runs then is stopped and goes on at the next call. None: no
    limit."""
    out: Path = RESULTS
    """Folder for result files, which are small."""
    dry_run: bool = False
    """Only say what would be run."""


def main(config):
    """Run what is missing in --out; returns the names of the claims that ended well.

    Raises UserError at the end where a command failed.
    """
    missing = [c for c in GPU_CLAIMS if not all((config.out / name).exists() for name in c.files)]
    if config.dry_run:
        rows = [
            {
                "claim": claim.name,
                "minutes": claim.minutes,
                "state": "missing" if claim in missing else "finished",
                "command": claim.commands[-1],
            }
            for claim in GPU_CLAIMS
        ]
        print(tables.as_text(rows))
        return []
    print(f"{len(missing)} of {counted(len(GPU_CLAIMS), 'claim')} to run", flush=True)
    config.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * (config.minutes or math.inf)
    ended, failed = [], []
    for claim in missing:
        if time.monotonic() >= end:
            break
        code = everything.run(claim, end, cores(), True, RUNS, config.out)
        if code == 0:
            ended.append(claim.name)
        elif code is not None:
            failed.append(claim.name)
    if failed:
        raise UserError(f"{counted(len(failed), 'claim')} failed: {', '.join(failed)}")
    return ended


if __name__ == "__main__":
    cli.run(main, Config)
