"""The course's three functions under its own names: bands over models of several learning rates.

    from optim_torch.course import VGG_Beta_Smooth, VGG_Grad_Pred, VGG_Loss_Landscape
    figure, curves = VGG_Loss_Landscape("runs/landscape-cifar10-course")
    figure, curves = VGG_Loss_Landscape(dataset="digits", model="VGG_A_Light", steps=200)

Each takes a run folder of `python -m optim_torch.landscape`, or several (plain and BatchNorm may
have been trained apart), or none: then it trains for itself, with and without BatchNorm.
curves: dict of normaliser -> (steps, min_curve, max_curve).
"""

from dataclasses import asdict
from pathlib import Path

from groundfloor.errors import UserError
from groundfloor.pytorch import batches
from groundfloor.runs import Run
from optim_torch.landscape import bands, traces
from optim_torch.landscape.figures import course_bands
from optim_torch.landscape.recording import with_precision
from optim_torch.landscape.settings import COURSE_RATES, NOT_IDENTITY, Settings, load_data

OUT = "runs/landscape-course"


def VGG_Loss_Landscape(
    runs=None, path="VGG_Loss_Landscape.png", *, out=OUT, diverged=False, **settings
):
    """Band of the training loss. Returns (figure, curves); the picture is written to `path`.

    runs: a run folder or a list of them; None trains in the run folder `out` (which goes on where
    it was, and serves the other functions too) with `settings`: fields of
    `landscape.settings.Settings` (n_items, rates, device ...).
    diverged: count models that diverged (`recording.has_diverged`), too.

    Raises, before anything is trained or written, ValueError for impossible settings and UserError
    for data that cannot be used, a folder of other settings or images, or one without traces.
    """
    return course_bands(path, _traces(runs, out, settings), "loss", diverged=diverged)


def VGG_Grad_Pred(
    runs=None, path="VGG_Grad_Pred.png", definition="steps", *, out=OUT, diverged=False, **settings
):
    """Band of the change of the gradient: from each step to the next ("steps", 2020), or along the
    gradient's direction ("line", 2023). Otherwise as `VGG_Loss_Landscape`."""
    bands.check_definition(definition)
    networks = _traces(runs, out, settings)
    return course_bands(path, networks, "change", definition, diverged=diverged)


def VGG_Beta_Smooth(
    runs=None,
    path="VGG_Beta_Smooth.png",
    definition="steps",
    *,
    out=OUT,
    diverged=False,
    **settings,
):
    """Band of the change of the gradient over the distance moved; as `VGG_Grad_Pred`."""
    bands.check_definition(definition)
    networks = _traces(runs, out, settings)
    return course_bands(path, networks, "beta", definition, diverged=diverged)


def _traces(runs, out, settings):
    if runs is None:
        return _trained(Path(out), settings)
    if settings:
        raise UserError(f"{', '.join(settings)}: only for training, without run folders")
    return bands.load(*map(Path, [runs] if isinstance(runs, str | Path) else runs))


def _trained(folder, settings):
    usual = {"optimizer": "adam", "rates": COURSE_RATES, "steps": 7000}
    chosen = Settings(**(usual | settings))
    data_set, device = load_data(chosen), batches.choose_device(chosen.device)
    settings = {k: v for k, v in asdict(chosen).items() if k not in NOT_IDENTITY}
    run = Run(folder, settings, data_fingerprint=data_set.fingerprint)
    spec, where = traces.specs(chosen)[0], run.path("precision.json")
    chosen = with_precision(chosen, spec, data_set, device, where)
    return traces.record_all(chosen, data_set, device, run.path("traces"))
