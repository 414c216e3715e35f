"""Options and states that a DessiLBI optimizer cannot have: ValueErrors in one line."""

import math

COUPLINGS = ("decoupled", "coupled")


def refuse_impossible(options):
    """ValueError for the first option of a parameter group that is impossible."""
    for name in ("lr", "kappa", "nu", "lr_gamma", "threshold"):
        value = options[name]
        if value is None and name == "lr_gamma":
            continue
        positive = name in ("kappa", "nu")
        if not (value > 0 if positive else value >= 0) or value == math.inf:
            bound = "positive" if positive else "at least 0"
            raise ValueError(f"{name} must be {bound} and finite, got {value}")
    target = options["target_density"]
    if target is not None and not (0 < target < 1 and options["threshold"] > 0):
        raise ValueError(
            f"target_density must be inside (0, 1), with a threshold above 0; got {target} and "
            f"{options['threshold']}"
        )
    if options["coupling"] not in COUPLINGS:
        raise ValueError(f"coupling must be one of {COUPLINGS}, got {options['coupling']!r}")


def refuse_other_shapes(state):
    """Tensors of a parameter's state have its shape, or are numbers, or the base's own affair."""
    parameters = [p for group in state["param_groups"] for p in group["params"]]
    for number, parameter in enumerate(parameters):
        for key, value in state["state"].get(parameter, {}).items():
            told = key in ("v", "gamma", "exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg")
            if told and value is not None and value.shape != parameter.shape:
                raise ValueError(
                    f"the state is of another model: {key} of parameter {number} has shape "
                    f"{tuple(value.shape)} there, {tuple(parameter.shape)} here"
                )
