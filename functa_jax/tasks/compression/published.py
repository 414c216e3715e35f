"""What others have published for CIFAR-10, from the data file beside this one."""

import json
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).with_name("published_cifar10.json")


@dataclass(frozen=True)
class Curve:
    """What is published of a method: points ((bits per pixel, dB), ...), rates rising; whole_files:
    whether each image's rate is that of a file with its header."""

    method: str
    points: tuple
    whole_files: bool


def curves():
    """The published Curves."""
    methods = json.loads(PATH.read_text(encoding="utf-8"))["methods"]
    return [
        Curve(
            entry["method"],
            tuple(map(tuple, entry["points"])),
            entry.get("whole_files", False),
        )
        for entry in methods
    ]
