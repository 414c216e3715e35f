"""New images from a diffusion model of the latents, beside Gaussians and PCA.

    python -m functa_jax.tasks.generate --run runs/meta_train-digits

A prior (diffusion.py) learns the train latents of each class; the functa decodes its samples, at
any resolution. The table compares them with test images by a Fréchet distance (frechet.py says
what it is not) with a bootstrap interval, asks a classifier for their class, and tells how far they
are from the nearest train image, in units of what test images are: much below 1 is a copy.

Beside the diffusion stand bounds (train images, test images through the functa), Gaussians fitted
to all latents or to those of each class, and all of these, the diffusion trained alike, for a PCA
with as many numbers. Covariances are shrunk (Ledoit & Wolf 2004), as a class may be small. Images
without labels have one prior and one Gaussian, no guidance, and a classifier of clusters. The file
prior.npz, beside the report, is trained once and serves inpaint, superresolve, denoise and
interpolate too.

samples.npz holds the functa's samples with the guidance that is best on validation, for NumPy and
PyTorch: latents float32 (n, L) or (n, s, s, L), in the units of functaset.npz, labels int64 (n,),
the classes asked for (-1: none), images uint8 (n, h, w, C), the latents decoded (of others values,
float32, in [0, 1]), and metadata, a JSON string that says of which functa and prior.
"""

import json
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from functa_jax.images.signals import to_bytes, to_float
from functa_jax.tasks import task
from functa_jax.tasks.generation import codes, pictures
from functa_jax.tasks.generation.classifier import FEATURES, train_classifier
from functa_jax.tasks.generation.frechet import RESAMPLES, Judge
from functa_jax.tasks.prior.diffusion_network import PriorConfig
from groundfloor import checks, cli, npz, seeds
from groundfloor.checks import LARGEST, Count, Interval, NotNegative

SAMPLES = "samples.npz"


@dataclass(frozen=True)
class Config(task.TaskConfig):
    """Generate images from a prior on latents, and judge them."""

    prior: PriorConfig = field(default_factory=PriorConfig)
    """The prior and its training."""
    samples: Annotated[int, Interval(20, LARGEST)] = 2000
    """Images in each set that is judged; at most as many as there are test images."""
    guidance: tuple[NotNegative, ...] = (0.0, 0.5, 1.0, 2.0)
    """Guidance values to report; the figures show the best on validation."""
    classifier_steps: Count = 1000
    """Training steps of the classifier, batches of 128 images."""


def main(config):
    """Train or load the priors, sample, judge, draw; returns the report."""
    material = task.load(config)
    task.require_common_points(material.data)
    data, judged = material.data, f"nothing to judge samples of {material.data.name} by"
    task.require(data, judged, val=2, test=2)
    if material.functa.of_images and min(data.train.images.shape[1:3]) < 4:
        raise task.NotForThese(f"{judged}: its images are smaller than 4x4")
    count = min(config.samples, len(data.test))
    both = codes.codes_of(material)
    priors = [codes.prior_of(code, material, config) for code in both]
    labelled = len(np.unique(data.train.labels)) > 1
    vectors = material.functa.config.grid is None
    idle = [(vectors, ("heads",), "as these latents are vectors, not grids")]
    idle += [(not data.num_classes, ("drop_labels",), f"as {data.name} has no labels")]
    checks.say_idle(config.prior, PriorConfig(), idle)
    why = f"as {data.name} has no two classes"
    checks.say_idle(config, Config(config.run), [(not labelled, ("guidance",), why)])
    kind = data.name if labelled else f"clusters of {data.name}"
    print(f"training a classifier of {kind}, by whose features images are judged", flush=True)
    classifier = train_classifier(
        data.train, data.num_classes, config.classifier_steps, config.seed
    )
    tested, held, taken = (
        _random(config, f"images of {name}").permutation(len(split))[:count]
        for name, split in (("test", data.test), ("val", data.val), ("train", data.train))
    )
    judge = Judge(classifier, data, data.test.take(tested), data.val.take(held), config.seed)

    shown = data.train.take(taken)
    rows = [judge.row("train images", to_float(shown.values), shown.labels)]
    rows[0]["distance to train"] = None  # they are their own nearest
    # Classes are asked for in the proportions of train; -1 where there are none.
    classes = _random(config, "classes").choice(data.train.labels, count)
    chosen = []
    for code, prior in zip(both, priors, strict=True):
        name = f"{code.name}, of test images"
        images = code.decode(code.test[tested])
        rows.append(judge.row(name, images, data.test.labels[tested], same=True))
        rows += codes.gaussian_rows(
            code, judge, classes, _random(config, f"Gaussians of {code.name}")
        )
        samples, more = codes.diffusion_rows(code, prior, judge, classes, config)
        rows += more
        chosen.append(samples)
    guidance, numbers, _ = chosen[0]
    material.path("generate.json").unlink(missing_ok=True)  # of other samples, if this is stopped
    write_samples(material, priors[0], chosen[0], classes, config.seed)

    names = pictures.draw_classes(material, both[0], priors[0], guidance, config.seed)
    names += pictures.draw_resolutions(material, numbers)
    names += pictures.draw_neighbours(material, both[0], judge, numbers)
    ratio, drawn = pictures.draw_distances(material, both[0], judge, numbers)
    names += drawn
    remarks = _remarks(config, material, judge, priors[0], chosen, rows, ratio, count)
    return task.report(material, "generate", config, rows, names, remarks, [SAMPLES])


def write_samples(material, prior, samples, labels, seed):
    """Write SAMPLES, as the docstring above says: `codes.Samples` of a Prior, and their classes."""
    decoded = material.functa.decode(samples.numbers)
    if material.functa.of_images:
        decoded = {"images": to_bytes(decoded)}
    else:
        decoded = {"values": np.clip(decoded, 0, 1)}
    about = {"data": material.data.name, "checkpoint": material.functa.fit_hash}
    about |= {"prior": prior.identity, "guidance": samples.guidance, "seed": seed}
    arrays = {"latents": np.float32(samples.numbers), "labels": np.int64(labels), **decoded}
    npz.write(material.path(SAMPLES), {**arrays, "metadata": json.dumps(about)})


def _random(config, use):
    return np.random.default_rng(seeds.fold(config.seed, use))


def _remarks(config, material, judge, prior, chosen, rows, ratio, count):
    best = min(prior.history, key=lambda row: row[2])
    tested, held = map(len, judge.references)
    shown = chosen[0].row
    learned = "clusters of the train images, as these have no two classes"
    if judge.labelled:
        learned = f"the train images ({judge.accuracy:.2f} % of test)"
    guidances = " ".join(
        f"Guidance {guidance:g} has the lowest FID to validation of {row['images'].split(',')[0]}'s"
        + _alike("; not told apart from it: ", judge, row, rows, "FID to validation")
        + "."
        + " It is the largest tried." * (guidance == max(config.guidance) > 0)
        for guidance, _, row in (chosen if judge.labelled else ())
    )
    return [
        f"FID: features of a ConvNet of ours, trained on {learned}, not "
        f"Inception's: not comparable with published FID. Of its {FEATURES} features "
        f"the first {judge.components} principal components are taken "
        f"({100 * judge.explained:.1f} % of their variance), one for each ten images.",
        f"{count:,} images a row, against {tested:,} of {len(material.data.test):,} test and "
        f"{held:,} of {len(material.data.val):,} validation images; fewer raise FID: compare "
        "within a column. The train images' row is the floor for new images; that of test images "
        "is what the code itself costs, as it is compared with the same images.",
        f"FID ±: 1.96 standard deviations over {RESAMPLES} bootstrap resamples of the images, "
        "those of the row and those of test; the classifier and the priors are not trained again. "
        f"One seed ({config.seed})."
        + _alike(f" By FID not told apart from {shown['images']}: ", judge, shown, rows, "FID"),
        f"{guidances} Figures show the functa's. {codes.STEPS} sampling steps.".lstrip(),
        "Distance to train: median distance to the nearest train image in pixels, over that of "
        f"test images; in latents it is {ratio:.2f} for the samples shown. Much below 1: copies.",
        f"Prior on the functa's latents: validation loss {best[2]:.4f} at step {best[0]:,} of "
        f"{prior.config.prior_steps:,}, whose weights were kept.",
    ]


def _alike(words, judge, row, rows, column):
    """`words` and the names of the rows that are not told apart from one; "" if there are none."""
    others = [other for other in rows if other is not row]
    if column == "FID to validation":  # of the same code, by guidance
        kind = row["images"].rpartition(" ")[0]
        others = [other for other in others if other["images"].rpartition(" ")[0] == kind]
    names = [o["images"] for o in others if not judge.told_apart(row, o, column)]
    return words + "; ".join(names) if names else ""


if __name__ == "__main__":
    cli.run(main, Config)
