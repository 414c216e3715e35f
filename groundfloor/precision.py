"""bfloat16 or float32: what is faster on this device, by measurement.

bfloat16 can be twice as fast where the hardware multiplies in it (GPUs, AMX, avx512_bf16), of some
products slower there, too, and PyTorch is a hundred times slower where it is emulated.
"""

from typing import Literal, get_args

from groundfloor.errors import UserError
from groundfloor.runs import read_dict, write_json

Precision = Literal["auto", "float32", "bfloat16"]
KINDS = get_args(Precision)[1:]  # those that can be computed in
GAIN = 1.15  # how many times as fast bfloat16 has to be


def chosen(precision, path, measured):
    """ "float32" or "bfloat16"; auto: bfloat16 where it is GAIN times as fast on this device.

    path: a JSON file that keeps the choice with the seconds, or has it from before: a resumed run
    goes on as it began; None keeps nothing. measured(): {"float32": seconds, "bfloat16": seconds}
    of a training step.
    """
    if precision != "auto":
        return precision
    if path is not None and path.exists():
        return kept(path)
    seconds = measured()
    faster = GAIN * seconds["bfloat16"] < seconds["float32"]
    choice = "bfloat16" if faster else "float32"
    if path is not None:
        write_json(path, {"precision": choice, "seconds": seconds})
    times = ", ".join(f"{name} {1000 * value:.1f}" for name, value in seconds.items())
    print(f"precision: {choice} (milliseconds: {times})", flush=True)
    return choice


def timed(path):
    """The seconds that `chosen` kept in `path`; None where it measured nothing, as one was asked
    for."""
    return read_dict(path, "choice of precision").get("seconds") if path.exists() else None


def kept(path):
    """The choice in such a file; UserError if it is damaged."""
    choice = read_dict(path, "choice of precision", "precision")["precision"]
    if choice not in KINDS:
        raise UserError(f"{path} is damaged: there is no precision {choice}")
    return choice
