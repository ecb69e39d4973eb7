"""Layers of images: group normalization, dropped channels, rescaled bytes, random changes of images."""

import numpy as np
import pytest

import nbbp
from nbbp.engine import planner


def first(array: np.ndarray) -> np.ndarray:
    """A batch with features last as one with channels first."""
    return np.moveaxis(array, -1, 1)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize(
    ("groups", "shape"), [(1, (3,)), (3, (12,)), (2, (5, 4)), (4, (4, 7, 4)), (5, (13, 17, 70)), (1, (1, 1, 1))]
)
def test_group_norm_agrees_with_pytorch(groups, shape, backend, rng):
    torch = pytest.importorskip("torch")
    x = nbbp.Input(shape)
    model = nbbp.Model(x, nbbp.GroupNorm(groups, 0.01)(x), dtype="float64", backend=backend)
    model.params[:] = rng.standard_normal(model.params.size)
    X, step = rng.standard_normal((6, *shape)) + 3, model.step(6)
    z = step.forward(X).copy()
    dz = rng.standard_normal(z.shape)
    dx = step.backward(dz.copy())
    tx, gamma, beta = (
        torch.tensor(a.copy(), requires_grad=True) for a in (first(X), *model.named_params().values())
    )  # fmt: skip
    expected = torch.nn.functional.group_norm(tx, groups, gamma, beta, 0.01)
    expected.backward(torch.tensor(first(dz).copy()))
    found = model.network.named_grads.values()
    pairs = (first(z), expected.detach()), (first(dx), tx.grad), *zip(found, (gamma.grad, beta.grad), strict=True)
    for mine, theirs in pairs:
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-11)


def test_group_norm_of_large_numbers_in_float32(rng):
    X = (1000 + rng.standard_normal((3, 40, 50, 2))).astype(np.float32)
    z = nbbp.Sequential([nbbp.GroupNorm(2, 1e-6)]).predict(X)
    np.testing.assert_allclose(z.astype(float).mean(axis=(1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(z.astype(float).std(axis=(1, 2)), 1, rtol=1e-4)


def test_group_norm_refuses_what_it_cannot_cut_and_masks(rng):
    with pytest.raises(ValueError, match="30 channels make no 32 groups of equal size"):
        nbbp.GroupNorm()(nbbp.Input((4, 4, 30)))
    model = nbbp.Sequential([nbbp.GroupNorm(1)])
    X = rng.standard_normal((3, 5, 2))
    with pytest.raises(ValueError, match=r"groupnorm_0: GroupNorm takes no mask.*LayerNorm"):
        model.predict(X, mask=np.ones((3, 5), bool))


def passed(layer: nbbp.Layer, X: np.ndarray, training: bool = True, before: int = 0, **settings):
    """The output of a layer in a step, after some others, and the gradient of x where that of y is 1, 2, 3, ..."""
    x = nbbp.Input(X.shape[1:])
    model = nbbp.Model(x, layer(x), dtype="float64", **settings)
    if not training:
        return model.predict(X)
    step = model.step(len(X))
    for _ in range(before):
        step.forward(X)
    z = step.forward(X).copy()
    return z, step.backward(np.arange(1.0, 1 + z.size).reshape(z.shape)).copy()


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_spatial_dropout_drops_channels(backend, rng):
    X = rng.uniform(1, 2, (200, 3, 4, 50))
    z, dx = passed(nbbp.SpatialDropout(0.3), X, backend=backend)
    kept = (z != 0).any(axis=(1, 2), keepdims=True)
    assert kept.mean() == pytest.approx(0.7, abs=5 * (0.21 / kept.size) ** 0.5)
    np.testing.assert_array_equal(z, np.where(kept, X * (1 / 0.7), 0))
    np.testing.assert_array_equal(dx, np.where(kept, np.arange(1.0, 1 + z.size).reshape(z.shape) * (1 / 0.7), 0))
    np.testing.assert_array_equal(passed(nbbp.SpatialDropout(0.3), X, training=False), X)


def test_spatial_dropout_of_vectors_is_dropout(rng):
    X = rng.standard_normal((20, 30))
    for mine, other in zip(passed(nbbp.SpatialDropout(0.3), X), passed(nbbp.Dropout(0.3), X), strict=True):
        np.testing.assert_array_equal(mine, other)


def pixels(rng, rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(0, 256, (rows, 4, 3, 2), np.uint8), rng.integers(0, 3, rows)


def of_pixels(**settings) -> nbbp.Sequential:
    layers = [nbbp.Rescale(1 / 127.5, -1.0), nbbp.Flatten(), nbbp.Dense(8, "tanh"), nbbp.Dense(3)]
    return nbbp.Sequential(layers, loss="softmax_cross_entropy", **settings)


class TestRescale:
    @pytest.mark.parametrize("backend", ["numba", "numpy"])
    def test_bytes_give_the_bits_of_floats(self, backend, rng, tmp_path):
        """In a fit, of arrays and of a stream, in predictions of few and of many rows, in a step and in a file."""
        X, y = pixels(rng, 700)
        model, other = of_pixels(backend=backend), of_pixels(backend=backend)
        streamed = of_pixels(backend=backend)
        losses = [m.fit(x, y, epochs=2, verbose=0).step_loss for m, x in ((model, X), (other, X.astype(np.float32)))]
        np.testing.assert_array_equal(*losses)
        losses = [
            m.fit(nbbp.streams.from_arrays(x, y, buffer_rows=700), verbose=0, shuffle=False).step_loss
            for m, x in ((streamed, X), (of_pixels(backend=backend), X.astype(np.float32)))
        ]
        np.testing.assert_array_equal(*losses)
        assert streamed.network.graph.inputs[0].dtype == np.uint8
        model.save(tmp_path / "model.safetensors")
        loaded = nbbp.load(tmp_path / "model.safetensors")
        assert loaded.network.graph.inputs[0].dtype == np.uint8
        for rows in (X[:3], X):
            expected = other.predict(rows.astype(np.float32))
            for m in (model, loaded, model.copy()):
                np.testing.assert_array_equal(m.predict(rows), expected)
        assert model.evaluate(X, y) == other.evaluate(X.astype(np.float32), y)
        steps = [m.step(30) for m in (model, other)]
        outputs = [step.forward(x) for step, x in zip(steps, (X[:30], X[:30].astype(np.float32)), strict=True)]
        np.testing.assert_array_equal(*outputs)

    def test_bytes_are_not_copied(self, rng):
        X, y = pixels(rng)
        model = of_pixels()
        assert model.prepare(X, y).inputs[0] is X

    @pytest.mark.parametrize(("wrong", "shown"), [(0.5, "0.5"), (256, "256"), (-1, "-1"), (np.nan, "nan")])
    def test_a_network_of_bytes_refuses_other_numbers(self, wrong, shown, rng):
        X, y = pixels(rng)
        model = of_pixels()
        model.fit(X, y, verbose=0)
        others = X.astype(np.float32)
        others[7, 0, 0, 0] = wrong
        for call in (model.predict, lambda x: model.fit(x, y, verbose=0)):
            with pytest.raises(ValueError, match=rf"X must .*got {shown}.* in row 7"):
                call(others)

    def test_floats_make_a_network_of_floats(self, rng):
        X, y = pixels(rng)
        model = of_pixels()
        model.fit(X / 2, y, verbose=0)
        assert model.network.graph.inputs[0].dtype is None
        np.testing.assert_array_equal(model.predict(X), model.predict(X.astype(np.float64)))

    def test_a_network_that_does_not_fit_is_not_built(self, rng):
        X, _ = pixels(rng)
        model = nbbp.Sequential([nbbp.Rescale(1.0), nbbp.Reshape((4, 6)), nbbp.Dense(2)])
        with pytest.raises(ValueError, match="do not fit"):
            model.predict(X[:, :3])
        assert model.predict(X).shape == (60, 4, 2)

    def test_a_convolution_follows(self, rng):
        X, y = pixels(rng)
        losses = []
        for dtype in ("uint8", None):
            x = nbbp.Input((4, 3, 2), dtype)
            h = nbbp.Conv2D(4, 2, activation="relu")(nbbp.Rescale(1 / 255)(x))
            model = nbbp.Model(x, nbbp.Dense(3)(nbbp.Flatten()(h)), loss="softmax_cross_entropy")
            losses.append(model.fit(X, y, epochs=2, verbose=0).step_loss)
        np.testing.assert_array_equal(*losses)

    @pytest.mark.parametrize("backend", ["numba", "numpy"])
    @pytest.mark.parametrize("readers", ["one", "two", "masked"])
    def test_it_gathers_the_rows_that_only_it_reads(self, readers, backend, rng):
        X, y = pixels(rng)
        X, y = X[:, 0], rng.standard_normal((60, 3, 2))
        mask = rng.random((60, 3)) < 0.7 if readers == "masked" else None
        losses, kernels = [], []
        for dtype in ("uint8", None):
            x = nbbp.Input((3, 2), dtype)
            z = nbbp.Dense(2)(nbbp.Rescale(1 / 255)(x))
            if readers == "two":
                z = nbbp.Add()(z, nbbp.Rescale(0.01, 1.0)(x))
            model = nbbp.Model(x, z, backend=backend)
            losses.append(model.fit(X, y, epochs=2, batch_size=25, mask=mask, verbose=0).step_loss)
            trainer = model.built.trainer(model.prepare(X, y, mask=mask), 25)
            kernels.append({call.kernel.name for call in trainer.runner.program.calls})
        np.testing.assert_array_equal(*losses)
        assert ("gather_rescaled" in kernels[0]) == (readers == "one")
        assert "gather_rescaled" not in kernels[1]

    def test_its_arguments(self):
        with pytest.raises(TypeError, match="Rescale: scale must be a number, got '1/255'"):
            nbbp.Rescale("1/255")
        with pytest.raises(ValueError, match="Rescale: offset must be"):
            nbbp.Rescale(1.0, np.inf)
        assert nbbp.Rescale(2.0, -1.0).scale == 2


MOVES = {
    "flip": nbbp.RandomFlip(vertical=True), "shift": nbbp.RandomShift(2, 3), "crop": nbbp.RandomCrop(4, 2),
    "far": nbbp.RandomShift(9, 0), "whole": nbbp.RandomCrop(5, 7),
}  # fmt: skip


def changes(layer: nbbp.Layer, image: np.ndarray) -> list[np.ndarray]:
    """All that a layer may make of an image."""
    height, width = image.shape[:2]
    if isinstance(layer, nbbp.RandomFlip):
        return [image[::v, ::h] for v in (1, -1) for h in (1, -1)]
    around = 9
    wide = np.pad(image, ((around, around), (around, around), (0, 0)))
    if isinstance(layer, nbbp.RandomShift):
        tops, lefts = range(-layer.height, layer.height + 1), range(-layer.width, layer.width + 1)
    else:
        tops, lefts = range(height - layer.height + 1), range(width - layer.width + 1)
        height, width = layer.height, layer.width
    return [wide[around + t : around + t + height, around + s : around + s + width] for t in tops for s in lefts]


class TestRandomChanges:
    @pytest.mark.parametrize("backend", ["numba", "numpy"])
    @pytest.mark.parametrize("name", MOVES)
    def test_every_image_is_one_of_its_changes_and_gradients_follow(self, name, backend, rng):
        layer = MOVES[name]
        X = rng.uniform(1, 2, (400, 5, 7, 3))
        z, dx = passed(layer, X, backend=backend)
        found = []
        for x, own in zip(X, z, strict=True):
            which = next(k for k, image in enumerate(changes(layer, x)) if np.array_equal(image, own))
            found.append(which)
        dz = np.arange(1.0, 1 + z.size).reshape(z.shape)
        probe = rng.standard_normal(X.shape)
        moved = np.stack([changes(layer, p)[k] for p, k in zip(probe, found, strict=True)])
        np.testing.assert_allclose((dx * probe).sum(axis=(1, 2, 3)), (dz * moved).sum(axis=(1, 2, 3)), rtol=1e-9)

    @pytest.mark.parametrize("name", MOVES)
    def test_prediction(self, name, rng):
        X = rng.standard_normal((30, 5, 7, 3))
        expected = {"crop": X[:, 0:4, 2:4]}.get(name, X)
        np.testing.assert_array_equal(passed(MOVES[name], X, training=False), expected)

    def test_changes_are_equally_probable_and_new_in_each_step(self, rng):
        layer, X = nbbp.RandomShift(1, 2), rng.standard_normal((6000, 3, 5, 1))
        which = []
        for before in (0, 1):
            z, _ = passed(layer, X, before=before)
            found = [[np.array_equal(i, own) for i in changes(layer, x)] for x, own in zip(X, z, strict=True)]
            which.append(np.argmax(found, axis=1))
            np.testing.assert_allclose(np.mean(found, axis=0), 1 / 15, atol=5 * (1 / 15 / 6000) ** 0.5)
        assert np.mean(which[0] == which[1]) == pytest.approx(1 / 15, abs=0.02)

    @pytest.mark.parametrize("backend", ["numba", "numpy"])
    def test_shards_change_images_as_the_whole_batch_does(self, backend, rng, monkeypatch):
        X, y = rng.standard_normal((300, 5, 7, 3)), rng.standard_normal((300, 2))
        layers = [nbbp.RandomFlip(), nbbp.RandomShift(1, 2), nbbp.RandomCrop(3, 4), nbbp.SpatialDropout(0.4)]
        losses = []
        for cut in (planner.cut, lambda rows, *others: [slice(0, rows)]):
            monkeypatch.setattr(planner, "cut", cut)
            model = nbbp.Sequential([*layers, nbbp.Flatten(), nbbp.Dense(2)], dtype="float64", backend=backend)
            losses.append(model.fit(X, y, epochs=3, batch_size=256, verbose=0).step_loss)
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-12)

    @pytest.mark.parametrize(
        ("make", "error", "message"),
        [
            (lambda: nbbp.RandomFlip(1), TypeError, "RandomFlip: horizontal must be True or False, got 1"),
            (lambda: nbbp.RandomShift(-1, 2), ValueError, "RandomShift: height must be 0 or more, got -1"),
            (lambda: nbbp.RandomShift(1, 0.5), TypeError, "RandomShift: width must be an integer, got 0.5"),
            (lambda: nbbp.RandomCrop(0, 2), ValueError, "RandomCrop: height must be 1 or more, got 0"),
            (lambda: nbbp.RandomCrop(3, 9)(nbbp.Input((5, 7, 1))), ValueError,
             "a window of 3 x 9 pixels does not fit into images of 5 x 7"),
            (lambda: nbbp.RandomFlip()(nbbp.Input((5, 7))), ValueError,
             r"RandomFlip takes images \(height, width, channels\), got samples of shape \(5, 7\)"),
            (lambda: nbbp.RandomFlip()(nbbp.Input((5, 7, 1), "uint8")), TypeError, "RandomFlip does not take integers"),
        ],
    )  # fmt: skip
    def test_errors(self, make, error, message):
        with pytest.raises(error, match=message):
            make()

    @pytest.mark.parametrize("layer", [nbbp.RandomFlip(), nbbp.RandomShift(1, 1), nbbp.RandomCrop(2, 2)])
    def test_masks_are_refused(self, layer, rng):
        x = nbbp.Input((4, 4, 1))
        model = nbbp.Model(x, nbbp.Dense(1)(layer(x)))
        with pytest.raises(ValueError, match="takes no mask, which would not move with the image"):
            model.predict(rng.standard_normal((2, 4, 4, 1)), mask=np.ones((2, 4, 4), bool))


def test_batch_norm_of_images_takes_single_rows(rng):
    """Its statistics are over positions too."""
    X, y = rng.standard_normal((3, 8, 8, 1)), np.arange(3)
    layers = [nbbp.Conv2D(4, 3), nbbp.BatchNorm(), nbbp.GlobalAveragePool(), nbbp.Dense(3)]
    history = nbbp.Sequential(layers, "softmax_cross_entropy").fit(X, y, batch_size=1, verbose=0)
    assert np.isfinite(history.step_loss).all()
