"""Which class? Classifiers on latents, and the same on PCA and on pixels.

    python -m functa_jax.tasks.classify --run runs/meta_train-digits
    python -m functa_jax.tasks.classify --run runs/meta_train-mnist --steps 5000 --rows 20000
    python -m functa_jax.tasks.classify --run RUN --augment 2048      fits as it trains
    python -m functa_jax.tasks.classify --run RUN --functaset RUN/functaset-x50.npz \\
        --steps 100000 --batch 512 --ema 0.9999                             functa's own, for a GPU

Logistic regression and SVM (scikit-learn); an MLP; on grids of latents a transformer and a ConvNet,
which also sees pixels. Of each, a few settings are tried on validation, in short trainings; the
best is trained in full. The classifier to be used is chosen on validation too, and only then are
test labels looked at, once.

Augmented images can only become latents by fitting them. `functa_jax.export --copies` does so
beforehand; --augment does so as training goes, so that no file of millions of latents is needed.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import log_softmax
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from common import cli
from common.errors import UserError
from common.plots import figure
from common.runs import Progress
from functa_jax import classification, evaluate
from functa_jax.exporter import Augmentation
from functa_jax.tasks import features
from functa_jax.tasks import material as tasks

Name = Literal["logistic regression", "SVM", "MLP", "transformer", "ConvNet"]
COLOURS = {"latents": "C0", "PCA": "k", "pixels": "C1"}


@dataclass(frozen=True)
class Config(tasks.TaskConfig):
    """Which classifiers, their size, and how they are trained."""

    classifiers: tuple[Name, ...] = ("logistic regression", "SVM", "MLP", "transformer", "ConvNet")
    """Classifiers to compare."""
    rows: int = 20_000
    """Training images for logistic regression and SVM, at most."""

    steps: int = 200
    """Training steps of a network."""
    search_steps: int = 50
    """Training steps of each setting that is tried on validation, if there are several."""
    batch: int = 128
    """Examples in a step."""
    rate: float = 1e-3
    """Highest learning rate of AdamW."""
    decay: float = 0.1
    """Weight decay of AdamW."""
    smoothing: float = 0.1
    """Label smoothing: share of a label that is spread over all classes."""
    ema: float = 0.99
    """Decay of the moving average of weights, which is what is evaluated."""

    normalise: tuple[Literal["scalar", "channel"], ...] = ("scalar", "channel")
    """Settings to try: one mean and scale for all numbers, or one for each (in cells: channel)."""
    mixup: tuple[float, ...] = (0.5,)
    """Settings to try: parameter of mixup's Beta distribution, 0 for none."""
    noise: float = 0.05
    """Gaussian noise on examples, in their standard deviations."""
    drop: float = 0.1
    """Probability that a cell of a grid is set to zero in training."""
    augment: int = 0
    """Augmented images fitted before every 50 steps, as training goes; 0 for none."""
    flip: bool | None = None
    """Mirror augmented images left-right half of the time; default yes, but not for digits."""
    pad: int | None = None
    """Pixels that augmented images are shifted by, at most; default an eighth of the side."""

    mlp_width: int = 1024
    """Units in each hidden layer of the MLP."""
    mlp_depth: int = 3
    """Hidden layers of the MLP."""
    width: int = 128
    """Numbers in each token of the transformer."""
    blocks: int = 12
    """Blocks of the transformer."""
    heads: int = 16
    """Heads of the transformer; a divisor of --width."""
    channels: int = 32
    """Channels of the ConvNet's first layer; a multiple of 4."""

    def __post_init__(self):
        at_least = {
            0: "noise decay augment seed",
            1: "rows steps search_steps batch mlp_width mlp_depth width blocks heads channels",
        }
        for least, fields in at_least.items():
            for field in fields.split():
                self._require(getattr(self, field) >= least, field, f"must be at least {least}")
        self._require(self.rate > 0, "rate", "must be positive")
        for field in ("smoothing", "ema", "drop"):
            self._require(0 <= getattr(self, field) < 1, field, "must be in [0, 1)")
        self._require(self.pad is None or self.pad >= 0, "pad", "must not be negative")
        for field in ("flip", "pad"):
            given = getattr(self, field) is not None
            self._require(self.augment or not given, field, "needs --augment")
        for field in ("classifiers", "normalise", "mixup"):
            self._require(getattr(self, field), field, "needs at least one value")
        self._require(min(self.mixup) >= 0, "mixup", "must not be negative")
        self._require(self.width % self.heads == 0, "heads", f"must divide --width {self.width}")
        self._require(self.channels % 4 == 0, "channels", "must be a multiple of 4")

    def _require(self, condition, field, message):
        if not condition:
            flag, value = field.replace("_", "-"), getattr(self, field)
            raise ValueError(f"--{flag} {value}: {message}")


def main(config):
    """Train, choose on validation, test; writes classify.json and classify.png."""
    material = tasks.load(config)
    data = material.data
    if not data.num_classes or not len(data.val):
        raise UserError(f"{data.name} has no labels, or no validation images to choose with")
    kinds = features.of_images(material, config.augment)
    planned = [(k, name) for k in kinds for name in config.classifiers if applies(name, k)]
    if not any(kind.name == "latents" for kind, _ in planned):
        raise UserError(f"{config.classifiers[0]} needs a grid of latents; this run has vectors")
    print(
        f"{len(planned)} classifiers of {data.name}: {len(data.train):,} training images, "
        f"{len(data.val):,} for choosing, {len(data.test):,} for the test; networks take "
        f"{config.steps:,} steps of {config.batch}; writing {material.path('classify.json')}",
        flush=True,
    )
    entries = []
    for kind, name in planned:
        entries.append((shallow if name in SHALLOW else network)(config, material, kind, name))
        entry = entries[-1]
        print(
            f"{kind.name}, {name}: {100 * entry.val:.2f} % of validation ({entry.settings}), "
            f"{entry.seconds:.0f} s",
            flush=True,
        )
    chosen = {k.name: best([e for e in entries if e.kind is k]) for k in kinds}
    predicted = [entry.predict(entry.kind.test) for entry in entries]  # once, all is chosen
    labels = data.test.labels
    rows = [
        row(entry, classes == labels, entry in chosen.values())
        for entry, classes in zip(entries, predicted, strict=True)
    ]
    answers = {name: predicted[entries.index(entry)] for name, entry in chosen.items() if entry}
    draw(material.path("classify.png"), rows, labels, answers["latents"], data.num_classes)
    remarks = remarks_on(config, material, chosen, answers, labels)
    tasks.report(material, "classify", config, rows, ["classify.png"], remarks)


# ---- classifiers ----


def applies(name, kind):
    """Whether a classifier can read these features: a transformer reads cells, of latents."""
    grid = kind.test.ndim == 4
    if name == "transformer":
        return grid and kind.name == "latents"
    return grid or name != "ConvNet"


class Entry(NamedTuple):
    """A trained classifier: predict(features of one split) -> classes (n,).

    val: accuracy; loss: mean cross-entropy there if known, which decides between equals; rows:
    training examples.
    """

    kind: features.Features
    name: str
    settings: str
    rows: int
    val: float
    loss: float
    seconds: float
    predict: Callable


def best(entries):
    """The entry with the highest accuracy on validation, the first one of equals; None of none."""
    return max(entries, key=lambda entry: entry.val, default=None)


SHALLOW = ("logistic regression", "SVM")


def shallow(config, material, kind, name):
    """The best of the settings that classification.GRIDS has for `name`, as an Entry.

    Chosen by cross-validation on train and validation and fitted to both, without augmented copies.
    """
    began, data = time.monotonic(), material.data
    x = evaluate.as_rows(np.concatenate([kind.train[: len(data.train)], kind.val]))
    labels = np.concatenate([data.train.labels, data.val.labels])
    tried, model, rows = classification.choose(x, labels, config.rows, config.seed, (name,))
    settings = str(tried.candidate).removeprefix(f"{name}, ")
    seconds = time.monotonic() - began
    entry = Entry(kind, name, settings, rows, tried.accuracy, tried.loss, seconds, None)
    return entry._replace(predict=lambda x: model.predict(evaluate.as_rows(x)))


def network(config, material, kind, name):
    """The network `name`, with the settings that are best on validation, as an Entry."""
    from functa_jax.tasks import classifiers

    began = time.monotonic()
    shape, classes = kind.test.shape[1:], material.data.num_classes
    build = {
        "MLP": partial(classifiers.MLP, kind.numbers, classes, config.mlp_width, config.mlp_depth),
        "transformer": partial(
            classifiers.Transformer, shape, classes, config.width, config.blocks, config.heads
        ),
        "ConvNet": partial(classifiers.ConvNet, shape, classes, config.channels),
    }[name]
    untrained = classifiers.fresh(lambda rngs: build(rngs=rngs), config.seed)
    tried = settings_of(config, kind)
    total = config.steps + (len(tried) > 1) * len(tried) * config.search_steps
    with Progress(total, "step") as progress:
        fit = partial(_fit, config, material, kind, name, untrained, progress)
        setting = tried[0]
        if len(tried) > 1:
            found = {setting: fit(setting, config.search_steps) for setting in tried}
            setting = max(found, key=lambda s: (found[s].val, -found[s].loss))
        entry = fit(setting, config.steps)
    return entry._replace(seconds=time.monotonic() - began)


def settings_of(config, kind):
    """[(normalisation, mixup)] to try; with a single channel both normalisations are the same."""
    normalise = config.normalise[: 1 if kind.test.shape[-1] == 1 else None]
    return list(itertools.product(normalise, config.mixup))


def _fit(config, material, kind, name, untrained, progress, setting, steps):
    from functa_jax.tasks import classifiers

    (normalise, mixup), data = setting, material.data
    mean, std = features.scales(kind.train, normalise)

    def prepared(x):
        return np.float32((x - mean) / std)

    x, y = prepared(kind.train), np.resize(data.train.labels, len(kind.train))
    refresh = None
    if kind.stream:
        flip, pad = config.flip, config.pad
        if not config.augment:  # as the functaset's copies
            made = material.functaset.metadata.get("augmentation", {})
            flip, pad = made.get("flip"), made.get("pad")
        augmentation = Augmentation.of(data, flip, pad, seed=config.seed)
        fitted, sizes = (lambda i: prepared(kind.of(i))), {"first": len(x), "rows": kind.stream}
        refresh = features.Stream(data.train.images, fitted, augmentation, **sizes)
        x, y = np.concatenate([x, x[: len(data.train)]]), np.append(y, data.train.labels)
    cells = kind.name == "latents" and kind.test.ndim == 4
    recipe = classifiers.Recipe(
        steps=steps,
        rate=config.rate,
        decay=config.decay,
        smoothing=config.smoothing,
        ema=config.ema,
        shares=classifiers.mixing_shares(mixup),
        noise=config.noise,
        drop=config.drop * cells,
    )
    trained = classifiers.train(
        untrained,
        recipe,
        x,
        y,
        classes=data.num_classes,
        batch=config.batch,
        seed=config.seed,
        refresh=refresh,
        advanced=lambda count, loss: progress.advance(count, **{name: f"loss {loss:.3f}"}),
    )
    logits = trained.logits(prepared(kind.val)).astype(np.float64)
    losses = -log_softmax(logits, axis=1)[np.arange(len(logits)), data.val.labels]
    settings = f"{normalise}, mixup {mixup:g}"
    score = float(np.mean(logits.argmax(1) == data.val.labels))
    entry = Entry(kind, name, settings, len(kind.train), score, losses.mean(), 0.0, None)
    return entry._replace(predict=lambda x: trained.logits(prepared(x)).argmax(1))


# ---- the report ----


def interval(right, count):
    """Wilson's 95 % interval of a share, `right` of `count`, in percent."""
    found = binomtest(int(right), count).proportion_ci(0.95, "wilson")
    return 100 * found.low, 100 * found.high


def row(entry, right, chosen):
    """A row of the table; right (n,): which test images were classified well."""
    low, high = interval(right.sum(), len(right))
    return {
        "features": entry.kind.name,
        "numbers": entry.kind.numbers,
        "classifier": entry.name,
        "settings": entry.settings,
        "examples": entry.rows,
        "val %": 100 * entry.val,
        "test %": 100 * float(right.mean()),
        "low": low,
        "high": high,
        "seconds": round(entry.seconds, 1),
        "chosen": "*" if chosen else "",
    }


def mcnemar(first, second):
    """Images that only one of two classifiers gets right, (a, b), and the exact two-sided p-value
    of McNemar's test that both are equally likely; first, second: bool (n,)."""
    a, b = int((first & ~second).sum()), int((second & ~first).sum())
    return a, b, float(binomtest(a, a + b).pvalue) if a + b else 1.0


def remarks_on(config, material, chosen, answers, labels):
    """Sentences that a reader of the table needs."""
    remarks = [
        f"* chosen on {len(material.data.val):,} validation images; low, high: 95 % interval "
        f"(Wilson) of {len(labels):,} test images; one seed ({config.seed})",
    ]
    for name, answer in answers.items():
        if name != "latents":
            a, b, p = mcnemar(answers["latents"] == labels, answer == labels)
            remarks.append(
                f"chosen on latents ({chosen['latents'].name}) against {name} "
                f"({chosen[name].name}): {a} test images right only by latents, {b} only by "
                f"{name}, p = {p:.2g} (McNemar)"
            )
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
        left.set(xlabel="test accuracy (%), 95 % interval; filled: chosen on validation")
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
