"""What a function's fit costs: squared error, or the likelihood of probabilities.

    squared:    mean of (f(x) - y)^2
    bernoulli:  mean of log(1 + exp(g(x))) - y g(x) = -log p(y),   p = sigmoid(g(x))

Means over points and channels. With weights w of the points they are sums of w times that, over the
sum of w: areas on a sphere, or 0 for points that do not count and 1 for the others. f is the
network's output, which starts at about one half; of probabilities y its distance from there, GAIN
times, is the logit g = GAIN (f - 1/2) (cross-entropy of a sigmoid: Bishop 2006, equation 4.90, and
as occupancy networks have it: Mescheder et al. 2019, equation 2). So outputs of [0, 1] are nearly
sure, as they are values where the error is squared, and one setting of the network suits both.
"""

import jax
import jax.numpy as jnp

GAIN = 10.0  # sigmoid(GAIN / 2) is 0.993


def predictions(config, outputs):
    """What a network's outputs say of values about [0, 1]."""
    return jax.nn.sigmoid(logits(outputs)) if config.loss == "bernoulli" else outputs


def logits(outputs):
    """Of a network's outputs, where values are probabilities."""
    return GAIN * (outputs - 0.5)


def squared(residuals):
    """(loss, error) of residuals: both their mean square."""
    error = jnp.mean(residuals**2)
    return error, error


def judgement(config, outputs_of, values, weights=None):
    """(of_latent, judge): what an inner step looks at, and what that costs.

    outputs_of: a function of a latent, the network's outputs (N, C); values (N, C) in [0, 1];
    weights (N,). Of what of_latent(latent) gives, judge gives (loss, mean squared error of the
    predictions). Of squared error that is residuals, with `squared`.
    """
    if weights is not None:  # a mean of 1; where all are 0, nothing is asked
        weights = (weights / jnp.maximum(jnp.mean(weights), 1e-12))[..., None]
    if config.loss == "squared":

        def residuals(latent):
            difference = outputs_of(latent) - values
            return difference if weights is None else jnp.sqrt(weights) * difference

        return residuals, squared

    def mean(x):
        return jnp.mean(x if weights is None else weights * x)

    def judge(outputs):
        error = mean((predictions(config, outputs) - values) ** 2)
        logit = logits(outputs)
        return mean(jax.nn.softplus(logit) - values * logit), error

    return outputs_of, judge
