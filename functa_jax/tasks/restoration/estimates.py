"""Every way to fit what was seen of images (fitting.py), its settings chosen on validation images.

What the tasks inpaint, superresolve and denoise share: rows for latents and for their linear rivals
(wiener.py), the same PSNR, the same figure.
"""

import time
from functools import cache
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

from functa_jax.evaluation import reconstruction
from functa_jax.functa import Functa
from functa_jax.tasks import task
from functa_jax.tasks.restoration import fitting, wiener
from functa_jax.tasks.restoration.fitting import Gaussian, Seen, course, refine, refine_by_prior
from groundfloor.errors import UserError
from groundfloor.plots import figure
from groundfloor.runs import duration

MOST_STEPS = 10  # of the inner loop, or as many as it was trained with
NOISES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
WIDER = 2.0  # how far beyond the ends of such a list the next candidate lies
WIDENED = 4  # times


class Models(NamedTuple):
    """What can be fitted: a Functa, the Gaussian of its train latents, PCA with as many numbers
    (None if the image has no more), a diffusion.Prior of each (None if there is no file of one),
    and the Normal of all pixels (None if it was not asked for)."""

    functa: Functa
    gaussian: Gaussian
    pca: PCA | None
    prior: "Prior | None"  # noqa: F821 -- imported if there is one
    pca_prior: "Prior | None" = None  # noqa: F821
    normal: wiener.Normal | None = None

    @classmethod
    def of(cls, about):
        """Those of a task's Material; UserError if its prior.npz belongs to another functa."""
        functa, train = about.functa, about.functaset.train.latents
        pca = reconstruction.pca(about.data.train.images, functa.config.numbers, about.folder)
        return cls(functa, Gaussian.of(train), pca, find_prior(about))

    @classmethod
    def with_rivals(cls, about):
        """As `of`, with all that stands beside latents where images are to be restored."""
        models = cls.of(about)
        prior = find_prior(about, "prior_pca.npz") if models.pca is not None else None
        normal = wiener.Normal.of_images(about.data.train.images)
        return models._replace(pca_prior=prior, normal=normal)

    def remarks(self):
        """What a reader must know of priors, and of rows that are missing."""
        said = []
        if self.normal is not None:
            said.append(
                "PCA, all components: images as one Gaussian, its covariance shrunk by OAS as that "
                "of latents is, their posterior mean in closed form (Wiener filter); no diffusion "
                "prior is trained for it."
            )
        if self.pca is None:
            said.append("No PCA with as many numbers: an image has no more than a latent.")
        if self.prior is None:
            said.append("No diffusion prior (prior.npz; functa_jax.tasks.generate makes it).")
        return said


class Estimate(NamedTuple):
    """pictures (n, H, W, C) in [0, 1] of the test images, the dB on validation, what it chose."""

    pictures: np.ndarray
    val: float
    chosen: dict


def find_prior(about, name="prior.npz"):
    """The diffusion.Prior beside the report of a task's Material, or None.

    prior_pca.npz is one of PCA's coefficients.
    """
    path = about.path(name)
    if not path.exists():
        return None
    from functa_jax.tasks.prior.diffusion import load_prior

    prior = load_prior(path)
    if prior.checkpoint != about.functa.hash:
        raise UserError(f"{path} was made for another functa; make it again or delete it")
    return prior


def estimates(models, val, test, measure):
    """{method: Estimate} of all models for what was Seen of validation and test images.

    measure(pictures): how good pictures of the validation images are, in dB. Latents and PCA choose
    among the same noises; with a diffusion prior around the noise that the Gaussian one chose.
    """
    functa, gaussian, pca, prior, pca_prior, normal = models
    found, noises = {}, {}

    def shown(latents):
        return np.clip(functa.decode(latents), 0, 1)

    def add(name, method, candidates):
        choice = best(candidates, lambda noise: measure(method(val, noise)), WIDER)
        noises[name] = choice.value
        found[name] = Estimate(method(test, choice.value), choice.measure, choice.said("noise"))

    def around(name):
        return noises[name] / WIDER, noises[name], noises[name] * WIDER

    most = max(MOST_STEPS, functa.inner_steps)
    courses = {seen: course(functa, seen, most) for seen in (val, test)}
    steps = best(range(most + 1), lambda k: measure(shown(courses[val][:, k])))
    pictures = shown(courses[test][:, steps.value])
    found["latents, inner loop"] = Estimate(pictures, steps.measure, steps.said("steps"))

    further = {
        seen: shown(refine(functa, seen, gaussian, 0.0, start=courses[seen][:, steps.value]))
        for seen in (val, test)
    }
    found["latents, more steps (Adam)"] = Estimate(further[test], measure(further[val]), {})

    @cache
    def probable(seen, noise):
        return refine(functa, seen, gaussian, noise)

    def by_prior(seen, noise):
        start = probable(seen, noises["latents, Gaussian prior"])
        return shown(refine_by_prior(functa, seen, start, prior, noise))

    add("latents, Gaussian prior", lambda *to: shown(probable(*to)), NOISES)
    if prior is not None:
        add("latents, diffusion prior", by_prior, around("latents, Gaussian prior"))

    def linear(normal):
        return lambda *to: np.clip(wiener.most_probable(normal, *to), 0, 1)

    if pca is not None:
        name, by_few = f"PCA, {pca.n_components_} numbers", linear(wiener.Normal.of_pca(pca))
        add(f"{name}, Gaussian prior", by_few, NOISES)

        def by_pca_prior(seen, noise):
            start = by_few(seen, noises[f"{name}, Gaussian prior"])
            return np.clip(wiener.by_prior(pca, seen, start, pca_prior, noise), 0, 1)

        if pca_prior is not None:
            add(f"{name}, diffusion prior", by_pca_prior, around(f"{name}, Gaussian prior"))
    if normal is not None:
        add("PCA, all components, Gaussian prior", linear(normal), NOISES)
    return found


class Choice(NamedTuple):
    """A candidate, its measure, and whether it lies at an end of all that were tried."""

    value: float
    measure: float
    last: bool

    def said(self, name):
        """{name: the candidate as text}; that it lies at an end is said."""
        return {name: task.text(self.value) + " (the last tried)" * self.last}


def best(candidates, measure, wider=None):
    """The Choice of the candidate that measures most in dB; hundredths and less decide nothing.

    wider: where the first or last candidate is the best, one `wider` times further is tried too, up
    to WIDENED times. Candidates whose measure is not finite are out; UserError if all are.
    """
    measured, left = {value: measure(value) for value in candidates}, WIDENED if wider else 0
    while True:
        finite = {value: dB for value, dB in measured.items() if np.isfinite(dB)}
        if not finite:
            raise UserError("no setting gives finite pictures of the validation images")
        value = max(finite, key=lambda value: round(finite[value], 2))
        low, high = min(measured), max(measured)
        last = low < high and value in (low, high)
        if not (last and left):
            return Choice(value, finite[value], last)
        further = value / wider if value == low else value * wider
        measured[further] = measure(further)
        left -= 1


def announce(what, about, models, cases, val, test):
    """Say what is fitted, where the report goes and how long it takes, by the pace of a trial.

    cases: how often all is fitted; val, test: images (n, h, w, C).
    """
    first, again = trial(lambda: refine(models.functa, Seen(val), models.gaussian, NOISES[-1]))
    compiling, pace = max(first - again, 0), again / len(val) / fitting.REFINE_STEPS
    once = max(MOST_STEPS, models.functa.inner_steps) + 2 * fitting.REFINE_STEPS
    by_prior = len(fitting.PRIOR_LEVELS) * fitting.PRIOR_STEPS if models.prior is not None else 0
    choosing = (len(NOISES) - 1) * fitting.REFINE_STEPS + 2 * by_prior
    steps = cases * (len(val) * (once + by_prior + choosing) + len(test) * (once + by_prior))
    print(
        f"{what}: {len(test)} test images, settings chosen on {len(val)} validation images; "
        f"{steps:,} steps of fitting one image, about {duration(steps * pace + 6 * compiling)}; "
        f"report in {about.out}",
        flush=True,
    )


def trial(work):
    """Seconds that work() takes at first, when it compiles, and when it is called again."""
    times = [time.monotonic()]
    for _ in range(2):
        work()
        times.append(time.monotonic())
    return np.diff(times)


def tabulate(rows, case, pictures, originals, where=None):
    """Put the PSNR of {method: pictures} as column `case` into {method: row of the table}.

    A method that leaves a picture with a number that is not finite gets None.
    """
    for method, images in pictures.items():
        dB = psnr(images, originals, where)
        rows.setdefault(method, {"method": method})[case] = dB if np.isfinite(dB) else None


def diverged(rows):
    """A remark on what `tabulate` left empty, as a list."""
    names = [row["method"] for row in rows.values() if None in row.values()]
    return [f"Not measured (-), as a fit diverged: {'; '.join(names)}."] if names else []


def said(chosen):
    """{case: {method: {setting: value}}} as text, methods without settings left out."""
    parts = {}
    for name, case in chosen.items():
        for method, settings in case.items():
            words = " ".join(f"{key} {task.text(value)}" for key, value in settings.items())
            if words:
                parts.setdefault(method, []).append(f"{name}: {words}")
    return "; ".join(f"{method} ({', '.join(words)})" for method, words in parts.items())


def psnr(pictures, originals, where=None):
    """Mean of per-image PSNR in dB, over the pixels where `where` (n, h, w) is true, or all."""
    error = ((pictures - originals) ** 2).mean(axis=-1)
    where = np.ones(error.shape, bool) if where is None else where
    return float(reconstruction.mean_psnr((error * where).sum((1, 2)) / where.sum((1, 2))))


def images(about, count):
    """(validation, test) images of a task's Material, floats in [0, 1], evenly spaced.

    At most `count` of test, and a quarter as many of validation; that there are fewer is said.
    """
    val, test = spaced(about.data.val, -(-count // 4)), spaced(about.data.test, count)
    if len(test) < count:
        print(f"--count {count}: {about.data.name} has {len(test):,} test images; all are taken")
    return val, test


def spaced(split, count):
    """At most `count` images of a split, evenly spaced, as float32 (n, h, w, C) in [0, 1]."""
    if not len(split):
        raise UserError("no validation or no test images: nothing to choose or to report on")
    chosen = np.linspace(0, len(split) - 1, min(count, len(split))).astype(int)
    return split.images[chosen].astype(np.float32) / 255


def gallery(path, rows):
    """A picture of rows {name: pictures (m, h, w, C)}; NaN pixels, hidden ones, are blue."""
    count = max(map(len, rows.values()))
    size = (0.8 * count + 1.6, 0.84 * len(rows))
    with figure(path, len(rows), count, size=size, squeeze=False) as (_, axes):
        for line, (name, pictures) in zip(axes, rows.items(), strict=True):
            for ax, picture in zip(line, pictures, strict=True):
                ax.imshow(_as_colours(picture))
            for ax in line:
                ax.set(xticks=[], yticks=[])
                ax.grid(False)
                for spine in ax.spines.values():
                    spine.set_visible(False)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)


def _as_colours(picture):
    """A picture (h, w, C) of 1, 3 or 4 channels as RGB on white, NaN pixels blue."""
    picture = np.clip(picture, 0, 1)
    colours, alpha = (
        (picture[..., :3], picture[..., 3:]) if picture.shape[-1] == 4 else (picture, 1)
    )
    shown = np.broadcast_to(alpha * colours + 1 - alpha, (*picture.shape[:2], 3))
    hidden = np.isnan(shown).any(axis=-1, keepdims=True)
    return np.where(hidden, (0.25, 0.4, 0.75), shown)
