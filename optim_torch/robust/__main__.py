"""Which labels are wrong? Flip some at random, find them, train without them.

Five methods see the same features and labels and are not told how many are wrong: the path of the
mean-shift model, knockoffs (at most a share --q of what is kept is wrong, in expectation), the
residual of least squares, the loss of logistic regression, and confident learning. With --noise 0
nothing is flipped, and the labels of the data set itself are suspected: try it on your own images.
Results: summary.json, suspicious.csv (first seed, most suspicious first) and their picture.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from groundfloor import checks, cli, output, plots, tables
from groundfloor.checks import Count, InnerShare, Seed, ShareBelowOne
from groundfloor.data.config import SOURCE, DataConfig
from groundfloor.errors import UserError
from groundfloor.runs import Progress, Run, spread
from optim_torch.robust import label_rivals
from optim_torch.robust.labels import NoisyLabelSelector

NOT_IDENTITY = (*SOURCE, *output.FIELDS)
SHOWN = 50  # labels in the picture
HEADINGS = {
    "precision": "precision, %",
    "recall": "recall, %",
    "auc": "AUC, %",
    "kept": "kept, %",
    "wrong_kept": "wrong among kept, %",
    "logistic": "test: logistic, %",
    "neighbours": "test: neighbours, %",
}


@dataclass(frozen=True)
class Config(DataConfig, output.Output):
    """The data, the wrong labels, and what the methods see."""

    images: Count | None = None
    """Use at most this many images of train and of test; none uses all."""
    noise: ShareBelowOne = 0.3
    """Share of the training labels that is made wrong."""
    flips: Literal["symmetric", "pair"] = "symmetric"
    """A wrong label is any other class, or the next one."""
    q: InnerShare = 0.1
    """Share of wrong labels among those that the knockoffs keep."""
    columns: Count = 200
    """Features: Nystroem's of a Gaussian kernel on the pixels."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of flips, features and methods."""

    def __post_init__(self):
        super().__post_init__()
        once = len(set(self.seeds)) == len(self.seeds) > 0
        checks.require(once, "seeds", self.seeds, "give each once, and one at least")


PRESETS = {
    "digits": Config(),
    "mnist": Config(dataset="mnist", images=4_000),
    "cifar10": Config(dataset="cifar10", images=4_000),
}


def main(config, preset):
    """Compare the methods, write the suspects of the first seed; returns the summary."""
    plots.use(config.figures)
    data_set = config.load(images=config.images, val_fraction=0)
    data_set.require(classes=2, test=1)
    run = Run.of(
        "robust",
        preset,
        config,
        data_set,
        not_identity=NOT_IDENTITY,
        removed={"skip_damaged": False},
    )
    if run.summary() is None:
        train = data_set.train
        print(f"{len(train):,} labels, {config.noise:.0%} made wrong, seeds {config.seeds}")
        methods = dict(label_rivals.METHODS)
        methods["knockoffs"] = partial(label_rivals.knockoffs, q=config.q)
        finished = {row["seed"]: row["rows"] for row in run.rows()}
        with Progress(len(config.seeds), "seed", start=len(finished)) as progress:
            for seed in config.seeds:
                if seed in finished:
                    continue
                codes, features, test_features = noisy(config, data_set, seed)
                test_codes = data_set.test.labels
                arrays = features, codes, train.labels, test_features, test_codes
                finished[seed] = label_rivals.compare(*arrays, methods, seed)
                if seed == config.seeds[0]:
                    suspects(run, train, codes, features)
                run.log(seed=seed, rows=finished[seed])
                progress.advance(1)
        rows = [row for seed in config.seeds for row in finished[seed]]
        run.write_summary(seeds=list(config.seeds), table=over_seeds(rows))
    show(run, config)
    return run.summary()


def noisy(config, data_set, seed):
    """(codes (n,) with wrong ones, features (n, d), those of test); UserError where a class has too
    few labels for the methods."""
    train, test = data_set.train, data_set.test
    missing = np.flatnonzero(np.bincount(train.labels, minlength=data_set.num_classes) == 0)
    if len(missing):
        raise UserError(f"{data_set.name} has no image of class {missing[0]} in train")
    random = np.random.default_rng(seed)
    codes = label_rivals.flipped(
        train.labels, data_set.num_classes, config.noise, config.flips, random
    )
    counts = np.bincount(codes, minlength=data_set.num_classes)
    if counts.min() < label_rivals.FOLDS:
        raise UserError(
            f"class {counts.argmin()} has {counts.min()} labels after the flips of seed {seed}; "
            f"the methods need {label_rivals.FOLDS} of each class: give more --images or less "
            "--noise"
        )
    pixels = [split.images.reshape(len(split), -1) / np.float32(255) for split in (train, test)]
    return codes, *label_rivals.kernel_features(*pixels, config.columns, seed)


def over_seeds(rows):
    """One row a method: mean and standard deviation over seeds."""
    table = []
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        values = {key: [row[key] for row in own if row.get(key) is not None] for key in HEADINGS}
        table.append(
            {"method": name, **{key: spread(each) for key, each in values.items() if each}}
        )
    return table


def suspects(run, train, codes, features):
    """suspicious.csv and figures/suspicious.png: all labels in order, the first ones in sight."""
    model = NoisyLabelSelector().fit(features, codes)
    rows = [
        {
            "id": int(train.ids[row]),
            "label": int(codes[row]),
            "fitted": int(model.fitted_[row]),
            "true": int(train.labels[row]),
            "entry": float(model.entry_[row]),
            "suspicious": int(not model.clean_[row]),
        }
        for row in model.order_
    ]
    tables.write(run.path("suspicious"), rows, "csv")
    path = run.path("figures", "suspicious.png")
    with plots.figure(path, 5, SHOWN // 5, size=(10, 6.4)) as (picture, axes):
        picture.suptitle(
            f"The {SHOWN} most suspicious of {len(codes):,} labels: label → what the fit favours; "
            "red: the label is wrong"
        )
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, at, row in zip(axes.flat, model.order_, rows, strict=False):
            ax.imshow(plots.as_rgb(train.images[at]))
            wrong = row["label"] != row["true"]
            told = f"{row['label']} → {row['fitted']}"
            ax.set_title(told, color="firebrick" if wrong else "black", fontsize=9)


def show(run, config):
    """Print the table: wrong labels found, and what is learned without them. Write it if asked."""
    rows = []
    for row in run.summary()["table"]:
        line = {"method": row["method"]}
        for key, heading in HEADINGS.items():
            line[heading] = text(row.get(key))
        rows.append(line)
    print(f"\n{tables.as_text(rows)}")
    tables.write(run.path("table"), rows, config.table)
    print(f"\n{run.folder}: summary.json, suspicious.csv, figures/")


def text(value):
    """A share over seeds, in %."""
    if value is None:
        return "-"
    std = "" if value["std"] is None else f" ± {100 * value['std']:.1f}"
    return f"{100 * value['mean']:.1f}{std}"


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
