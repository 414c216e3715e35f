"""What a finished training becomes: evaluation, figures, functaset, classifiers, summary."""

import math
import os

import jax
import numpy as np

from functa_jax.evaluation import classification, functions, reconstruction
from functa_jax.functaset import SPLITS, load_functaset
from functa_jax.modalities.modality import MODALITIES
from functa_jax.scenes import report as scenes
from functa_jax.training import exporter, figures
from groundfloor import precision
from groundfloor.errors import UserError
from groundfloor.runs import duration, read_dict

MOST_VALUES = 1024  # of a function, that classifiers are chosen on; PCA stands for more
DRAWN = ("numbers", "test_psnr", "pca_test_psnr")
LOADING = """import functa_jax
functaset = functa_jax.load_functaset("{path}")
x, y = functaset.train.latents, functaset.train.labels"""


def write(config, data, run, functa, train_seconds):
    """Everything after training; summary.json last, so that its presence means all is there."""
    evaluated = _images if functa.of_images else _functions
    found, features = evaluated(config, data, run, functa)
    curves = run.path("figures/learning_curves.png")
    at_all = _fits_all_points(functa.fit_points, functa.config.modality)
    pca = found["pca_test_psnr"] if at_all else None  # which is at all points
    figures.learning_curves(curves, run.rows(), pca, "" if at_all else ", at points fitted to")

    print(f"fitting every {data.noun} for functaset.npz", flush=True)
    path = run.path("functaset.npz")
    exporter.export(functa, data, path)
    print(f"three lines load it:\n\n{LOADING.format(path=path)}\n", flush=True)

    accuracy = _accuracy(config, data, load_functaset(path), features)
    chosen = run.path("precision.json")
    run.write_summary(
        data=data.name,
        data_fingerprint=data.fingerprint,
        train_images=len(data.train),
        latent_dim=config.latent_dim,
        fit_points=config.fit_points,
        numbers=functa.config.numbers,
        seed=config.seed,
        rollbacks=round(-math.log2(min((row.get("damping", 1) for row in run.rows()), default=1))),
        raised_at=sorted({row["step"] for row in run.rows() if row.get("event") == "raised"}),
        outer_steps=config.steps,
        precision=precision.kept(chosen) if config.precision == "auto" else config.precision,
        precision_seconds=precision.timed(chosen),
        **found,
        accuracy=accuracy,
        train_seconds=round(train_seconds, 1),
        checkpoint=functa.hash,
        device=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        load_average=os.getloadavg()[1],
    )
    _panel_of_sizes(run)


def _fits_all_points(fit_points, modality):
    """Whether PSNR that fits give is that of all points: scenes leave out rays beside the ball."""
    return modality == "images" or (fit_points is None and modality != "scenes")


def _images(config, data, run, functa):
    """(results on test images, {name: rows of train, val and test} for classifiers); a figure."""
    print("evaluating on test, beside PCA with as many numbers", flush=True)
    steps_shown = sorted({*reconstruction.STEPS_SHOWN, config.inner_steps})
    test_psnr = reconstruction.psnr_after_steps(functa, data.test.images, steps_shown)
    pca = reconstruction.pca(data.train.images, functa.config.numbers, run.folder)
    shown = data.test.take(np.linspace(0, len(data.test) - 1, 10).astype(int))
    figures.reconstructions(
        run.path("figures/reconstructions.png"), functa, np.asarray(shown.images)
    )
    features = {}
    if not isinstance(data.train.images, np.ndarray):
        print("images are not in memory: no classifiers on PCA and pixels beside the latents'")
    else:
        features["pixels"] = [
            reconstruction.pixel_rows(getattr(data, name).images) for name in SPLITS
        ]
    if features and pca is not None:
        features = {"PCA": [pca.transform(rows) for rows in features["pixels"]], **features}
    return {
        "test_psnr": test_psnr[config.inner_steps],
        "test_psnr_after_steps": {str(step): psnr for step, psnr in test_psnr.items()},
        "psnr_is": "mean of per-image PSNR over the whole test split, dB",
        "pca_test_psnr": None if pca is None else reconstruction.pca_psnr(pca, data.test.images),
    }, features


def _functions(config, data, run, functa):
    """As `_images`, of other functions: their modality's metric, too, and all rivals."""
    modality = MODALITIES[functa.config.modality]
    print(f"evaluating {modality.metric} on test, beside rivals with as many numbers", flush=True)
    steps_shown = sorted({*reconstruction.STEPS_SHOWN, config.inner_steps})
    psnr, predictions = functions.course(functa, data.test, steps_shown)
    metric, decibels = functions.measure(functa, data.test, predictions)
    rebuilt = functions.rebuilt(functa, data)
    rivals = {}
    for name, found in rebuilt.items():
        of_rival = functions.measure(functa, data.test, found)
        rivals[name] = {"metric": float(of_rival[0].mean()), "psnr": float(of_rival[1].mean())}
    picture = run.path("figures/reconstructions.png")
    functions.draw(picture, functa, data, {"functa": predictions, **rebuilt})
    novel = scenes.write(run, functa, data) if functa.config.modality == "scenes" else {}
    pca, features = functions.pca_features(functa, data), {}
    if pca is not None:
        features["PCA"] = pca
        if data.train.values[0].size <= MOST_VALUES:
            splits = [getattr(data, name) for name in SPLITS]
            features["values"] = [reconstruction.pixel_rows(split.values) for split in splits]
    return {
        "modality": functa.config.modality,
        "metric": modality.metric,
        "unit": modality.unit,
        "test_metric": float(metric.mean()),
        "metric_is": "mean over the functions of the whole test split",
        "rivals": rivals,
        "test_psnr": float(decibels.mean()),
        "test_psnr_after_steps": {str(step): value for step, value in psnr.items()},
        "psnr_is": "mean of per-function PSNR over the whole test split, dB, by points' weights",
        "pca_test_psnr": rivals["PCA"]["psnr"] if rivals else None,
        **novel,
    }, features


def _accuracy(config, data, functaset, features):
    """What `classification.compare` finds on latents and other features; {} if it has nothing."""
    labels = [getattr(data, name).labels for name in SPLITS]
    if not data.num_classes or not classification.possible(np.concatenate(labels[:2])):
        print(
            f"no classifiers: {data.name} has no two classes with two {data.noun}s each", flush=True
        )
        return {}
    latents = [reconstruction.as_rows(getattr(functaset, name).latents) for name in SPLITS]
    features = {"latents": latents, **features}
    print("choosing classifiers by cross-validation on train and validation", flush=True)
    return classification.compare(features, labels, config.classifier_rows, config.seed)


def _panel_of_sizes(run):
    """Draw PSNR against latent size if sibling runs differ from this one in nothing else."""

    def settings(folder):
        return {**read_dict(folder / "config.json", "settings"), "latent_dim": None}

    mine, same = settings(run.folder), []
    for path in sorted(run.folder.parent.glob("*/summary.json")):
        try:
            if settings(path.parent) == mine:
                same.append(read_dict(path, "summary", *DRAWN))
        except UserError:  # whatever lies beside the run is none of ours
            continue
    if len({summary["numbers"] for summary in same}) > 1:
        figures.latent_sizes(run.path("figures/latent_sizes.png"), same)


def table(run):
    """The closing table of a finished run: what was reached, and what lies where."""
    s = run.summary()
    steps = s["test_psnr_after_steps"]
    noun, pca = "function" if "modality" in s else "image", s["pca_test_psnr"]
    at_all = _fits_all_points(s.get("fit_points"), s.get("modality", "images"))
    where = "" if at_all else ", at the points fitted to"
    lines = [
        "",
        f"{s['data']}, {s['numbers']} numbers per {noun}, {s['outer_steps']:,} outer steps in "
        f"{duration(s['train_seconds'])}, seed {s['seed']}, {s['device']}",
        f"test PSNR (mean of per-{noun}{where})  "
        + "  ".join(f"{k} steps {v:.2f} dB" for k, v in steps.items()),
        f"PCA with as many numbers       {'-' if pca is None else f'{pca:.2f} dB'}",
    ]
    if "modality" in s:
        unit = f" {s['unit']}" if s["unit"] else ""
        everywhere = f" (PSNR at all points {s['test_psnr']:.2f} dB)" if where else ""
        lines.append(f"test {s['metric']}, {s['test_metric']:.3f}{unit}{everywhere}")
        for name, rival in s["rivals"].items():
            lines.append(f"{name}, as many numbers: {rival['metric']:.3f}{unit}")
    lines += scenes.lines(s)
    for name, result in s["accuracy"].items():
        low, high = result.get("interval", (np.nan, np.nan))  # older runs have none
        p = f"   p {result['p']:.2g} against latents" if "p" in result else ""
        lines.append(
            f"test accuracy, {name:<15} {100 * result['test']:.2f} % "
            f"[{100 * low:.2f}, {100 * high:.2f}]{p}"
        )
    if s["accuracy"]:
        lines.append("  [95 % interval (Wilson)]; p: as different by chance (McNemar, exact)")
    lines.append("")
    for name, what in (
        ("functa.npz", "the network: functa_jax.load(folder)"),
        ("functaset.npz", "the latents: functa_jax.load_functaset(path)"),
        ("figures/", "reconstructions, learning curves"),
        ("summary.json", "all numbers, versions, device"),
    ):
        lines.append(f"{run.path(name)!s:<45} {what}")
    return "\n".join(lines)
