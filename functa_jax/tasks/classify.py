"""Which class? Classifiers on latents, and the same on PCA and on pixels.

    python -m functa_jax.tasks.classify --run runs/meta_train-digits
    python -m functa_jax.tasks.classify --run runs/meta_train-mnist --steps 5000 --rows 20000
    python -m functa_jax.tasks.classify --run RUN --augment 2048      fits as it trains
    python -m functa_jax.tasks.classify --run RUN --functaset RUN/functaset-x50.npz \\
        --steps 100000 --batch 512 --ema 0.9999                             functa's own, for a GPU

Logistic regression and SVM (scikit-learn); an MLP; on grids of latents a transformer and a ConvNet,
which also sees pixels. Settings of each, and the classifier to be used, are chosen on validation
or, where it is small, by cross-validation (selection.py): the same candidates for latents, PCA
(with as many numbers, and with all) and pixels. Only then are test labels looked at, once.

Augmented images can only become latents by fitting them. `functa_jax.export --copies` does so
beforehand; --augment does so as training goes, so that no file of millions of latents is needed.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from sklearn.metrics import confusion_matrix

from functa_jax.evaluation import classification
from functa_jax.tasks import task as tasks
from functa_jax.tasks.classification import features, selection
from groundfloor import checks, cli
from groundfloor.checks import (
    LARGEST,
    Count,
    CountOrZero,
    Interval,
    NotNegative,
    Positive,
    ShareBelowOne,
)
from groundfloor.errors import UserError
from groundfloor.plots import figure

Kind = Literal["logistic regression", "SVM", "MLP", "transformer", "ConvNet"]
COLOURS = {"latents": "C0", "PCA": "k", "whole PCA": "0.6", "pixels": "C1"}


@dataclass(frozen=True)
class Config(tasks.TaskConfig):
    """Which classifiers, their size, and how they are trained."""

    classifiers: tuple[Kind, ...] = ("logistic regression", "SVM", "MLP", "transformer", "ConvNet")
    """Classifiers to compare."""
    rows: Annotated[int, Interval(2, LARGEST)] = 20_000
    """Training images for logistic regression and SVM, at most."""

    steps: Count = 200
    """Training steps of a network."""
    search_steps: Count = 50
    """Training steps of each setting that is tried, if there are several."""
    batch: Count = 128
    """Examples in a step."""
    rate: Positive = 1e-3
    """Highest learning rate of AdamW."""
    decay: NotNegative = 0.1
    """Weight decay of AdamW."""
    smoothing: ShareBelowOne = 0.1
    """Label smoothing: share of a label that is spread over all classes."""
    ema: ShareBelowOne = 0.99
    """Decay of the moving average of weights, which is what is evaluated."""

    normalise: tuple[Literal["scalar", "channel"], ...] = ("scalar", "channel")
    """Settings to try: one mean and scale for all numbers, or one for each (in cells: channel)."""
    mixup: tuple[NotNegative, ...] = (0.5,)
    """Settings to try: parameter of mixup's Beta distribution, 0 for none."""
    noise: NotNegative = 0.05
    """Gaussian noise on examples, in their standard deviations."""
    drop: ShareBelowOne = 0.1
    """Probability that a cell of a grid is set to zero in training."""
    augment: CountOrZero = 0
    """Augmented images fitted before every 50 steps, as training goes; 0 for none."""
    flip: bool | None = None
    """Mirror augmented images left-right half of the time; default yes, but not for digits."""
    pad: CountOrZero | None = None
    """Pixels that augmented images are shifted by, at most; default an eighth of the side."""

    mlp_width: Count = 1024
    """Units in each hidden layer of the MLP."""
    mlp_depth: Count = 3
    """Hidden layers of the MLP."""
    width: Count = 128
    """Numbers in each token of the transformer."""
    blocks: Count = 12
    """Blocks of the transformer."""
    heads: Count = 16
    """Heads of the transformer; a divisor of --width."""
    channels: Count = 32
    """Channels of the ConvNet's first layer; a multiple of 4."""

    def __post_init__(self):
        checks.check(self)
        for field in ("flip", "pad"):
            given = getattr(self, field)
            checks.require(self.augment or given is None, field, given, "needs --augment")
        for field in ("classifiers", "normalise", "mixup"):
            given = getattr(self, field)
            checks.require(given, field, given, "needs at least one value")
        why = f"must divide --width {self.width}"
        checks.require(self.width % self.heads == 0, "heads", self.heads, why)
        checks.require(self.channels % 4 == 0, "channels", self.channels, "must be a multiple of 4")


def main(config):
    """Train, choose, test; writes classify.json and classify.png."""
    material = tasks.load(config)
    data = material.data
    tasks.require(data, "nothing to classify", classes=2, test=1)
    side = min(data.train.images.shape[1:3])
    why = f"images of {data.name} have only {side} pixels on a side"
    checks.refuse_beyond("pad", config.pad, side - 1, why)
    kinds = features.of_images(material, config.augment)
    planned = [(k, name) for k in kinds for name in config.classifiers if applies(name, k)]
    if not any(kind.name == "latents" for kind, _ in planned):
        raise UserError(f"{config.classifiers[0]} needs a grid of latents; this run has vectors")
    tasks.say_unused(config, unused(config, {name for _, name in planned}, kinds))
    known = selection.Known(data, config.seed)
    if not classification.possible(known.labels):
        raise tasks.NotForThese(f"{data.name} has not two images of each of two classes in train")
    print(
        f"{len(planned)} classifiers of {data.name}, chosen {known.said()}, for "
        f"{len(data.test):,} test images; networks take {config.steps:,} steps of {config.batch}"
        f"{', once more for each fold' * known.folded}; writing {material.path('classify.json')}",
        flush=True,
    )
    entries = []
    for kind, name in planned:
        if name in selection.SHALLOW:
            entry = selection.shallow(config, known, kind, name)
        else:
            entry = selection.network(config, material, known, kind, name)
        entries.append(entry)
        print(
            f"{kind.name}, {name}: {100 * entry.accuracy:.2f} % of what it had not seen "
            f"({entry.settings}), {entry.seconds:.0f} s",
            flush=True,
        )
    chosen = {k.name: selection.best([e for e in entries if e.kind is k]) for k in kinds}
    predicted = [entry.predict(entry.kind.test) for entry in entries]  # once, all is chosen
    labels = data.test.labels
    answers = {name: predicted[entries.index(entry)] for name, entry in chosen.items() if entry}
    rows = [
        row(entry, classes == labels, answers["latents"] == labels, entry in chosen.values())
        for entry, classes in zip(entries, predicted, strict=True)
    ]
    draw(material.path("classify.png"), rows, labels, answers["latents"], data.num_classes)
    remarks = remarks_on(config, material, known, entries, chosen, answers)
    tasks.report(material, "classify", config, rows, ["classify.png"], remarks)


def applies(name, kind):
    """Whether a classifier can read these features: a transformer reads cells, of latents."""
    grid = kind.test.ndim == 4
    if name == "transformer":
        return grid and kind.name == "latents"
    return grid or name != "ConvNet"


def unused(config, names, kinds):
    """{field: why it has no effect} for classifiers of these names on these kinds of features."""
    of = {
        "MLP": "mlp_width mlp_depth",
        "transformer": "width blocks heads",
        "ConvNet": "channels",
    }
    found = {
        field: f"no {name} is trained"
        for name, fields in of.items()
        if name not in names
        for field in fields.split()
    }
    if not names & {*selection.SHALLOW}:
        found["rows"] = "neither logistic regression nor SVM is trained"
    if names <= {*selection.SHALLOW}:
        fields = "steps search_steps batch rate decay smoothing ema normalise mixup noise drop"
        return found | dict.fromkeys([*fields.split(), "augment"], "no network is trained")
    if len(config.mixup) == 1 and all(len(selection.settings_of(config, k)) == 1 for k in kinds):
        found["search_steps"] = "there is one setting to try"
    if kinds[0].test.ndim != 4:
        found["drop"] = "these latents are vectors, without cells"
    return found


# ---- the report ----


def row(entry, right, latents, chosen):
    """A row of the table. right, latents bool (n,): test images that this classifier and the one
    chosen on latents get right."""
    low, high = classification.wilson(right.sum(), len(right))
    return {
        "features": entry.kind.name,
        "numbers": entry.kind.numbers,
        "classifier": entry.name,
        "settings": entry.settings,
        "examples": entry.rows,
        "unseen %": 100 * entry.accuracy,
        "test %": 100 * float(right.mean()),
        "low": 100 * low,
        "high": 100 * high,
        "p": classification.mcnemar(latents, right)[2],
        "seconds": round(entry.seconds, 1),
        "chosen": "*" if chosen else "",
    }


def remarks_on(config, material, known, entries, chosen, answers):
    """Sentences that a reader of the table needs."""
    labels = material.data.test.labels
    remarks = [
        f"* chosen {known.said()}: the most right of what it had not seen (unseen %), of equals "
        f"the lower log-loss. low, high: 95 % interval (Wilson) of {len(labels):,} test images; p: "
        "McNemar's exact test against the one chosen on latents. PCA and the functa know train "
        f"images, not their labels. One seed ({config.seed})",
    ]
    for name, answer in answers.items():
        if name != "latents":
            a, b, p = classification.mcnemar(answers["latents"] == labels, answer == labels)
            remarks.append(
                f"chosen on latents ({chosen['latents'].name}) against {name} "
                f"({chosen[name].name}): {a} test images right only by latents, {b} only by "
                f"{name}, p = {p:.2g} (McNemar)" + ", not told apart" * (p > 0.05)
            )
    ends = [f"{e.kind.name}, {e.name}: {' and '.join(e.ends)}" for e in entries if e.ends]
    if ends:
        remarks.append(f"chosen at an end of what was tried: {'; '.join(ends)}")
    if material.functa.config.grid is None and {"transformer", "ConvNet"} & {*config.classifiers}:
        remarks.append("transformer and ConvNet need a grid of latents; here they are vectors")
    copies = len(material.functaset.train) // len(material.data.train) - 1
    if copies:
        remarks.append(
            f"networks on latents saw {copies} augmented copies of each image, those on PCA and "
            "pixels 2,048 new ones before every 50 steps"
        )
    if config.augment:
        fitted = config.augment * -(-config.steps // 50)
        remarks.append(f"networks saw augmented images: {fitted:,} fitted as training went")
    return remarks


def draw(path, rows, labels, answer, classes):
    """Accuracies with their intervals, and the confusion matrix of the chosen on latents."""
    counts = confusion_matrix(labels, answer, labels=np.arange(classes))
    height = max(3.4, 0.24 * len(rows) + 0.8)
    with figure(path, 1, 2, size=(9.2, height), width_ratios=(5, 4)) as (_, (left, right)):
        for place, r in enumerate(rows):
            test, colour = r["test %"], COLOURS[r["features"]]
            errors = [[max(0, test - r["low"])], [max(0, r["high"] - test)]]
            face = colour if r["chosen"] else "white"
            left.errorbar(
                test, place, xerr=errors, fmt="o", color=colour, mfc=face, ms=6, capsize=2, lw=1
            )
        names = [f"{r['features']}: {r['classifier']}" for r in rows]
        left.set_yticks(range(len(rows)), names)
        left.set_ylim(len(rows) - 0.5, -0.5)
        left.set(xlabel="test accuracy (%), 95 % interval; filled: chosen")
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        right.imshow(shares**0.5, cmap="Blues", vmin=0, vmax=1)  # errors, though rare, are seen
        if classes <= 20:
            for (i, j), count in np.ndenumerate(counts):
                if count:
                    colour = "white" if shares[i, j] > 0.4 else "black"
                    right.text(j, i, count, ha="center", va="center", color=colour, fontsize=7)
            right.set(xticks=range(classes), yticks=range(classes))
        right.grid(False)
        name = next(r["classifier"] for r in rows if r["chosen"] and r["features"] == "latents")
        right.set(xlabel="predicted", ylabel="true", title=f"test images: latents, {name}")


if __name__ == "__main__":
    cli.run(main, Config)
