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
from typing import Literal

from functa_jax.evaluation import classification
from functa_jax.tasks import task
from functa_jax.tasks.classification import features, report, selection
from groundfloor import checks, cli
from groundfloor.checks import AtLeastTwo, Count, CountOrZero, NotNegative, Positive, ShareBelowOne
from groundfloor.errors import UserError

Kind = Literal["logistic regression", "SVM", "MLP", "transformer", "ConvNet"]
# Fields of the Config that matter to networks alone.
NETWORK_FIELDS = [
    "steps",
    "search_steps",
    "batch",
    "rate",
    "decay",
    "smoothing",
    "ema",
    "normalise",
    "mixup",
    "noise",
    "drop",
    "augment",
]


@dataclass(frozen=True)
class Config(task.TaskConfig):
    """Which classifiers, their size, and how they are trained."""

    classifiers: tuple[Kind, ...] = ("logistic regression", "SVM", "MLP", "transformer", "ConvNet")
    """Classifiers to compare."""
    rows: AtLeastTwo = 20_000
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
        for field in ("classifiers", "normalise"):
            given = getattr(self, field)
            checks.require(given, field, given, "needs at least one value")
        why = f"must divide --width {self.width}"
        checks.require(self.width % self.heads == 0, "heads", self.heads, why)
        checks.require(self.channels % 4 == 0, "channels", self.channels, "must be a multiple of 4")


def main(config):
    """Train, choose, test; writes classify.json and classify.png and returns the report."""
    material = task.load(config)
    data = material.data
    task.require(data, "nothing to classify", classes=2, test=1)
    if material.functa.of_images:
        side = min(data.train.images.shape[1:3])
        why = f"images of {data.name} have only {side} pixels on a side"
        checks.refuse_beyond("pad", config.pad, side - 1, why)
    elif config.augment:
        raise UserError(f"--augment {config.augment}: {data.name} are no images, only these are")
    kinds = features.of_images(material, config.augment)
    planned = [(k, name) for k in kinds for name in config.classifiers if applies(name, k)]
    if not any(kind.name == "latents" for kind, _ in planned):
        raise UserError(f"{config.classifiers[0]} needs a grid of latents; this run has vectors")
    say_idle(config, {name for _, name in planned}, kinds)
    labelled = selection.Labelled(data, config.seed)
    if not classification.possible(labelled.labels):
        raise task.NotForThese(
            f"{data.name} has not two {data.noun}s of each of two classes in train"
        )
    print(
        f"{len(planned)} classifiers of {data.name}, chosen {labelled.how()}, for "
        f"{len(data.test):,} test {data.noun}s; networks take {config.steps:,} steps of "
        f"{config.batch}{', once more for each fold' * labelled.folded}; writing "
        f"{material.path('classify.json')}",
        flush=True,
    )
    entries = []
    for kind, name in planned:
        if name in selection.SHALLOW:
            entry = selection.shallow(config, labelled, kind, name)
        else:
            entry = selection.network(config, material, labelled, kind, name)
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
        report.row(entry, classes == labels, answers["latents"] == labels, entry in chosen.values())
        for entry, classes in zip(entries, predicted, strict=True)
    ]
    figure = material.path("classify.png")
    report.draw(figure, rows, labels, answers["latents"], data.num_classes)
    remarks = report.remarks_on(config, material, labelled, entries, chosen, answers)
    return task.report(material, "classify", config, rows, ["classify.png"], remarks)


def applies(name, kind):
    """Whether a classifier can read these features: a transformer reads cells, of latents."""
    grid = kind.test.ndim == 4
    if name == "transformer":
        return grid and kind.name == "latents"
    return grid or name != "ConvNet"


def say_idle(config, names, kinds):
    """Say which flags have no effect for classifiers of these names on these kinds of features."""
    networks = names - {*selection.SHALLOW}
    choices = max(len(selection.settings_of(config, kind)) for kind in kinds)
    vectors = kinds[0].test.ndim != 4
    rules = [
        ("MLP" not in names, ("mlp_width", "mlp_depth"), "as no MLP is trained"),
        ("transformer" not in names, ("width", "blocks", "heads"), "as no transformer is trained"),
        ("ConvNet" not in names, ("channels",), "as no ConvNet is trained"),
        (names == networks, ("rows",), "as neither logistic regression nor SVM is trained"),
        (not networks, NETWORK_FIELDS, "as no network is trained"),
        (networks and choices == 1, ("search_steps",), "as there is one setting to try"),
        (networks and vectors, ("drop",), "as these latents are vectors, without cells"),
    ]
    checks.say_idle(config, Config(config.run), rules)


if __name__ == "__main__":
    cli.run(main, Config)
