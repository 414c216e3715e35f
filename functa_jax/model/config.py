"""Settings of the modulated SIREN: each is defined here, with its help text and its check.

A command's Config inherits the parts that a user sets; with what the training images decide they
are the ModelConfig of a trained functa.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Literal

from functa_jax.modalities.modality import MODALITIES
from groundfloor import checks
from groundfloor.checks import AtLeastTwo, Count, Interval, NotNegative, Positive, Settings


@dataclass(frozen=True)
class NetworkConfig(Settings):
    """The network that all images (or other functions) share."""

    decoder: Literal["siren", "refined_pca"] = field(default="siren", kw_only=True)
    """A modulated SIREN; or PCA's picture and convolutions that refine it, which starts as PCA."""
    width: Count = 64
    """Units in each sine layer."""
    depth: Annotated[int, Interval(2, 1000)] = 4
    """Linear layers (or convolutions) in all: first, depth - 2 hidden, last."""
    latent_dim: Count = 32
    """Numbers in each image's latent, or with --grid in each cell of it."""
    w0: Positive = 30.0
    """Frequency of the sine layers, sin(w0 x)."""
    modulation: Literal["shift", "scale_shift"] = "shift"
    """What the latent modulates in each unit."""


@dataclass(frozen=True)
class StepConfig(Settings):
    """What a step of the inner loop is."""

    inner_rate: Positive | None = None
    """Constant rate of the inner loop; none learns one rate per latent number (meta-SGD)."""
    rate_start: Positive | None = None
    """Where learned rates start; none: at random in 0.005 ... 0.1, as DeepMind's."""
    update: Literal["rates", "gauss_newton"] = "rates"
    """Learned rates of latent numbers, or Gauss-Newton steps by conjugate gradients that the rates
    precondition."""
    cg_iterations: Count = 1
    """Conjugate gradients in a Gauss-Newton step (other updates have none); 1 is a gradient step of
    the best length."""


@dataclass(frozen=True)
class GridConfig(Settings):
    """Spatial functa: a latent that is a grid of cells."""

    grid: Count | None = None
    """Cells per side of the latent; none: one vector for the whole image."""
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    """What a point takes from the grid: its own cell's shifts, or a mean of those of the four
    around."""
    map_size: Literal[1, 3] = 1
    """Cells per side that the map from latents to shifts sees: 1, or 3 with the neighbours."""
    coordinates: Literal["global", "local"] = "global"
    """Coordinates in the image, or in the cell that a point lies in."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("map_size", "coordinates", "interpolation"):
            value = getattr(self, name)
            usual = value == GridConfig.__dataclass_fields__[name].default
            checks.require(usual or self.grid is not None, name, value, "needs --grid")

    @property
    def cells(self):
        """Cells in an image."""
        return (self.grid or 1) ** 2

    @property
    def by_cells(self):
        """Whether points are worked on cell by cell, in the order of `siren.points`."""
        return self.grid is not None and self.interpolation == "nearest"

    @property
    def independent(self):
        """Whether each cell is a small functa of its own: its pixels and its latent are no other's
        concern."""
        return self.by_cells and self.map_size == 1


@dataclass(frozen=True)
class RayConfig(Settings):
    """How rays get their colours from the SIREN of a scene (`model.radiance`). The defaults are
    DeepMind's for SRN cars."""

    ray_points: AtLeastTwo = 32
    """Points on a ray through a scene."""
    near: NotNegative = 0.8
    """Distance of the first of them from the camera, along its axis."""
    far: Positive = 1.8
    """Distance of the last of them."""
    ball: Positive | None = None
    """Radius about the origin that holds the scene: points lie within it, and rays that miss it
    are background, which is left out where all scenes share their cameras; none: from near to
    far."""
    background: Literal["white", "black"] = "white"
    """Colour of rays that meet nothing."""
    density_gain: Positive = 1.0
    """Factor of the density in the network's output; 1 is DeepMind's. A last layer that starts for
    colours takes long to reach the densities of solids."""
    max_density: Positive = 10.0
    """Bound of a scene's density, per unit of length."""

    def __post_init__(self):
        super().__post_init__()
        checks.require(self.near < self.far, "far", self.far, f"--near is {self.near:g}")


@dataclass(frozen=True)
class ImageConfig(Settings):
    """What the training images decide."""

    channels: Count


# The order in which a functa's hash counts the settings: new ones go last. The first four always
# count, the others where they differ from their defaults.
HASHED = (
    "channels",
    "width",
    "depth",
    "latent_dim",
    "w0",
    "modulation",
    "inner_rate",
    "step_rates",
    "rate_start",
    "update",
    "cg_iterations",
    "grid",
    "interpolation",
    "map_size",
    "coordinates",
    "decoder",
    "picture",
    "inputs",
    "modality",
    "ray_points",
    "near",
    "far",
    "ball",
    "background",
    "density_gain",
    "max_density",
)


@dataclass(frozen=True)
class ModelConfig(RayConfig, GridConfig, StepConfig, NetworkConfig, ImageConfig):
    """What fixes a modulated SIREN's shapes and its function, given its parameters.

    With step_rates = K the first K steps of the inner loop have learned rates of their own (later
    ones that of step K). picture: (height, width) of what the decoder "refined_pca" makes. inputs:
    coordinates of a point; modality: its name in `MODALITIES`, which has the loss.
    """

    step_rates: Count | None = None
    picture: tuple[Count, Count] | None = None
    inputs: Count = 2
    modality: str = "images"

    def __post_init__(self):
        super().__post_init__()
        checks.require(self.modality in MODALITIES, "modality", self.modality, "no such modality")

    @classmethod
    def of(cls, config, **decided):
        """The ModelConfig with the settings of a command's Config and those `decided` otherwise."""
        names = [setting.name for setting in fields(cls) if hasattr(config, setting.name)]
        return cls(**{name: getattr(config, name) for name in names} | decided)

    @property
    def loss(self):
        """What a prediction costs: see `training.losses`."""
        return MODALITIES[self.modality].loss

    @property
    def latent_shape(self):
        """Shape of one image's latent: (L,) or (s, s, L)."""
        return (self.latent_dim,) if self.grid is None else (self.grid, self.grid, self.latent_dim)

    @property
    def numbers(self):
        """Numbers in one image's latent."""
        return self.cells * self.latent_dim

    @property
    def named(self):
        """The settings that a hash counts: equal models have equal ones."""
        defaults = {setting.name: setting.default for setting in fields(self)}
        settings = asdict(self)
        return {
            name: settings[name]
            for place, name in enumerate(HASHED)
            if place < 4 or settings[name] != defaults[name]
        }
