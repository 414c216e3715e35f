"""What latents are good for, on MNIST; digits in the appendix."""

import re

from experiments.report.results import db, holds, number, percent

COLUMNS = (
    ("denoise", "noise 0.05"),
    ("denoise", "noise 0.1"),
    ("denoise", "noise 0.2"),
    ("superresolve", "x 2"),
    ("superresolve", "x 4"),
    ("inpaint", "random 50 %"),
    ("inpaint", "random 80 %"),
    ("inpaint", "half"),
    ("inpaint", "box"),
)
LATENTS = "latents, diffusion prior"
WON = ("noise 0.1", "noise 0.2", "x 2", "x 4", "random 50 %", "random 80 %")


def facts(results):
    """Texts and tables of restoration, classification, generation and retrieval."""
    mnist, digits = (results(f"tasks_{name}.json")["tasks"] for name in ("mnist", "digits"))
    for task, column in COLUMNS:
        ahead = gain(mnist, task, column) > 0
        verb = "best" if column in WON else "not best"
        holds(ahead == (column in WON), f"latents are {verb} on MNIST, {task}, {column}")
    return {
        "restored": restored(mnist, 64),
        "restored_digits": restored(digits, 32),
        "digits_won": number(sum(gain(digits, *column) > 0 for column in COLUMNS), 0),
        "columns": number(len(COLUMNS), 0),
        **{
            f"gain_{name}": db(gain(mnist, task, column), 1)
            for name, task, column in (
                ("noise", "denoise", "noise 0.1"),
                ("noisier", "denoise", "noise 0.2"),
                ("double", "superresolve", "x 2"),
                ("fourfold", "superresolve", "x 4"),
                ("hidden", "inpaint", "random 50 %"),
            )
        },
        **noisier(mnist),
        "loss_weak": db(-gain(mnist, "denoise", "noise 0.05"), 1),
        "loss_half": db(-gain(mnist, "inpaint", "half"), 1),
        "loss_box": db(-gain(mnist, "inpaint", "box"), 1),
        **classified(mnist),
        **generated(mnist),
        **retrieved(mnist),
    }


def psnr_of(tasks, task, column):
    """{method: PSNR} of one column of a task."""
    return {row["method"]: row[column] for row in tasks[task]["rows"]}


def rivals(psnr):
    """Those without a functa."""
    return {name: value for name, value in psnr.items() if not name.startswith("latents")}


def gain(tasks, task, column):
    """How far latents with the diffusion prior are ahead of the best rival, in dB."""
    psnr = psnr_of(tasks, task, column)
    return psnr[LATENTS] - max(rivals(psnr).values())


def noisier(tasks):
    """Strong noise removed: by latents, by the best rival, and its name."""
    psnr = psnr_of(tasks, "denoise", "noise 0.2")
    others = rivals(psnr)
    best = max(others, key=others.get)
    return {"noisier": db(psnr[LATENTS]), "noisier_rival": db(others[best]), "noisier_name": best}


def restored(tasks, numbers):
    """Rows of PSNR over all columns; the best of each column is marked by a star."""
    fixed = (
        LATENTS,
        f"PCA, {numbers} numbers, diffusion prior",
        "PCA, all components, Gaussian prior",
    )
    columns = [psnr_of(tasks, task, column) for task, column in COLUMNS]
    rows = [[column[name] for column in columns] for name in fixed]
    without = [{k: v for k, v in rivals(c).items() if not k.startswith("PCA")} for c in columns]
    rows.append([max(column.values()) for column in without])
    best = [max(values) for values in zip(*rows, strict=True)]
    names = (
        "latents, diffusion prior",
        "PCA, as many numbers, diffusion prior",
        "PCA, all components (Wiener)",
        "best classical filter",
    )
    return [
        [name]
        + [
            ("*" if value == top else "") + number(value, 1)
            for value, top in zip(row, best, strict=True)
        ]
        for name, row in zip(names, rows, strict=True)
    ]


def classified(tasks):
    """Accuracy of the chosen classifiers."""
    rows = tasks["classify"]["rows"]
    latents, pca, pixels = (
        rows.row(features=name, chosen="*") for name in ("latents", "PCA", "pixels")
    )
    holds(pca["p"] > 0.05 > pixels["p"], "latents are told apart from pixels and not from PCA")
    holds(latents["test %"] > pixels["test %"], "latents classify better than pixels on MNIST")
    network = re.search(r"trained on the train images \(([\d.]+) % of test", features_of(tasks))
    network = float(network.group(1))
    holds(network > latents["test %"], "a ConvNet that reads pixels is ahead of both on MNIST")
    return {
        "class_latents": percent(latents["test %"] / 100),
        "class_pca": percent(pca["test %"] / 100),
        "class_pixels": percent(pixels["test %"] / 100),
        "class_network": percent(network / 100),
        "class_p_pca": number(pca["p"]),
        "class_p_pixels": number(pixels["p"], 3),
        "class_low": number(latents["low"], 1),
        "class_high": number(latents["high"], 1),
    }


def features_of(tasks):
    """What the generation task says of the network whose features it compares."""
    return tasks["generate"]["remarks"][0]


def generated(tasks):
    """Fréchet distances of samples."""
    rows = tasks["generate"]["rows"]
    latents = rows.row(images="functa, diffusion, DDPM, guidance 0.5")
    pca = rows.row(images="PCA, diffusion, DDPM, guidance 0.5")
    holds(latents["FID"] + latents["FID ±"] < pca["FID"] - pca["FID ±"], "samples: latents < PCA")
    simple = rows.row(images="functa, a Gaussian per class")
    holds(
        abs(simple["FID"] - latents["FID"]) < latents["FID ±"],
        "samples of diffusion and of a Gaussian a class are not told apart",
    )
    return {
        "fid_simple": f"{simple['FID']:.2f} ± {simple['FID ±']:.2f}",
        "fid_latents": f"{latents['FID']:.2f} ± {latents['FID ±']:.2f}",
        "fid_pca": f"{pca['FID']:.2f} ± {pca['FID ±']:.2f}",
    }


def retrieved(tasks):
    """Mean average precision of neighbours."""
    rows = tasks["retrieve"]["rows"]
    latents, pca = (rows.row(features=name)["mAP"] for name in ("latents", "PCA"))
    holds(abs(latents - pca) < 0.01, "retrieval is level")
    return {"map_latents": number(latents), "map_pca": number(pca)}
