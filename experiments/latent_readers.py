"""Which class? One strong reader for latents, for PCA and for pixels of CIFAR-10.

    python -m experiments.latent_readers quick      latents alone, once: 40 minutes of one core
    python -m experiments.latent_readers grid       convolutions on the grid of cells: 4 hours
    python -m experiments.latent_readers few        two kinds with 50 to 1,000 labels: 90 minutes
    python -m experiments.latent_readers decoded    convolutions on decoded pictures: a day

grid: a ConvNet of 1.0 M parameters reads 8x8 cells: latents (16 numbers a cell), PCA of 4x4
patches (16 numbers a cell, so as many), and the patches themselves (48 numbers). All are seen with
the same copies: every image mirrored in every other epoch (mirrored images are encoded once),
shifted by a cell, a tenth of the cells dropped.
few: the grid's readers, and an SVM (RBF kernel, C = 10) without copies, with so many labels of as
many images of each class, drawn anew by each seed. Latents and PCA know all training images.
decoded: the network and recipe of `python -m optim_torch.study cifar10-94` see pictures of 32x32
made from latents, those made from PCA with as many numbers, with a quarter of them, and the pixels.

Nothing is tuned for any of the kinds: one recipe, chosen on validation of latents for grid and on
pixels by its author (Jordan 2024) for decoded. Test is looked at once. McNemar's test compares the
answers of each kind's first seed with those of the latents'.
Of grid there is seed 0 without the patches; of decoded seed 0 without the quarter, by half the
width and 423 steps (--seeds 0 --steps 423 --width 0.5).
Results: latent_readers_NAME.json and, with several numbers of labels, latent_readers_NAME.png.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.svm import SVC

import functa_jax
from experiments import runner
from experiments.latent_grids import FOUR, PIECE, Grids, grid_kinds
from functa_jax.evaluation import reconstruction
from functa_jax.evaluation.classification import mcnemar
from groundfloor import checks, cli, npz
from groundfloor.checks import Count, Positive, Seed
from groundfloor.data import datasets
from groundfloor.data.config import DataConfig
from groundfloor.errors import UserError
from groundfloor.plots import figure
from groundfloor.pytorch import batches
from groundfloor.pytorch.autocast import autocast
from groundfloor.runs import Progress, Run, content_hash, counted, spread
from optim_torch.study import search, trials
from optim_torch.study.__main__ import PLACE
from optim_torch.study.__main__ import PRESETS as STUDIES
from optim_torch.study.averaging import answering

HELD_OUT = 0.02  # of train, for validation
GRID = replace(
    STUDIES["cifar10-94"],
    layers=("c96", "r", "d192", "r", "m"),
    views=False,
    augment="none",  # `Grids.batch` does it
    steps=1800,
    batch_size=512,
    rates=(5.0,),
)


@dataclass(frozen=True, kw_only=True)
class Config(DataConfig, checks.Settings):
    """What is read, and how long."""

    dataset: str = "cifar10"
    """Data set, or a path: images of 32x32."""
    functa: Path = runner.RESULTS / "functa_cifar10-spatial-cpu.npz"
    """The functa (a functa.npz with a grid of latents) that encodes and decodes."""
    kinds: tuple[str, ...] = ()
    """What is read; none: all that this experiment has."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of weights and batches."""
    steps: Count = GRID.steps
    """Training steps of each reader; with fewer labels fewer in proportion, 200 at least."""
    width: Positive = 1.0
    """Widths of each reader, times the usual; half of them takes a quarter of the time."""
    labels: tuple[Count, ...] = ()
    """Numbers of labelled images, as many of each class; for grids. None: all, as they are."""
    out: Path | None = None
    """Folder for features and runs; default runs/latent_readers_NAME."""
    results: Path = runner.RESULTS
    """Folder for the table and the picture."""


PRESETS = {
    "grid": Config(),
    "quick": Config(kinds=("latents",), seeds=(0,)),
    "few": Config(labels=(50, 200, 1000), kinds=("latents", "PCA of patches")),
    "decoded": Config(steps=STUDIES["cifar10-94"].steps),
}
LEAST_STEPS = 200


def picture_kinds(functa, data):
    """{kind: function of images (n, 32, 32, 3) uint8 -> images as they are rebuilt, uint8}."""
    numbers = functa.config.numbers

    def bytes_of(rebuilt, images):
        return np.uint8(np.clip(np.rint(255 * np.asarray(rebuilt)), 0, 255)).reshape(images.shape)

    def decoded(images):
        return bytes_of(functa.decode(functa.encode(images)[0]), images)

    def projection(model):
        def projected(images):
            rows = reconstruction.pixel_rows(images)
            return bytes_of(model.inverse_transform(model.transform(rows)), images)

        return projected

    pca = {
        f"PCA, {count:,} numbers": projection(reconstruction.pca(data.train.images, count))
        for count in (numbers, numbers // 4)
    }
    return {"latents": decoded, **pca, "pixels": lambda images: images}


def features(path, kind, make, data, mirrored, origin):
    """{part: array} of one kind, kept in a file; made in pieces where it is missing. origin: what
    they are made of, a string; UserError if the file's are of another."""
    parts = {name: getattr(data, name).images for name in ("train", "val", "test")}
    if mirrored:
        parts["mirrored"] = data.train.images[:, :, ::-1]
    if not path.exists():
        made = {}
        with Progress(sum(map(len, parts.values())), "image") as progress:
            for name, images in parts.items():
                pieces = []
                for start in range(0, len(images), PIECE):
                    piece = make(images[start : start + PIECE])
                    pieces.append(piece if piece.dtype == np.uint8 else np.float16(piece))
                    progress.advance(len(piece), kind=kind)
                made[name] = np.concatenate(pieces)
        npz.write(path, {"origin": origin, **made})
    with np.load(path, allow_pickle=False) as file:
        if "origin" not in file or str(file["origin"]) != origin:
            raise UserError(f"{path} is of another functa or other images: delete it")
        return {name: file[name] for name in parts}


def psnr(made, data):
    """Mean of per-image PSNR of rebuilt test images, in dB; None for the images themselves."""
    errors = (np.float32(made["test"]) - np.float32(data.test.images)) / 255
    errors = np.square(errors).mean(axis=(1, 2, 3))
    return float(reconstruction.mean_psnr(errors)) if errors.all() else None


def trained(config, name, kind, data, images, study, setting, count):
    """A row of the table: one kind, all seeds; and the test answers of the first seed.

    count: labelled images; None: all.
    """
    stem = kind.replace(",", "").replace(" ", "-") + (f"-{count}" if count else "")
    if count:
        steps = max(LEAST_STEPS, study.steps * count // len(data.train))
        study = replace(study, steps=min(steps, study.steps))
    place = {*PLACE, "name", "out", "seeds", "dataset"}
    settings = {key: value for key, value in asdict(study).items() if key not in place}
    settings |= {"kind": kind, "functa": content_hash(config.functa), "labels": count}
    folder = (config.out or Path("runs") / f"latent_readers_{name}") / stem
    run = Run(folder, settings, data_fingerprint=images.fingerprint)
    print(f"{kind}{f', {count:,} labels' if count else ''}: {folder}", flush=True)
    truth, rows, predicted, shares = data.test.labels.numpy(), [], [], []
    with Progress(study.steps * len(config.seeds), "step") as progress:
        for seed in config.seeds:
            part = data.fewer(count, seed) if count else data
            trainer = trials.Trainer(study, part, run, progress)
            rows.append(trainer(setting, seed))
            predicted.append(answers(study, trainer.network(setting, seed), data))
            if count:
                shares.append(svm(part))
    row = {
        "kind": kind,
        "labels": count or len(data.train),
        "numbers": int(np.prod(data.test.pixels.shape[1:])),
        "parameters": rows[0]["parameters"],
        "val": spread(row["val"] for row in rows),
        "test": spread(float(np.mean(classes == truth)) for classes in predicted),
        "svm": spread(shares) if shares else None,
        "seconds": round(float(np.mean([row["seconds"] for row in rows]))),
    }
    return row, predicted[0]


def svm(data):
    """Share of the test images that an SVM on the standardised cells knows."""
    features = [part.pixels.flatten(1).float().numpy() for part in (data.train, data.test)]
    model = SVC(C=10.0, cache_size=1000).fit(features[0], data.train.labels.numpy())
    return float(model.score(features[1], data.test.labels.numpy()))


@torch.no_grad()
def answers(study, model, data):
    """Classes that a network gives the test images, (n,)."""
    model = answering(study, model).eval()
    parts = data.test.pixels.split(trials.EVALUATED)
    with autocast(torch.device("cpu"), study.precision):
        return torch.cat([model(data.inputs(part)).argmax(1) for part in parts]).numpy()


def main(config, name):
    """Encode, train and test what is missing; returns what the JSON holds."""
    images = config.load(val_fraction=HELD_OUT)
    images.require(classes=2, val=1, test=1)
    labels = {part: getattr(images, part).labels for part in ("train", "val", "test")}
    out = config.out or Path("runs") / f"latent_readers_{name}"
    functa = functa_jax.load(config.functa)
    shape, made_for = images.train.images.shape[1:], (*functa.resolution, functa.config.channels)
    if shape != made_for or shape != (32, 32, 3):
        raise UserError(f"{config.functa} is of images {made_for}, {images.name} has {shape}")
    grid = name != "decoded"
    if grid and functa.config.grid != shape[0] // FOUR:
        raise UserError(f"{config.functa} has no grid of {shape[0] // FOUR} x {shape[0] // FOUR}")
    if config.labels and not grid:
        raise UserError("--labels is for grids")
    most = images.num_classes * int(np.bincount(labels["train"]).min())
    wrong = [n for n in config.labels if n % images.num_classes or n > most]
    if wrong:
        needed = f"a multiple of {images.num_classes}, {most:,} at most"
        raise UserError(f"--labels {wrong[0]} must be {needed}")
    kinds = (grid_kinds if grid else picture_kinds)(functa, images)
    unknown = [kind for kind in config.kinds if kind not in kinds]
    if unknown:
        raise UserError(f"--kinds {unknown[0]}: this experiment has {', '.join(kinds)}")
    study = GRID if grid else STUDIES["cifar10-94"]
    study = replace(study, steps=config.steps, width=config.width)
    print(f"{counted(len(config.kinds or kinds), 'kind')}; writing to {out}", flush=True)
    origin = f"{'grid' if grid else name}, {content_hash(config.functa)}, {images.fingerprint}"
    rows, classes = [], {}
    for kind in config.kinds or kinds:
        path = out / f"{kind.replace(',', '').replace(' ', '-')}.npz"
        made = features(path, kind, kinds[kind], images, grid, origin)
        if grid:
            data = Grids.of(made, labels, images.num_classes)
        else:
            splits = [datasets.Split(made[part], labels[part], None) for part in labels]
            splits = [batches.on_device(split, torch.device("cpu")) for split in splits]
            normalise = batches.normalisation(splits[0], True)
            data = trials.Data(*splits, normalise, images.num_classes)
        setting = replace(search.base(study), rate=study.rates[0])
        study = trials.with_precision(study, setting, data, out / "precision.json")
        for count in config.labels or (None,):
            row, found = trained(config, name, kind, data, images, study, setting, count)
            classes[kind, row["labels"]] = found == labels["test"]
            rows.append(row | ({} if grid else {"psnr": psnr(made, images)}))
    for row in rows:
        first, right = (classes[k, row["labels"]] for k in (rows[0]["kind"], row["kind"]))
        row["p"] = mcnemar(first, right)[2] if row["kind"] != rows[0]["kind"] else None
        row["wrong_like_first"] = float((~right & ~first).sum() / max((~right).sum(), 1))
    if len(config.labels) > 1:
        draw(config.results / f"latent_readers_{name}.png", rows)
    path = config.results / f"latent_readers_{name}.json"
    facts = {
        "seeds": list(config.seeds),
        "steps": config.steps,
        "width": config.width,
        "rows": rows,
    }
    return runner.write(path, f"latent_readers {name}", facts)


def draw(path, rows):
    """Test accuracy over the number of labels, two lines a kind."""
    with figure(path, size=(5.5, 4)) as (_, axis):
        for i, kind in enumerate(dict.fromkeys(row["kind"] for row in rows)):
            mine = sorted((row for row in rows if row["kind"] == kind), key=lambda r: r["labels"])
            for reader, key, style in (("ConvNet", "test", "-"), ("SVM", "svm", ":")):
                axis.errorbar(
                    [row["labels"] for row in mine],
                    [100 * row[key]["mean"] for row in mine],
                    [100 * (row[key]["std"] or 0) for row in mine],
                    color=f"C{i}",
                    ls=style,
                    marker="o",
                    capsize=3,
                    label=f"{kind}, {reader}",
                )
        axis.set(xscale="log", xlabel="labelled training images", ylabel="test accuracy in %")
        axis.legend()


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
