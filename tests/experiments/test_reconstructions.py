"""The picture of what latents and PCA keep: PSNR in closed form."""

import numpy as np
import pytest

from experiments import reconstructions


def test_psnr_of_a_shift_is_its_logarithm():
    images = np.zeros((2, 3, 4, 1))
    shifted = images + np.array([0.1, 0.01]).reshape(2, 1, 1, 1)
    assert reconstructions.psnr(shifted, images) == pytest.approx([20, 40])
