"""Classifiers on latents: their mathematics, what is chosen on what, the command, the study."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from functa_jax.tasks.classification.classifiers import Recipe
from hypothesis import given
from hypothesis import strategies as st

from experiments import latent_classification
from functa_jax import functa
from functa_jax.evaluation import classification
from functa_jax.functaset import load_functaset
from functa_jax.model import siren
from functa_jax.tasks import classify
from functa_jax.tasks.classification import classifiers, features, selection
from functa_jax.training import exporter
from functa_jax.training.exporter import Augmentation
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.runs import write_json
from tests.refusals import refusal

KEY = jax.random.key(0)
GRID = (2, 2, 3)
IMAGES = 60  # of each split of digits


# ---- what a batch goes through ----


def test_shares_are_the_quantiles_of_a_beta_distribution():
    middles = (np.arange(1024) + 0.5) / 1024
    np.testing.assert_array_equal(classifiers.mixing_shares(0), 1)
    np.testing.assert_allclose(classifiers.mixing_shares(1), middles, atol=1e-6)
    arcsine = np.sin(np.pi * middles / 2) ** 2
    np.testing.assert_allclose(classifiers.mixing_shares(0.5), arcsine, atol=1e-6)


@pytest.mark.parametrize("strength", [0.0, 0.2, 1.0])
def test_mixup_mixes_examples_and_labels_alike(strength):
    y = jnp.eye(8)
    shares = classifiers.mixing_shares(strength)
    x, labels = jax.jit(classifiers.mixed)(KEY, y.reshape(8, 2, 4), y, shares)
    np.testing.assert_array_equal(x.reshape(8, 8), labels)
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
    assert ((np.asarray(labels) > 0).sum(1) <= 2).all()
    if strength == 0:
        np.testing.assert_array_equal(labels, y)
    else:
        assert not np.array_equal(labels, y)


def test_cells_are_dropped_whole_and_as_often_as_asked():
    x = jnp.ones((400, 4, 4, 3))
    kept = np.asarray(classifiers.without_cells(KEY, x, 0.1))
    assert (kept.min(-1) == kept.max(-1)).all()
    assert abs(kept.mean() - 0.9) < 5 * np.sqrt(0.09 / 6400)
    np.testing.assert_array_equal(classifiers.without_cells(KEY, x[:, 0, 0], 0.5), 1)


def test_noise_has_the_standard_deviation_asked_for():
    recipe = Recipe(1, noise=0.3)
    x, _ = jax.jit(classifiers.augmented)(KEY, jnp.zeros((4000, 4)), jnp.zeros((4000, 1)), recipe)
    assert abs(np.std(x) - 0.3) < 5 * 0.3 / np.sqrt(2 * 16000)


# ---- networks ----


def examples(*shape):
    return jax.random.normal(KEY, shape)


def test_mlp_is_linear_maps_with_silu_between():
    model = classifiers.MLP(12, 5, width=7, depth=2, rngs=nnx.Rngs(0))
    x = np.asarray(examples(4, *GRID)).reshape(4, -1)
    for layer in model.hidden:
        x = x @ np.asarray(layer.kernel) + np.asarray(layer.bias)
        x = x / (1 + np.exp(-x))
    expected = x @ np.asarray(model.head.kernel) + np.asarray(model.head.bias)
    np.testing.assert_allclose(model(examples(4, *GRID)), expected, atol=1e-5)


@pytest.fixture(scope="module")
def transformer():
    return classifiers.Transformer(GRID, 5, width=8, blocks=3, heads=2, rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_transformer_is_its_blocks_one_after_the_other(transformer):
    x = examples(4, *GRID)
    tokens = transformer.embed(x.reshape(4, 4, 3))
    tokens = jnp.concatenate([jnp.tile(transformer.gather[...], (4, 1, 1)), tokens], 1)
    tokens = tokens + transformer.positions[...]
    graph, weights = nnx.split(transformer.blocks)
    for number in range(3):
        tokens = nnx.merge(graph, jax.tree.map(lambda w, i=number: w[i], weights))(tokens)
    expected = transformer.head(transformer.norm(tokens[:, 0]))
    np.testing.assert_allclose(transformer(x), expected, atol=1e-5)
    first, second = (jax.tree.leaves(jax.tree.map(lambda w, i=i: w[i], weights)) for i in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_transformer_knows_cells_by_their_positions_alone(transformer):
    x, order = examples(4, *GRID), np.array([2, 0, 3, 1])
    shuffled = x.reshape(4, 4, 3)[:, order].reshape(4, *GRID)
    assert np.abs(transformer(shuffled) - transformer(x)).max() > 1e-3
    graph, weights = nnx.split(transformer)
    moved = nnx.merge(graph, jax.tree.map(jnp.copy, weights))
    places = transformer.positions[...]
    moved.positions[...] = places.at[1:].set(places[1:][order])
    np.testing.assert_allclose(moved(shuffled), transformer(x), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 2, 8), (9, 13, 3)])
def test_convnet_takes_any_size(shape):
    model = classifiers.ConvNet(shape, 5, channels=4, rngs=nnx.Rngs(0))
    logits = model(examples(3, *shape))
    assert logits.shape == (3, 5)
    np.testing.assert_allclose(logits[1:2], model(examples(3, *shape)[1:2]), atol=1e-5)


def test_patches_and_halves_are_those_of_flax():
    x, weights = examples(2, 5, 7, 3), jax.random.normal(KEY, (3, 3, 3, 4))
    convolution = nnx.Conv(3, 4, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
    convolution.kernel[...] = weights
    found = classifiers.patches(x) @ weights.reshape(27, 4)
    np.testing.assert_allclose(found, convolution(x), atol=1e-4)
    np.testing.assert_array_equal(classifiers.halved(x), nnx.max_pool(x, (2, 2), (2, 2)))


@pytest.mark.slow
def test_dropout_only_when_training(transformer):
    convnet = classifiers.ConvNet((4, 4, 3), 5, channels=4, rngs=nnx.Rngs(0))
    mlp = classifiers.MLP(12, 5, width=16, rngs=nnx.Rngs(0))
    for model, x in (
        (mlp, examples(4, 12)),
        (transformer, examples(4, *GRID)),
        (convnet, examples(4, 4, 4, 3)),
    ):
        np.testing.assert_array_equal(model(x), model(x))
        assert not np.array_equal(model(x, KEY), model(x))


# ---- training ----


def blobs(classes=3, size=40):
    """Gaussian clouds around far corners: rows (n, 4), labels (n,)."""
    y = np.arange(size * classes) % classes
    return np.float32(
        4 * np.eye(classes, 4)[y] + np.random.default_rng(0).normal(size=(len(y), 4))
    ), y


def small(rngs):
    return classifiers.MLP(4, 3, width=8, depth=1, dropout=0.0, rngs=rngs)


NETWORK = classifiers.fresh(small)


def trained(recipe, **options):
    return classifiers.train(NETWORK, recipe, *blobs(), classes=3, batch=16, **options)


@pytest.mark.slow
def test_what_can_be_separated_is_learned():
    seen = []
    model = trained(Recipe(120, rate=1e-2, ema=0.9), advanced=lambda *said: seen.append(said))
    x, y = blobs()
    assert np.mean(model.logits(x).argmax(1) == y) > 0.97
    assert [count for count, _ in seen] == [50, 50, 20]
    assert seen[-1][1] < seen[0][1]


def test_training_does_not_depend_on_where_it_pauses():
    recipe = Recipe(9, rate=1e-2, noise=0.1, shares=classifiers.mixing_shares(0.5))
    once, often, other = trained(recipe), trained(recipe, each=4), trained(recipe, seed=1)
    jax.tree.map(np.testing.assert_array_equal, once.weights, often.weights)
    x, _ = blobs()
    assert not np.allclose(once.logits(x), other.logits(x))


@pytest.mark.slow
def test_one_step_is_adamw_on_smoothed_labels():
    # A single example, so that every batch is the same; the first step of Adam is the gradient's
    # sign, and the average of weights is nine parts of ten the new ones, as it begins.
    x, y, rate, decay = np.ones((1, 4), np.float32), np.zeros(1, int), 1e-2, 0.5
    graph, weights = NETWORK

    def loss(weights):
        chances = jax.nn.log_softmax(nnx.merge(graph, weights)(jnp.array(x)))
        return -(chances @ jnp.array([0.8, 0.1, 0.1]))[0]

    gradient = jax.grad(loss)(weights)
    recipe = Recipe(1, rate, decay, smoothing=0.3, ema=0.999)
    found = classifiers.train(NETWORK, recipe, x, y, classes=3, batch=4).weights

    def check(old, slope, new):
        step = rate * (slope / (np.abs(slope) + 1e-8) + decay * old)
        np.testing.assert_allclose(new, old - 0.9 * step, rtol=1e-4, atol=1e-6)

    jax.tree.map(check, *map(jax.device_get, (weights, gradient, found)))


def test_rate_rises_then_falls_to_zero():
    recipe = Recipe(100, rate=1.0, decay=0.0)
    optimizer, weights = classifiers._optimizer(recipe), jnp.zeros(1)
    state, steps = optimizer.init(weights), []
    for _ in range(100):  # a constant gradient: Adam's own step has length one
        update, state = optimizer.update(jnp.ones(1), state, weights)
        steps.append(-float(update[0]))
    np.testing.assert_allclose(steps[0], 0.2, atol=1e-3)
    assert np.argmax(steps) == 4 and np.all(np.diff(steps[4:]) < 0) and steps[-1] < 1e-3
    np.testing.assert_allclose(steps[50], 0.5, atol=1e-3)


def test_refreshed_examples_are_what_is_learned():
    x, y = blobs()
    wrong = np.roll(x, 1, axis=0)  # every example with another class's label, until refreshed
    network = NETWORK

    def refresh(number):
        half = len(x) // 2
        start = half * (number % 2)
        return start, x[start : start + half]

    recipe = Recipe(120, rate=1e-2, ema=0.9)
    model = classifiers.train(
        network, recipe, wrong, y, classes=3, batch=16, refresh=refresh, each=10
    )
    assert np.mean(model.logits(x).argmax(1) == y) > 0.97


# ---- choice and report ----


def split_of(labels, shift=0):
    """A Split whose images are their own numbers."""
    labels = np.asarray(labels, int)
    images = np.uint8(np.arange(len(labels)) + shift).reshape(-1, 1, 1, 1)
    return datasets.Split(images, labels, np.arange(len(labels)))


def known_of(train, val, seed=0):
    parts = split_of(train), split_of(val, len(train)), split_of([0, 1])
    return selection.Known(datasets.Dataset("x", *parts, 3, ""), seed)


@given(st.integers(0, 99), st.integers(15, 40), st.integers(0, 9), st.integers(0, 2))
def test_no_copy_of_an_image_that_is_held_out_is_learnt_from(seed, n, n_val, copies):
    labels = np.random.default_rng(seed).permutation(np.arange(n + n_val) % 3)
    known = known_of(labels[:n], labels[n:], seed)
    rows = np.tile(np.arange(n), 1 + copies).astype(float)[:, None]  # features name their image
    held_out = np.arange(n, n + n_val).astype(float)[:, None]
    kind = features.Features("x", rows, held_out, None, None, 0)
    every = known.features(kind)[:, 0]
    np.testing.assert_array_equal(every, np.arange(n + n_val))
    assert known.folded and sorted(np.concatenate([h for _, h in known.splits])) == every.tolist()
    for seen, held in known.splits:
        assert not {*seen} & {*held} and {*seen} | {*held} == {*every}
        found, their = known.copies(kind, seen)
        assert len(found) == copies * (seen < n).sum() and not np.isin(found, held).any()
        np.testing.assert_array_equal(their, known.labels[found[:, 0].astype(int)])


def test_enough_images_of_validation_are_what_is_judged_on():
    known = known_of(np.arange(90) % 3, np.arange(selection.ENOUGH) % 3)
    ((seen, held),) = known.splits
    assert not known.folded and np.array_equal(seen, known.final)
    assert (seen.max(), held.min(), len(held)) == (89, 90, selection.ENOUGH)
    assert "on 1,000 validation images" in known.said()


def test_judged_on_what_is_held_out_alone():
    """A model that knows all it has learnt from and nothing else is right as often as chance."""
    labels = np.random.default_rng(0).permutation(np.arange(300) % 3)
    known = known_of(labels, [])
    x = np.arange(300)

    def train(rows):
        memory = dict(zip(x[rows], labels[rows], strict=True))
        return lambda x: np.array([np.eye(3)[memory.get(i, 0)] for i in x])

    accuracy, loss, _ = known.judged(x, train)
    assert accuracy == pytest.approx(np.mean(labels == 0))
    assert loss == pytest.approx(np.log(3), abs=1e-3)  # the best temperature makes it uniform


def entry_of(accuracy, loss):
    return selection.Entry(None, "", "", 0, accuracy, loss, 0.0, [], None)


def test_of_classifiers_that_are_right_as_often_the_surer_one_is_chosen():
    entries = [entry_of(0.9, 0.1), entry_of(0.95, 0.4), entry_of(0.95, 0.3), entry_of(0.95, 0.5)]
    assert selection.best(entries) is entries[2] and selection.best([]) is None


def test_scales_of_one_number_or_of_each_channel():
    x = np.random.default_rng(0).normal(3, [1.0, 10.0, 0.0], (50, 2, 2, 3)).astype(np.float32)
    mean, std = features.scales(x, "scalar")
    np.testing.assert_allclose([mean, std], [x.mean(), x.std()], rtol=1e-5)
    mean, std = features.scales(x, "channel")
    scaled = (x - mean) / std
    np.testing.assert_allclose(scaled.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std((0, 1, 2)), [1, 1, 0], atol=1e-5)


def test_subset_keeps_the_proportions_of_classes():
    y = np.repeat([0, 1], [300, 100])
    x, kept = classification.subset(np.arange(400), y, 40, seed=0)
    assert np.bincount(kept).tolist() == [30, 10]
    np.testing.assert_array_equal(y[x], kept)
    assert classification.subset(x, kept, 40, seed=0)[0] is x


def test_stream_goes_through_all_images_copy_after_copy():
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1), np.uint8)
    augmentation, starts = Augmentation(pad=1, seed=3), []
    stream = features.Stream(images, lambda x: x, augmentation, first=100, rows=4)
    for number in range(6):
        row, found = stream(number)
        start, copy = row - 100, 1 + number // 3
        starts.append(start)
        expected = augmentation(images[start : start + 4], copy, start)
        np.testing.assert_array_equal(found, expected)
    assert starts == [0, 4, 8] * 2


# ---- the command ----

PLAIN = siren.ModelConfig(channels=1, width=8, depth=3, latent_dim=4, w0=10.0)
TINY = "--steps 4 --search-steps 2 --batch 8 --mlp-width 8 --width 8 --heads 2 --blocks 2 "
TINY += "--channels 4"


def run_folder(folder, config, copies=0):
    """A run of digits with an untrained functa, as functa_jax.meta_train leaves it."""
    model = functa.Functa(config, siren.init(config, 0), (8, 8), metadata={"data": "digits"})
    model.save(folder / "functa.npz")
    write_json(folder / "config.json", {"dataset": "digits", "resolution": None, "images": IMAGES})
    data = datasets.load("digits", images=IMAGES)
    exporter.export(model, data, folder / "functaset.npz", Augmentation(copies, pad=1))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder with a plain run, one on a 2x2 grid with copies, and one of other numbers."""
    folder = tmp_path_factory.mktemp("runs")
    run_folder(folder / "plain", PLAIN)
    run_folder(folder / "grid", replace(PLAIN, grid=2), copies=1)
    run_folder(folder / "smaller", replace(PLAIN, latent_dim=2))
    return folder


def command(*args):
    cli.run(classify.main, classify.Config, args=[*map(str, args), *TINY.split()])


def report(folder, name="classify"):
    assert (folder / f"{name}.png").stat().st_size > 10_000
    return json.loads((folder / f"{name}.json").read_text())


def test_command_on_vectors(runs, tmp_path, capsys):
    command("--run", runs / "plain", "--out", tmp_path, "--augment", 20)
    found = report(tmp_path)
    rows = {(r["features"], r["classifier"]): r for r in found["rows"]}
    shared = {"logistic regression", "SVM", "MLP"}
    assert set(rows) == {
        *(("latents", name) for name in shared),
        *(("PCA", name) for name in shared),
        *(("whole PCA", name) for name in shared),
        *(("pixels", name) for name in shared | {"ConvNet"}),
    }
    # As many components as images.
    for kind, numbers in (("latents", 4), ("PCA", 4), ("whole PCA", IMAGES), ("pixels", 64)):
        mine = [r for key, r in rows.items() if key[0] == kind]
        assert {r["numbers"] for r in mine} == {numbers}
        (chosen,) = [r for r in mine if r["chosen"]]
        assert chosen["unseen %"] == max(r["unseen %"] for r in mine)
        if kind == "latents":
            assert chosen["p"] == 1
    for r in rows.values():
        assert 0 <= r["low"] <= r["test %"] <= r["high"] <= 100
        right = r["test %"] * IMAGES / 100
        assert right == pytest.approx(round(right), abs=1e-6) and 0 < r["p"] <= 1
        # Trained on train and validation in the end.
        assert r["examples"] == 2 * IMAGES and r["unseen %"] <= 100
    said = capsys.readouterr().out
    assert "transformer and ConvNet need a grid of latents" in said
    assert "20 fitted as training went" in said and "One seed (0)" in said
    assert "5-fold cross-validation on the 120 images of train and validation" in said
    for flag in ("--width", "--heads", "--blocks"):
        assert f"{flag} has no effect: no transformer is trained" in said


@pytest.mark.slow
def test_command_on_a_grid_with_copies(runs, tmp_path, capsys):
    command("--run", runs / "grid", "--out", tmp_path, "--classifiers", "transformer", "ConvNet")
    rows = report(tmp_path)["rows"]
    found = {(r["features"], r["classifier"], r["numbers"], r["examples"]) for r in rows}
    assert found == {
        ("latents", "transformer", 16, 3 * IMAGES),  # train, its copies and validation
        ("latents", "ConvNet", 16, 3 * IMAGES),
        ("pixels", "ConvNet", 64, 2 * IMAGES),
    }
    assert "1 augmented copies of each image" in capsys.readouterr().out


@pytest.mark.parametrize("folded", [True, False])
def test_shallow_classifiers_are_those_of_scikit_learn(folded, runs, monkeypatch):
    monkeypatch.setattr(selection, "ENOUGH", 1000 if folded else 1)
    monkeypatch.setitem(classification.GRIDS, "SVM", {"C": (1.0, 10.0), "gamma": (1.0,)})
    config = classify.Config(run=runs / "grid")
    made = classify.tasks.load(config)
    latents, *_ = features.of_images(made, 0)
    known = selection.Known(made.data, 0)
    entry = selection.shallow(config, known, latents, "SVM")
    assert entry.rows == len(known.final) == (2 if folded else 1) * IMAGES  # without copies
    x = known.features(latents).reshape(2 * IMAGES, -1)
    tried = [
        classification.cross_validated(candidate, x[known.final], known.labels[known.final])
        for candidate in classification.candidates(["SVM"])
    ]
    best = max(tried, key=lambda t: (t.accuracy, -t.loss))
    assert entry.settings in str(best.candidate)
    if folded:
        assert (entry.accuracy, entry.loss) == pytest.approx((best.accuracy, best.loss))
    else:
        model = best.candidate.model(x.shape[1]).fit(x[:IMAGES], known.labels[:IMAGES])
        score = model.score(x[IMAGES:], known.labels[IMAGES:])
        assert entry.accuracy == pytest.approx(score)
        np.testing.assert_array_equal(
            entry.predict(latents.test), model.predict(latents.test.reshape(IMAGES, -1))
        )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--classifiers", "transformer"], "transformer needs a grid of latents"),
        (["--classifiers", "forest"], "forest"),
        (["--noise", "-1"], "--noise -1.0: must be at least 0"),
        (["--smoothing", "1"], "--smoothing 1.0: must be in [0, 1)"),
        (["--rows", "0"], "--rows 0: must be in [2,"),
        (["--heads", "3"], "--heads 3: must divide --width 8"),
        (["--rate", "nan"], "--rate nan: must be a finite number"),
        (["--augment", "5", "--pad", "8"], "--pad 8: images of digits have only 8 pixels"),
        (["--flip", "True"], "--flip True: needs --augment"),
        (["--mixup", "-1"], "--mixup -1.0: must be at least 0"),
    ],
)
def test_mistakes_end_in_one_line(runs, tmp_path, capsys, flags, said):
    args = ["--run", runs / "plain", "--out", tmp_path / "out", *TINY.split(), *flags]
    line = refusal(capsys, lambda: cli.run(classify.main, classify.Config, args=[*map(str, args)]))
    assert said in line and not (tmp_path / "out").exists()


def test_what_has_one_class_is_refused(runs, tmp_path, capsys, monkeypatch):
    data = datasets.load("digits", images=IMAGES)
    for split in (data.train, data.val, data.test):
        split.labels[:] = 3
    config = classify.Config(run=runs / "plain", out=tmp_path / "out")
    made = classify.tasks.load(config)
    made = replace(made, data=data)
    monkeypatch.setattr(classify.tasks, "load", lambda config: made)
    said = refusal(capsys, lambda: command("--run", runs / "plain", "--out", tmp_path / "out"))
    assert "nothing to classify: digits has 1 class in train" in said
    assert not (tmp_path / "out").exists()


def test_a_functaset_of_another_model_is_refused(runs, tmp_path, capsys):
    args = ["--run", runs / "plain", "--functaset", runs / "smaller", "--out", tmp_path / "out"]
    assert "another functa" in refusal(capsys, lambda: command(*args))
    args = ["--run", tmp_path / "none"]
    assert "does not exist" in refusal(capsys, lambda: command(*args))


# ---- the study ----


def test_balanced_subsets_have_as_many_of_each_class():
    labels = np.random.default_rng(0).integers(0, 4, 100)
    kept = latent_classification.balanced(labels, 7, np.random.default_rng(1))
    assert len({*kept}) == 28 and np.bincount(labels[kept]).tolist() == [7] * 4
    other = latent_classification.balanced(labels, 7, np.random.default_rng(2))
    assert {*kept} != {*other}


@pytest.mark.slow
def test_study_compares_one_thing_at_a_time(runs, tmp_path, capsys):
    args = ["--run", runs / "plain", "--out", tmp_path, "--steps", 0, 3, "--draws", 2]
    cli.run(latent_classification.main, latent_classification.Config, args=[*map(str, args)])
    rows = report(tmp_path, "latent_classification_digits")["rows"]
    panels = {
        name: [r for r in rows if r["against"] == name] for name in {r["against"] for r in rows}
    }
    zero, three = panels["steps"]
    assert (zero["value"], three["value"]) == (0, 3)
    labels = datasets.load("digits", images=IMAGES)
    often = np.bincount(labels.train.labels).argmax()
    chance = 100 * np.mean(labels.test.labels == often)
    # Latents that are all zero tell nothing: what is left is one class for all.
    shares = 100 * np.bincount(labels.test.labels, minlength=10) / IMAGES
    assert np.isclose(shares, zero["latents SVM"]).any() and three["latents SVM"] > chance
    functaset = load_functaset(runs / "plain")
    latents = functaset.train.latents, functaset.test.latents
    parts = latent_classification.accuracies(
        "latents", latents, (labels.train.labels, labels.test.labels)
    )
    assert three["latents linear"] == pytest.approx(parts["latents linear"], abs=2)
    numbers = [(r["value"], r["run"]) for r in panels["numbers"]]
    assert numbers == [(2, "smaller"), (4, "plain"), (16, "grid")]
    least = np.bincount(labels.train.labels).min()
    assert panels["training images"][-1]["value"] == 10 * least
    pixels = [three["pixels SVM"], zero["pixels SVM"], panels["numbers"][0]["pixels SVM"]]
    np.testing.assert_allclose(pixels, pixels[0], atol=2)  # one image may be a tie
