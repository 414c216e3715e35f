"""Where a training starts: from the weights of another run, or from what it reached before."""

from dataclasses import fields, replace

from functa_jax.functa import load
from functa_jax.model import siren
from functa_jax.model.config import GridConfig, NetworkConfig, RayConfig
from functa_jax.training import outer_loop
from groundfloor.errors import UserError
from groundfloor.runs import Run, read_dict, read_json, run_folder, write_json


def weights_of(path, model):
    """The parameters in a run folder or functa.npz file, for training a ModelConfig.

    UserError unless that is the same network, with the same learned rates.
    """
    functa = load(path)
    settings = [field.name for field in fields(NetworkConfig) + fields(GridConfig)]
    settings += [field.name for field in fields(RayConfig)]
    for name in ("channels", "inputs", "modality", "picture", *settings):
        theirs, ours = getattr(functa.config, name), getattr(model, name)
        if theirs != ours:
            raise UserError(f"--init {path}: it has {name} {theirs}, this run {ours}")
    try:
        siren.check_arrays(functa.params, lambda: siren.init(model, 0))
    except ValueError:
        raise UserError(
            f"--init {path}: it learned other rates (--inner-rate, --rates-of-steps) than this run "
            "is to learn"
        ) from None
    return functa.params


def open_run(preset, config, data, not_identity):
    """The Run of a meta_train.Config, new or begun before.

    A finished run of fewer steps goes on to config.steps: the outer rate follows the schedule of
    all steps from there on, metrics.jsonl has a row for it, and summary.json is kept by its steps.
    """

    def opened(config):
        if config.init is not None and config.init.is_dir():
            config = replace(config, init=config.init / "functa.npz")
        return Run.of(
            "meta_train",
            preset,
            config,
            data,
            not_identity=not_identity,
            files=["init"],
            removed={"start": "zero"},
        )

    folder = run_folder("meta_train", preset, config)
    _end_raising(folder)
    before = _finished_steps(folder)
    if before is None or before >= config.steps:
        return opened(config)
    earlier = replace(config, steps=before)
    run = opened(earlier)  # which refuses all other differences
    if not any(run.path("checkpoints").glob("[0-9]*")):
        raise UserError(f"{folder} has no checkpoints from which it could go on to {config.steps}")
    print(_what_the_rate_does(earlier, config), flush=True)
    run.log(step=before, event="raised", steps=config.steps)
    write_json(run.path("config.json"), {**run.config, "steps": config.steps})
    _end_raising(folder)
    return opened(config)


def known_images(preset, config):
    """The fingerprint of the images that a meta_train.Config's run was begun with, or None."""
    path = run_folder("meta_train", preset, config) / "config.json"
    return read_dict(path, "settings").get("data_fingerprint") if path.exists() else None


def _end_raising(folder):
    """Set aside the summary of fewer steps than config.json has: what a raise does last, which may
    have been killed before."""
    steps, summary = _finished_steps(folder), folder / "summary.json"
    done = None if steps is None else read_dict(summary, "results").get("outer_steps")
    if done is not None and done < steps:
        summary.rename(folder / f"summary-{done}.json")


def _finished_steps(folder):
    """The outer steps of the finished run in this folder, or None."""
    if not (folder / "summary.json").exists() or not (folder / "config.json").exists():
        return None
    settings = read_json(folder / "config.json")
    return settings.get("steps") if isinstance(settings, dict) else None


def _what_the_rate_does(before, now):
    text = f"going on from step {before.steps:,} to {now.steps:,}: the outer rate "
    if now.schedule == "constant":
        return text + "is constant, so that this ends as one run of all steps"
    end, goes_on = (float(outer_loop.schedule(outer)(before.steps)) for outer in (before, now))
    return (
        f"{text}was {end:.2g} at the end and is {goes_on:.2g} from here on, falling along the "
        "cosine of all steps; one run of all steps would end elsewhere"
    )
