"""The report of classify: rows of its table, remarks, figure."""

import numpy as np
from sklearn.metrics import confusion_matrix

from functa_jax.evaluation import classification
from groundfloor.plots import COLOURS, WIDTH, figure


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


def remarks_on(config, material, labelled, entries, chosen, answers):
    """Sentences that a reader of the table needs."""
    labels, things = material.data.test.labels, f"{material.data.noun}s"
    remarks = [
        f"* chosen {labelled.how()}: the most right of what it had not seen (unseen %), of equals "
        f"the lower log-loss. low, high: 95 % interval (Wilson) of {len(labels):,} test {things}; "
        "p: McNemar's exact test against the one chosen on latents. PCA and the functa know train "
        f"{things}, not their labels. One seed ({config.seed})"
    ]
    for name, answer in answers.items():
        if name != "latents":
            a, b, p = classification.mcnemar(answers["latents"] == labels, answer == labels)
            remarks.append(
                f"chosen on latents ({chosen['latents'].name}) against {name} "
                f"({chosen[name].name}): {a} test {things} right only by latents, {b} only by "
                f"{name}, p = {p:.2g} (McNemar)" + ", not told apart" * (p > 0.05)
            )
    ends = [f"{e.kind.name}, {e.name}: {' and '.join(e.ends)}" for e in entries if e.ends]
    if ends:
        remarks.append(f"chosen at an end of what was tried: {'; '.join(ends)}")
    if material.functa.config.grid is None and {"transformer", "ConvNet"} & {*config.classifiers}:
        remarks.append("transformer and ConvNet need a grid of latents; here they are vectors")
    if material.copies:
        remarks.append(
            f"networks on latents saw {material.copies} augmented copies of each image, those on "
            "PCA and pixels as large a share of augmented images, 2,048 of them new before every "
            "50 steps"
        )
    if config.augment:
        fitted = min(config.augment, len(material.data.train)) * -(-config.steps // 50)
        remarks.append(f"networks saw augmented images: about {fitted:,} fitted as training went")
    return remarks


def draw(path, rows, labels, answer, classes):
    """Accuracies with their intervals, and the confusion matrix of the chosen on latents."""
    counts = confusion_matrix(labels, answer, labels=np.arange(classes))
    height = max(3.2, 0.2 * len(rows) + 0.8)
    with figure(path, 1, 2, size=(WIDTH, height), width_ratios=(5, 5)) as (_, (left, right)):
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
        left.set(xlabel="test accuracy in %, 95 % interval\nfilled: chosen")
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
        right.set(xlabel="predicted", ylabel="true", title=f"latents, {name}: test split")
