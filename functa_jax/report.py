"""What a finished training becomes: evaluation, figures, functaset, classifiers, summary."""

import os

import jax
import numpy as np

from common.runs import duration, read_json
from functa_jax import evaluate, exporter, figures
from functa_jax.functaset import load_functaset

SAME_IMAGES = ("data", "data_fingerprint", "train_images")  # of summaries to compare
LOADING = """import functa_jax
functaset = functa_jax.load_functaset("{path}")
x, y = functaset.train.latents, functaset.train.labels"""


def write(config, data, run, functa, train_seconds):
    """Everything after training; summary.json last, so that its presence means all is there."""
    print("evaluating on test, beside PCA with as many numbers", flush=True)
    steps_shown = sorted({*evaluate.STEPS_SHOWN, config.inner_steps})
    test_psnr = evaluate.psnr_after_steps(functa, data.test.images, steps_shown)
    numbers = functa.config.numbers
    pca = evaluate.pca(data.train.images, numbers)
    pca_psnr = None if pca is None else evaluate.pca_psnr(pca, data.test.images)

    shown = data.test.take(np.linspace(0, len(data.test) - 1, 10).astype(int))
    figures.reconstructions(run.path("figures/reconstructions.png"), functa, shown.images)
    figures.learning_curves(run.path("figures/learning_curves.png"), run.rows(), pca_psnr)

    print("fitting every image for functaset.npz", flush=True)
    path = run.path("functaset.npz")
    exporter.export(functa, data, path)
    print(f"three lines load it:\n\n{LOADING.format(path=path)}\n", flush=True)

    accuracy = {}
    if data.num_classes:
        for name, features in _features(data, load_functaset(path), pca).items():
            accuracy[name] = evaluate.classify(*features, config.classifier_rows, config.seed)
            result = accuracy[name]
            print(
                f"classifier on {name}: {100 * result['test']:.2f} % of test "
                f"({result['classifier']}, {result['rows']:,} rows)",
                flush=True,
            )
    run.write_summary(
        data=data.name,
        data_fingerprint=data.fingerprint,
        train_images=len(data.train),
        latent_dim=config.latent_dim,
        numbers=numbers,
        seed=config.seed,
        rollbacks=sum(row.get("event") == "rollback" for row in run.rows()),
        outer_steps=config.steps,
        test_psnr=test_psnr[config.inner_steps],
        test_psnr_after_steps={str(step): psnr for step, psnr in test_psnr.items()},
        psnr_is="mean of per-image PSNR over the whole test split, dB",
        pca_test_psnr=pca_psnr,
        accuracy=accuracy,
        train_seconds=round(train_seconds, 1),
        checkpoint=functa.hash,
        device=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        load_average=os.getloadavg()[1],
    )
    _panel_of_sizes(run)


def _features(data, functaset, pca):
    """{name: three (features, labels)} for the classifiers: latents, PCA, raw pixels."""

    def splits(features_of):
        return [
            (features_of(name), getattr(data, name).labels) for name in ("train", "val", "test")
        ]

    def pixels(name):
        return evaluate.pixel_rows(getattr(data, name).images)

    features = {
        "latents": splits(
            lambda name: evaluate.as_rows(
                (getattr(functaset, name).latents - functaset.mean) / functaset.std.mean()
            )
        )
    }
    if pca is not None:
        features["PCA"] = splits(lambda name: pca.transform(pixels(name)))
    features["pixels"] = splits(pixels)
    return features


def _panel_of_sizes(run):
    """Draw PSNR against latent size if sibling runs on the same data have other sizes."""
    mine = run.summary()
    summaries = [read_json(path) for path in sorted(run.folder.parent.glob("*/summary.json"))]
    same = [s for s in summaries if all(s.get(k) == mine[k] for k in SAME_IMAGES)]
    if len({s.get("numbers") for s in same}) > 1:
        figures.latent_sizes(run.path("figures/latent_sizes.png"), same)


def table(run):
    """The closing table of a finished run: what was reached, and what lies where."""
    s = run.summary()
    steps = s["test_psnr_after_steps"]
    pca = s["pca_test_psnr"]
    lines = [
        "",
        f"{s['data']}, {s['numbers']} numbers per image, {s['outer_steps']:,} outer steps in "
        f"{duration(s['train_seconds'])}, seed {s['seed']}, {s['device']}",
        "test PSNR (mean of per-image)  "
        + "  ".join(f"{k} steps {v:.2f} dB" for k, v in steps.items()),
        f"PCA with as many numbers       {'-' if pca is None else f'{pca:.2f} dB'}",
    ]
    for name, result in s["accuracy"].items():
        lines.append(f"test accuracy, {name:<15} {100 * result['test']:.2f} %")
    lines.append("")
    for name, what in (
        ("functa.npz", "the network: functa_jax.load(folder)"),
        ("functaset.npz", "the latents: functa_jax.load_functaset(path)"),
        ("figures/", "reconstructions, learning curves"),
        ("summary.json", "all numbers, versions, device"),
    ):
        lines.append(f"{run.path(name)!s:<45} {what}")
    return "\n".join(lines)
