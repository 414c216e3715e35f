"""Which images a command works on: the settings that all commands share."""

from dataclasses import dataclass
from pathlib import Path

from groundfloor.checks import Count, Settings
from groundfloor.data import datasets

# Where images come from may change when a run is resumed: their fingerprint tells what was read.
SOURCE = ("data_dir", "download", "skip_damaged")


@dataclass(frozen=True)
class DataConfig(Settings):
    """The data set, where it is, and how its images are read."""

    dataset: str = "digits"
    """Data set: digits, mnist, cifar10, any prepared TFDS image set in --data-dir, or the path of
    a folder of images or of a .npy or .npz file."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    download: bool = False
    """Let torchvision download the data set if it is missing."""
    resolution: Count | None = None
    """Side in pixels of square images: of named sets block means (it must divide their side), of
    one's own files centre crops, resized with antialiasing; none keeps what they have."""
    skip_damaged: bool = False
    """Leave out the damaged files of a folder of images and name them, instead of refusing it."""

    def load(self, **options):
        """The `Dataset`; options: `images` and `val_fraction` of `datasets.load`."""
        return datasets.load(
            self.dataset,
            self.data_dir,
            download=self.download,
            resolution=self.resolution,
            skip_damaged=self.skip_damaged,
            **options,
        )
