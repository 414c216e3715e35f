"""How few bits does a function other than an image take, as a quantised latent or as PCA's numbers?

Both go through one codec (compression/codec.py), whose step is of what moves predictions, by their
modality's weights of points, as much as a change of all values by it does. No file format stands
beside them that all modalities share.
"""

import math
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np

from functa_jax.evaluation import functions, reconstruction
from functa_jax.modalities import pictures
from functa_jax.modalities.modality import MODALITIES
from functa_jax.model import siren
from functa_jax.tasks import task
from functa_jax.tasks.compression import codec as codecs
from functa_jax.tasks.compression import encoding, transform
from functa_jax.training.batches import in_batches
from functa_jax.training.losses import predictions
from functa_jax.training.samples import point_weights
from groundfloor import seeds
from groundfloor.plots import COLOURS, WIDTH, figure, legend
from groundfloor.runs import Progress, counted

MOST = 100  # test functions, where --images does not say
NOISE_ROWS, NOISE_POINTS = 512, 1024  # latents, and points of each, where the Jacobian is looked at
SHOWN = 4


@dataclass(frozen=True, eq=False)
class Coder:
    """Numbers of functions, float32 (n, 1, 1, m), and back: train, val, test of them; `transform`
    of such; decode: numbers -> predictions (n, N, C)."""

    name: str
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    transform: transform.Transform
    decode: object

    def codec(self, step, settings):
        """The Codec at a step in grey levels, fitted to train; validation chooses its model."""
        train, held = self.train[: encoding.TRAIN_ROWS], self.val[: encoding.VAL_ROWS]
        held = held if len(held) else train[-encoding.VAL_ROWS :]
        return codecs.fit(self.transform, train, held, step / 255, **settings)


def measure(config, material, steps):
    """Measure latents and PCA at steps in grey levels; draws, writes and returns the report."""
    functa, data = material.functa, material.data
    task.require_common_points(data)
    rows = task.spaced(len(data.test), config.images or MOST)
    test, settings = data.test.take(rows), {"steps": config.training, "seed": config.seed}
    coders = _Coders(material, rows, config.seed).all()
    print(
        f"compress: {counted(len(rows), 'test function')} of {data.name}, latents and PCA at "
        f"{counted(len(steps), 'step')} each; report in {material.out}",
        flush=True,
    )
    modality, table, shown = MODALITIES[functa.config.modality], [], {}
    with Progress(len(coders) * len(steps), "point") as progress:
        for coder in coders:
            for step in steps:
                codec = coder.codec(step, settings)
                coordinates = codec.transform.apply(coder.test)
                codecs.say_clipped(codec, coordinates, coder.name)
                chosen = codec.choose(coordinates)
                found = coder.decode(codec.dequantise(*chosen[:2]))
                payload = codec.encode(*chosen)
                sizes = codecs.packed("0" * 16, codecs.without_basis(codec), len(rows), payload)[1]
                metric, psnr = (float(x.mean()) for x in functions.measure(functa, test, found))
                row = {"method": coder.name, "setting": f"step {step:g}"}
                row["bits/function"] = 8 * sizes.payload / len(rows)
                row[
                    f"{modality.metric} ({modality.unit})" if modality.unit else modality.metric
                ] = metric
                row |= {"PSNR (dB)": psnr} if modality.metric != "PSNR" else {}
                table.append(row)
                shown[coder.name, step] = found[:SHOWN]
                progress.advance(1, method=coder.name, psnr=f"{psnr:.2f} dB")
    figures = ["compress_rate.png"]
    rate_figure(material.path(figures[0]), table)
    figures += _pictures(material, test, table, shown, steps)
    return task.report(material, "compress", config, table, figures, _remarks(material, rows))


class _Coders:
    """The Coders of a Material; rows: of its test split."""

    def __init__(self, material, rows, seed):
        self.material, self.rows, self.seed = material, rows, seed
        self.functa, self.data = material.functa, material.data

    def all(self):
        """That of latents, and that of PCA."""
        return [self._latents(), self._pca()]

    @cached_property
    def _root(self):
        """Roots of the weights of all values (N, 1), their squares' mean 1."""
        weights = point_weights(self.functa.config.modality, self.data.train.coords)
        points = self.data.train.values.shape[1]
        weights = np.ones(points, np.float32) if weights is None else weights / weights.mean()
        return np.sqrt(weights)[:, None]

    def _latents(self):
        functaset = self.material.unaugmented
        parts = [functaset.train.latents, functaset.val.latents, functaset.test.latents[self.rows]]
        train, val, test = (encoding.as_grids(self.functa, part) for part in parts)
        pulled = pulled_noise(self.functa, self.data.train.coords, self._root, train, self.seed)

        def decode(grids):
            latents = grids.reshape(len(grids), -1)
            return self.functa.decode(latents, coords=self.data.test.coords)

        turned = transform.fit(train[: encoding.TRAIN_ROWS], 1, pulled)
        return Coder("latents", train, val, test, turned, decode)

    def _pca(self):
        root = np.repeat(self._root, self.functa.config.channels, 1).ravel()
        splits = [self.data.train, self.data.val, self.data.test.take(self.rows)]
        grids = [
            (reconstruction.pixel_rows(split.values) * root)[:, None, None] for split in splits
        ]
        pca = reconstruction.whole_pca(grids[0][:, 0, 0])
        basis = pca.components_
        turned = transform.Transform(pca.mean_.reshape(1, 1, -1), basis.T, basis, 1)

        def decode(grids):
            rows = grids.reshape(len(grids), -1) / np.maximum(root, 1e-6)
            return rows.reshape(-1, *self.data.test.values.shape[1:])

        return Coder("PCA", *grids, turned, decode)


def pulled_noise(functa, coords, root, grids, seed=0):
    """J'v of latents as grids (n, 1, 1, L): J the Jacobian of predictions times root (N, 1), v of
    random signs at random points, so many times larger that the mean of its outer product with
    itself is that over all points."""
    latents = grids[:NOISE_ROWS].reshape(-1, grids.shape[-1])
    random = np.random.default_rng(seeds.fold(seed, "pulled noise"))
    count = min(NOISE_POINTS, len(coords))
    points = random.integers(0, len(coords), (len(latents), count))
    signs = random.integers(0, 2, (*points.shape, functa.config.channels)) * 2 - 1
    vectors = np.float32(signs * root[points] * math.sqrt(len(coords) / count))
    pull = jax.jit(partial(_pull, functa.config))
    pulled = in_batches(
        lambda z, x, v: (pull(functa.params, z, x, v),), [latents, coords[points], vectors], 128
    )[0]
    return pulled.reshape(-1, 1, 1, grids.shape[-1])


def _pull(config, params, latents, coords, vectors):
    model = siren.with_params(config, params)

    def one(row):
        latent, points, vector = row

        def predict(z):
            return predictions(config, model.at(points, z))

        return jax.vjp(predict, latent)[1](jnp.asarray(vector))[0]

    return jax.lax.map(one, (latents, coords, vectors))


def rate_figure(path, table):
    """The metric against bits a function."""
    name = list(table[0])[3]
    with figure(path, size=(WIDTH, 3.2)) as (made, ax):
        for method in dict.fromkeys(row["method"] for row in table):
            points = [(row["bits/function"], row[name]) for row in table if row["method"] == method]
            ax.plot(*np.transpose(points), ".-", color=COLOURS[method], label=method)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set(xlabel="bits per function, without what all share", ylabel=f"mean {name}")
        legend(made, ax)


def _pictures(material, test, table, shown, steps):
    """Truth, then latents at the middle step and PCA at that which takes the most like bits."""
    name = list(table[0])[3]
    ours = table[len(steps) // 2]
    theirs = min(
        (row for row in table if row["method"] == "PCA"),
        key=lambda row: abs(math.log(max(row["bits/function"], 1) / max(ours["bits/function"], 1))),
    )
    rows = {"truth": test.values[:SHOWN]}
    for row in (ours, theirs):
        step = float(row["setting"].removeprefix("step "))
        text = f"{row['method']}, {row['bits/function']:.0f} bits\n{name} {row[name]:.3g}"
        rows[text] = shown[row["method"], step]
    path = material.path("compress_pictures.png")
    config = material.functa.config
    drawn = pictures.draw(path, config.modality, material.functa.resolution, rows)
    return [path.name] * drawn


def _remarks(material, rows):
    network = 4 * sum(leaf.size for leaf in jax.tree.leaves(material.functa.params))
    basis = 4 * math.prod(material.data.train.values.shape[1:])
    return [
        f"{len(rows):,} test functions of {len(material.data.test):,}, one seed. Bits leave out "
        "what all functions share: transform, entropy model, and the network "
        f"({network:,} bytes) or PCA's basis ({basis:,} bytes a component).",
        "Step: of the quantiser, in grey levels, for numbers of which each moves predictions as "
        "much as a value, by the weights of points.",
    ]
