"""Write one HTML file in which the decoder itself runs: a functa to look at, without a server.

The file holds the weights, the latents and originals of some test images, and the principal
directions of the train latents; its JavaScript (folder `viewer`) decodes in the browser, at
any zoom, whatever latent the sliders make. It works offline and asks nothing of any network. Of
volumes and films it shows one slice, the one that a slider picks.
"""

import base64
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from functa_jax.functaset import load_functaset
from groundfloor import checks, cli
from groundfloor.checks import Count
from groundfloor.data.functions import lattice_points
from groundfloor.errors import UserError
from groundfloor.runs import atomic, counted

WIDEST = 256  # at which a 64 x 64 image takes well below a second on a laptop
DIRECTIONS = 16
TEMPLATES = Path(__file__).with_name("viewer")
# In the order in which they are joined.
IN_WORKER = ("kernel.js", "decoder.js", "worker.js")
IN_PAGE = (
    "data.js",
    "colours.js",
    "workers.js",
    "state.js",
    "pictures.js",
    "gestures.js",
    "controls.js",
    "begin.js",
)


@dataclass(frozen=True)
class Config(checks.Settings):
    """Which functa to show, and with which images."""

    run: Path
    """Run folder (or functa.npz file) of the trained functa."""
    functaset: Path | None = None
    """Its exported latents; default functaset.npz in the run folder."""
    images: Count = 64
    """Test images to show, spread over the whole split."""
    data_dir: Path | None = None
    """Folder with data sets, for the originals; default $FUNCTA_DATA or ~/.cache/functa."""
    out: Path | None = None
    """File to write; default viewer.html in the run folder."""

    def __post_init__(self):
        super().__post_init__()
        named = self.out is None or self.out.suffix in (".html", ".htm")
        checks.require(named, "out", self.out, "must be a .html file")


def main(config):
    """Load, check, write; prints the file's path and size.

    Returns {"path": of the file, "images": shown, "originals": whether they are beside}.
    """
    from functa_jax.functa import load

    functa = load(config.run)
    if functa.config.decoder != "siren":
        raise UserError(
            f"{config.run} has --decoder {functa.config.decoder}; the viewer decodes modulated "
            "SIRENs only"
        )
    if not shown_by_slices(functa):
        raise UserError(
            f"{config.run} is of {functa.config.modality}; the viewer shows images, and slices of "
            "what lies on a lattice of two or three dimensions in the unit cube"
        )
    if functa.config.width > WIDEST:
        raise UserError(
            f"{config.run} has width {functa.config.width}; the viewer decodes in the browser and "
            f"works up to width {WIDEST}"
        )
    folder = config.run if config.run.is_dir() else config.run.parent
    functaset = load_functaset(config.functaset or folder)
    if functaset.metadata.get("checkpoint") != functa.hash:
        raise UserError(
            f"the functaset was not exported with {config.run} as it is now (checkpoint "
            f"{functaset.metadata.get('checkpoint')}, not {functa.hash}); export it again"
        )
    if not len(functaset.test) or len(functaset.train) < 2:
        raise UserError("the functaset has no test images, or less than two train images, to show")
    count = min(config.images, len(functaset.test))
    if count < config.images:
        print(
            f"note: --images {config.images}: the functaset has only {counted(count, 'test image')}"
        )
    rows = np.linspace(0, len(functaset.test) - 1, count).astype(int)
    images, reason = originals(functa, config.run, functaset, rows, config.data_dir)
    out = config.out or folder / "viewer.html"
    write(out, functa, functaset, rows, images)
    beside = "with their originals" if reason is None else f"without originals: {reason}"
    print(f"{counted(count, 'test image')}, {beside}")
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB); open it in a browser")
    return {"path": str(out), "images": count, "originals": images is not None}


def shown_by_slices(functa):
    """Whether a functa's functions are images, or have slices that are."""
    if functa.of_images:
        return True
    lattice = functa.resolution
    if functa.coords is None or lattice is None or len(lattice) not in (2, 3):
        return False
    points = lattice_points(*lattice)
    return functa.coords.shape == points.shape and np.allclose(functa.coords, points, atol=1e-5)


def originals(functa, run, functaset, rows, data_dir=None):
    """(uint8 images (n, h, w, C) of these test rows, or values (n, N, C) of other functions, None),
    or (None, why there are none)."""
    from functa_jax.training import exporter

    made_from = functaset.metadata
    try:
        data = exporter.data_of(functa, run, data_dir, name=made_from.get("data"))
    except UserError as error:
        return None, str(error)
    place = {int(number): i for i, number in enumerate(data.test.ids)}
    ids = functaset.test.ids[rows].tolist()
    if data.fingerprint != made_from.get("data_fingerprint") or not place.keys() >= set(ids):
        return None, f"{data.name} is not what the functaset was made from"
    values = data.test.values[[place[number] for number in ids]]
    if values.dtype != np.uint8:
        if values.min() < 0 or values.max() > 1:
            return None, "its values leave [0, 1]"
        values = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return values, None


def directions(latents, count=DIRECTIONS):
    """Principal directions of latents (n, ...): unit vectors (k, ...), deviations, shares (k,).

    The deviation is that of the latents along the direction, the share that of its variance in
    all; k <= count directions have any.
    """
    from functa_jax.evaluation.reconstruction import as_rows, exact_pca, first_components

    pca = first_components(exact_pca(as_rows(latents)), count)
    deviations = np.sqrt(pca.explained_variance_)
    kept = deviations > 1e-6 * deviations[0]
    vectors = pca.components_[kept].reshape(-1, *latents.shape[1:])
    total = as_rows(latents).var(axis=0, ddof=1, dtype=np.float64).sum()
    return vectors, deviations[kept], deviations[kept] ** 2 / (total or 1.0)


def write(path, functa, functaset, rows, images=None):
    """Write the viewer of these test rows (n,), whole or not at all.

    images: their originals, uint8 (n, h, w, C) or (n, N, C) as of `originals`, or None.
    """
    vectors, deviations, shares = directions(functaset.train.latents)
    test = functaset.test
    data = {
        "name": functaset.metadata.get("data") or "unnamed images",
        "hash": functa.hash,
        "config": asdict(functa.config) | {"loss": functa.config.loss},
        "resolution": list(functa.resolution),
        "params": {name: _floats(value) for name, value in decoding(functa).items()},
        "latents": _floats(test.latents[rows]),
        "labels": test.labels[rows].tolist(),
        "ids": test.ids[rows].tolist(),
        "originals": None if images is None else _base64(images.astype(np.uint8)),
        "mean": _floats(functaset.mean),
        "std": _floats(functaset.std),
        "directions": _floats(vectors),
        "deviations": _floats(deviations),
        "shares": shares.tolist(),
    }
    with atomic(path) as temporary:
        temporary.write_text(_page(data), encoding="utf-8")


def decoding(functa):
    """The parameters that decoding needs, by name."""
    from functa_jax.model import siren

    flat = siren.flatten(functa.params)
    return {name: value for name, value in flat.items() if name != "inner_rate"}


def _page(data):
    parts = {
        "title": f"functa: {data['name']}",
        "style": _template("viewer.css"),
        "worker": "\n".join(map(_template, IN_WORKER)),
        "data": json.dumps(data),
        "script": "\n".join(map(_template, IN_PAGE)),
    }
    # "<" stays out of the data, whose names could otherwise end its element; the title is text.
    parts["data"] = parts["data"].replace("<", "\\u003c")
    parts["title"] = parts["title"].replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _template("viewer.html"))


def _template(name):
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _floats(array):
    return _base64(np.asarray(array, "<f4"))


def _base64(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


if __name__ == "__main__":
    cli.run(main, Config)
