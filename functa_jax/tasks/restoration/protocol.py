"""How denoise, inpaint and superresolve measure what is restored: one protocol for all three.

A command makes Cases (images that are noisy, seen in part, or coarser) and adds its own rivals. All
else is here: which images, latents and PCA fitted to what is seen (estimates.py), settings chosen
on validation, a table with a column for each case, a figure for each, and the remarks.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from functa_jax.evaluation import reconstruction
from functa_jax.images.gallery import gallery
from functa_jax.tasks import task
from functa_jax.tasks.restoration import estimates, fitting
from functa_jax.tasks.restoration.fitting import Seen
from groundfloor.checks import Count
from groundfloor.errors import UserError
from groundfloor.runs import counted, duration


@dataclass(frozen=True)
class RestorationConfig(task.TaskConfig):
    """How many images are restored."""

    count: Count = 100
    """Test images at most, evenly spaced; a quarter as many validation images choose settings."""
    shown: Count = 10
    """Images in each figure, at most."""


class Case(NamedTuple):
    """What is Seen of validation and test images.

    name: column of the table; figure: file of the report. Hidden pixels alone are measured, if
    there are any.
    """

    name: str
    figure: str
    val: Seen
    test: Seen


class Study:
    """The table and the figures of one command, as they grow case by case.

    val, test: the originals, float32 (n, h, w, C) in [0, 1].
    """

    def __init__(self, command, material, config):
        self.command, self.material, self.config = command, material, config
        self.val, self.test = spaced_images(material.data, config.count)
        self.models = estimates.Models.with_rivals(material)
        self.rows, self.settings, self.figures = {}, {}, []

    def announce(self, what, fits):
        """Say what is fitted, where the report goes and how long it takes, by a trial's pace.

        fits: how often all is fitted.
        """
        functa, gaussian, val = self.models.functa, self.models.gaussian, len(self.val)
        first, again = task.trial(
            lambda: fitting.refine(functa, Seen(self.val), gaussian, estimates.NOISES[-1])
        )
        compiling, pace = max(first - again, 0), again / val / fitting.REFINE_STEPS
        once = max(estimates.MOST_STEPS, functa.inner_steps) + 2 * fitting.REFINE_STEPS
        by_prior = len(fitting.PRIOR_LEVELS) * fitting.PRIOR_STEPS
        by_prior *= self.models.prior is not None
        choosing = (len(estimates.NOISES) - 1) * fitting.REFINE_STEPS + 2 * by_prior
        steps = fits * (val * (once + by_prior + choosing) + len(self.test) * (once + by_prior))
        print(
            f"{what}: {counted(len(self.test), 'test image')}, settings chosen on "
            f"{counted(val, 'validation image')}; "
            f"{steps:,} steps of fitting one image, about {duration(steps * pace + 6 * compiling)};"
            f" report in {self.material.out}",
            flush=True,
        )

    def measure(self, case, pictures):
        """PSNR in dB of pictures of the validation images."""
        return psnr(pictures, self.val, case.val.hidden)

    def estimates(self, case, models=None):
        """{method: Estimate} of all Models, or of those given."""

        def measure(pictures):
            return self.measure(case, pictures)

        return estimates.estimates(models or self.models, case.val, case.test, measure)

    def add(self, case, methods, seen=None):
        """Add a case to table and figures.

        methods: {name: Estimate}; seen: pictures of what is seen, for the figure alone.
        """
        shown = {"original": self.test} | ({} if seen is None else {"seen": seen})
        for name, (pictures, _, settings) in methods.items():
            dB = psnr(pictures, self.test, case.test.hidden)
            row = self.rows.setdefault(name, {"method": name})
            row[case.name] = dB if np.isfinite(dB) else None
            self.settings.setdefault(name, {})[case.name] = settings
            if pictures is not seen:
                shown[name] = pictures
        shown = {name: pictures[: self.config.shown] for name, pictures in shown.items()}
        # The report of an earlier run must not be taken for that of this one's figures.
        self.material.path(f"{self.command}.json").unlink(missing_ok=True)
        gallery(self.material.path(case.figure), shown)
        self.figures.append(case.figure)
        print(f"{case.name}: done", flush=True)

    def report(self, measured, *more):
        """Write the report; measured, more: remarks on what the PSNR is of, and others."""
        rows = list(self.rows.values())
        remarks = [
            f"PSNR in dB {measured} One seed ({self.config.seed}).",
            f"Chosen on {len(self.val)} validation images: {settings_text(self.settings)}.",
            *diverged(rows),
            *more,
            *self.models.remarks(),
        ]
        return task.report(self.material, self.command, self.config, rows, self.figures, remarks)


def diverged(rows):
    """A remark on the methods whose pictures were not finite, as a list."""
    names = [row["method"] for row in rows if None in row.values()]
    return [f"Not measured (-), as a fit diverged: {'; '.join(names)}."] if names else []


def settings_text(settings):
    """{method: {case: {setting: value}}} as text, without methods that have no settings."""
    parts = []
    for method, cases in settings.items():
        words = [
            f"{case}: " + " ".join(f"{key} {value}" for key, value in values.items())
            for case, values in cases.items()
            if values
        ]
        if words:
            parts.append(f"{method} ({', '.join(words)})")
    return "; ".join(parts)


def psnr(pictures, originals, where=None):
    """Mean of per-image PSNR in dB, over the pixels where `where` (n, h, w) is true, or all."""
    error = ((pictures - originals) ** 2).mean(axis=-1)
    where = np.ones(error.shape, bool) if where is None else where
    return float(reconstruction.mean_psnr((error * where).sum((1, 2)) / where.sum((1, 2))))


def spaced_images(data, count):
    """(validation, test) images of a Dataset, float32 in [0, 1], evenly spaced.

    At most `count` of test, and a quarter as many of validation; that there are fewer is said.
    """
    if not (len(data.val) and len(data.test)):
        raise UserError("no validation or no test images: nothing to choose or to report on")
    if len(data.test) < count:
        has = counted(len(data.test), "test image")
        print(f"--count {count}: {data.name} has {has}; all are taken")
    chosen = ((data.val, -(-count // 4)), (data.test, count))
    return [
        split.images[task.spaced(len(split), most)].astype(np.float32) / 255
        for split, most in chosen
    ]
