"""Novel views without a field: what linear algebra makes of scenes that share their cameras.

The views of a scene, one after the other, are one long vector x. From the given ones, x_S, the
others are predicted by

    Wiener     the mean of x given x_S when x is Gaussian with the mean and the covariance of the
               training scenes, and x_S has noise of variance s: all components of PCA with a
               Gaussian prior (Rasmussen & Williams 2006, equation 2.25);
    PCA        the same with as many components as a latent has numbers;
    nearest    the training scene whose given views are nearest, as it is;
    mean       the mean of the training scenes, whatever is given.

Shapes: n training scenes, m others, d numbers of all views, s of the given ones.
"""

import numpy as np

NOISES = 10.0 ** np.arange(-4, 1.1, 0.5)  # variances that are tried, colours being in [0, 1]


class LinearViews:
    """A Gaussian prior of scenes: their mean (d,) and c components (c, d), float32.

    All is done with c x c matrices: the covariance of n scenes has rank n - 1 at most.
    """

    def __init__(self, mean, basis):
        self.mean, self.basis = mean, basis

    @classmethod
    def of(cls, scenes):
        """The prior of training scenes (n, d), with all n - 1 components."""
        mean = scenes.mean(0)
        centred = scenes - mean
        _, vectors = np.linalg.eigh(np.float64(centred @ centred.T))
        # Components times their standard deviations, so that the prior of their weights is N(0, 1).
        basis = vectors[:, :0:-1].T @ centred / np.sqrt(len(scenes) - 1)
        return cls(mean, np.float32(basis))

    def first(self, components):
        """The same with the first components alone."""
        return LinearViews(self.mean, self.basis[:components])

    def weights(self, seen, given, noise):
        """Means (m, c) of the components' weights from given numbers (columns) of seen (m, d)."""
        basis = np.float64(self.basis[:, given])
        normal = basis @ basis.T + noise * np.eye(len(basis))
        return np.linalg.solve(normal, basis @ (seen[:, given] - self.mean[given]).T).T

    def predict(self, seen, given, wanted, noise):
        """Predictions (m, w) of the wanted columns from the given ones of seen (m, d)."""
        weights = np.float32(self.weights(seen, given, noise))
        return self.mean[wanted] + weights @ self.basis[:, wanted]

    def best_noise(self, val, given, wanted, views=None):
        """Of NOISES the one whose predictions of val (m, d) have the best PSNR, and that PSNR.

        views: as in `view_psnr`.
        """
        scores = {
            float(noise): view_psnr(self.predict(val, given, wanted, noise), val[:, wanted], views)
            for noise in NOISES
        }
        best = max(scores, key=scores.get)
        return best, scores[best]


def nearest(train, seen, given, wanted):
    """The wanted columns of the training scenes that are nearest in the given ones, (m, w)."""
    theirs, ours = train[:, given], seen[:, given]
    apart = (theirs**2).sum(1) - 2 * ours @ theirs.T  # less |ours|^2, the same for all
    return train[apart.argmin(1)][:, wanted]


def view_psnr(predicted, true, views=None):
    """Mean over pictures of their PSNR in dB, colours (m, w) in [0, 1]; views: of a row."""
    shape = (len(true), views or 1, -1)
    errors = ((np.clip(predicted, 0, 1) - true) ** 2).reshape(shape).mean(-1)
    return float(-10 * np.log10(np.maximum(errors, 1e-10)).mean())
