"""The pictures of a run: reconstructions step by step, learning curves, latent sizes."""

import numpy as np

from functa_jax.evaluation.reconstruction import mean_psnr
from functa_jax.images.gallery import gallery
from groundfloor.plots import COLOURS, SKY, WIDTH, figure, legend


def reconstructions(path, functa, images):
    """Rows: the originals, then what 0 to 3 inner steps make of them; at the left the mean dB of
    the pictures shown, which is not that of the test split."""
    rows = {f"original\ndB of these {len(images)}": images / 255.0}
    latents, errors = functa.course(images, steps=3)
    for step in range(4):
        name = f"{step} step{'s' * (step != 1)}\n{mean_psnr(errors[:, step]):.1f} dB"
        rows[name] = functa.decode(latents[:, step])
    gallery(path, rows)


def learning_curves(path, rows, pca=None, where=""):
    """PSNR in training and on validation against outer steps; PCA as a dashed line.

    where: for the axis, at which points, if not at all.
    """
    train = [(row["step"], row["psnr"]) for row in rows if "psnr" in row]
    val = [(row["step"], row["val_psnr"]) for row in rows if "val_psnr" in row]
    with figure(path, size=(WIDTH, 3.2)) as (made, ax):
        ax.plot(*np.transpose(train), lw=0.8, color=SKY, label="training batches")
        if val:
            steps = len(val[0][1]) - 1
            for k in range(1, steps + 1):
                ax.plot(
                    [step for step, _ in val],
                    [psnr[k] for _, psnr in val],
                    color=COLOURS["functa"],
                    ls=("-", "--", ":", "-.")[(steps - k) % 4],
                    lw=1.5 if k == steps else 1.0,
                    label=f"validation, {k} step{'s' * (k != 1)}",
                )
        if pca is not None:
            name = "PCA, as many numbers (test)"
            ax.axhline(pca, color=COLOURS["PCA"], ls="--", lw=1, label=name)
        low = min(psnr[1] for _, psnr in val) if val else min(psnr for _, psnr in train)
        ax.set(xlabel="outer steps", ylabel=f"mean PSNR (dB){where}", ylim=(low - 1, None))
        legend(made, ax)


def latent_sizes(path, summaries):
    """Test PSNR of several runs on one data set against their latent size, beside PCA."""
    points = sorted((s["numbers"], s["test_psnr"], s["pca_test_psnr"]) for s in summaries)
    sizes = [p[0] for p in points]
    with figure(path, size=(WIDTH, 2.9)) as (made, ax):
        ax.plot(sizes, [p[1] for p in points], "o-", color=COLOURS["functa"], label="functa")
        with_pca = [p for p in points if p[2] is not None]
        x, y = [p[0] for p in with_pca], [p[2] for p in with_pca]
        ax.plot(x, y, "s--", color=COLOURS["PCA"], label="PCA")
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.set(xlabel="numbers per image", ylabel="mean of per-image test PSNR (dB)")
        legend(made, ax)
