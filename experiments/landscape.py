"""Does BatchNorm smooth the landscape, and does it widen the range of learning rates?

    python -m experiments.landscape digits            14 minutes on 2 CPU cores
    python -m experiments.landscape digits-edge       5 minutes of one core
    python -m experiments.landscape digits-edge-adam  10 minutes of one core
    python -m experiments.landscape cifar10-light     10 minutes of one core
    python -m experiments.landscape cifar10-norms     24 minutes of one core
    python -m experiments.landscape cifar10-edge      52 minutes of one core
    python -m experiments.landscape cifar10-vgg-a     2 hours of one core a seed
    python -m experiments.landscape cifar10-course    on a GPU; not yet run
    python -m experiments.landscape cifar10-paper     on a GPU; not yet run

Santurkar et al. 2018 (VGG, SGD 0.1, no augmentation): 83 % with BatchNorm, 80 % without; narrower
bands of loss and of the gradient's change with it; effective β near 20 with and without, which is
1 / (0.5 * 0.1), the reciprocal of the shortest length. So β is reported for each length here.

digits-edge is gradient descent on all of 512 images, where theory speaks plainly: the largest
eigenvalue of the Hessian rises to 2 / rate, the edge of stability, and cannot stay above it (Cohen
et al. 2021). Expected: without normalisation at every rate, with BatchNorm at the larger ones.
cifar10-edge is SGD by batches, its curvature that of 512 images, which is above that of all. Found:
near the edge at every rate with and without BatchNorm; batch sharpness, which should come to the
edge (Andreyev and Beneventano 2024), at half of it.

Rates are compared on validation images. Results: landscape_NAME.json and its pictures.
"""

from experiments import runner
from groundfloor import cli

Config = runner.PresetConfig
PRESETS = {
    "digits": Config(),
    "digits-edge": Config(),
    "digits-edge-adam": Config(
        preset="digits-edge", flags="--optimizer adam --rates 0.0003 0.001 0.003"
    ),
    "cifar10-light": Config(flags="--steps 400 --rates 0.05 0.1 0.2"),  # 1.1 epochs
    "cifar10-norms": Config(
        preset="cifar10-light",
        flags="--steps 400 --rates 0.05 0.1 0.2 --norms none batch l1 l2 linf",
    ),
    "cifar10-edge": Config(
        preset="cifar10-light",
        flags="--steps 400 --rates 0.05 0.1 0.2 --curvature 512 --probe-every 40",
    ),
    "cifar10-vgg-a": Config(  # 8 epochs of the course's network at one of its rates
        preset="cifar10-course",
        flags="--rates 0.001 --steps 2808 --probe-every 54",
        seeds=(0,),
    ),
    "cifar10-course": Config(),
    "cifar10-paper": Config(),
}


def main(config, name):
    """Run what is missing, keep its table and pictures; returns what the JSON holds."""
    return runner.run_and_keep(config, "landscape", name)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
