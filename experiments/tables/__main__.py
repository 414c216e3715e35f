"""Every table of experiments/results in one page, and the short one of the readme.

    python -m experiments.tables            seconds
    python -m experiments.tables --check    nothing is written; exit code 2 where a page is stale

Reads the result files and writes experiments/results/README.md, all tables with the command, seeds,
machine, date and commit of each, and the lines of readme.txt between its two marks. Nothing is
measured here, and a number without a file is not printed. `make lint` and the tests fail where
either is stale.
"""

from dataclasses import dataclass
from pathlib import Path

from experiments import runner
from experiments.tables.page import long_page, with_results
from groundfloor import cli
from groundfloor.errors import UserError, unreadable
from groundfloor.runs import atomic

README = Path(__file__).parents[2] / "readme.txt"


@dataclass(frozen=True)
class Config:
    """Where the results lie."""

    results: Path = runner.RESULTS
    """Folder with the result files; README.md is written there."""
    readme: Path = README
    """File whose lines between the two marks are written."""
    check: bool = False
    """Only say whether both are what the result files give."""


def main(config):
    """Write both files, or check them; returns their paths.

    Raises UserError with --check where one of them is stale.
    """
    fresh = pages(config)
    if config.check:
        stale = [path.name for path, text in fresh.items() if contents(path) != text]
        if stale:
            raise UserError(f"{' and '.join(stale)}: stale; run python -m experiments.tables")
    else:
        for path, text in fresh.items():
            with atomic(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        print(*fresh, sep="\n")
    return list(fresh)


def pages(config):
    """{path: text} of both files, as the result files give them."""
    if not any(config.results.glob("*.json")):  # a mistyped folder would empty the readme's table
        raise UserError(f"{config.results} has no result files")
    lines = contents(config.readme)
    if lines is None:
        raise UserError(f"{config.readme} does not exist")
    return {
        config.results / "README.md": long_page(config.results),
        config.readme: with_results(lines, config.results),
    }


def contents(path):
    """Text of a file; None if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from None


if __name__ == "__main__":
    cli.run(main, Config)
