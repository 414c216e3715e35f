"""One page of all pictures of experiments/results, and of what answers to the mouse.

    python -m experiments.page      a second

Reads the result files and writes experiments/results/index.html, which opens without a server and
works offline: pictures and the two viewers lie beside it (experiments.viewers). Every picture has a
sentence in sentences.py that says what to see.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from jinja2 import Environment, FileSystemLoader
from PIL import Image

from experiments import runner, sweeps
from experiments.page import sentences
from groundfloor import checks, cli
from groundfloor.errors import UserError, unreadable
from groundfloor.plots import BLACK, BLUE, COLOURS, GREEN, GREY, ORANGE, PINK, RED, SKY
from groundfloor.runs import atomic, read_json
from prune_torch.protocol.families import lines

HERE = Path(__file__).parent
VIEWERS = {
    "viewer_mnist.html": "MNIST, 64 numbers an image: move between two images, along the principal "
    "directions of all latents, or zoom in: the function has no pixels.",
    "viewer_cifar10.html": "CIFAR-10, a grid of 8x8x16 numbers: click a cell of the image and "
    "change its numbers; nothing but its surroundings changes.",
}
SWEEP, CURVES = "prune_cifar10-small", "curves/digits.json"
PALETTE = {  # of the sweep's methods, as in its pictures where these have one colour
    "magnitude": BLACK,
    "magnitude-late": BLUE,
    "gradual": ORANGE,
    "l1": SKY,
    "dessilbi": RED,
    "movement": GREEN,
    "supermask": PINK,
}


@dataclass(frozen=True)
class Config(checks.Settings):
    """Where the results lie."""

    results: Path = runner.RESULTS
    """Folder with the result files and pictures; index.html is written there."""


def main(config):
    """Write the page; returns its path."""
    if not config.results.is_dir():
        raise UserError(f"{config.results} is no folder")
    path = config.results / "index.html"
    page = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("index.html")
    shown = chapters(config.results)
    names = [name for pictures in shown.values() for name, _ in pictures]
    html = page.render(
        chapters=shown,
        sizes={name: size(config.results / name) for name in names},
        viewers={name: text for name, text in VIEWERS.items() if (config.results / name).exists()},
        data=script_safe({"sweep": sweep(config.results), **curves(config.results)}),
        script=(HERE / "charts.js").read_text(encoding="utf-8"),
    )
    with atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
    return path


def size(picture):
    """(width, height) of a file in pixels; UserError if it is no picture."""
    try:
        with Image.open(picture) as opened:
            return opened.size
    except OSError as error:
        raise unreadable(picture, error) from None


def chapters(results):
    """{chapter: [(file name, sentence)]} of the pictures there are.

    UserError if one has no sentence.
    """
    found = {chapter: [] for chapter in sentences.CHAPTERS}
    paths = (*results.glob("*.png"), *results.glob("*.gif"))
    for name in sorted(path.name for path in paths):
        told = sentences.chapter_and_sentence(name)
        if told is None:
            raise UserError(f"{results / name} has no sentence in experiments/page/sentences.py")
        found[told[0]].append((name, told[1]))
    return found


def sweep(results):
    """{"dense": top-1 in %, "lines": [{"name", "colour", "points": [[density, top-1, low, high]]}]}
    of the pruning sweep, means over seeds; None without its files."""
    path = results / f"{SWEEP}.csv"
    if not path.exists():
        return None
    found = {}
    for name, own in lines(sweeps.read(path)).items():
        for density in {row["density"] for row in own} - {None}:
            rows = [row for row in own if row["density"] == density]
            numbers = [
                100 * mean(row[k] for row in rows) for k in ("top1", "top1_low", "top1_high")
            ]
            point = [mean(row["density_all"] for row in rows), *numbers]
            found.setdefault(name, []).append([round(value, 3) for value in point])
    dense = 100 * read_json(results / f"{SWEEP}.json")["dense"]["test"]["top1"]
    return {
        "dense": round(dense, 2),
        "lines": [
            {"name": name, "colour": PALETTE.get(name, GREY), "points": sorted(points)}
            for name, points in found.items()
        ],
    }


def curves(results):
    """{"path", "landscape"} of experiments.curves; None for each without its file."""
    path = results / CURVES
    held = read_json(path) if path.exists() else {}
    colours = {key: COLOURS[key] for key in ("none", "batch", "selected", "dropped")}
    return {"path": held.get("path"), "landscape": held.get("landscape"), "colours": colours}


def script_safe(value):
    """JSON that cannot end the element of the page that it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


if __name__ == "__main__":
    cli.run(main, Config)
