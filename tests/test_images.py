"""Layers of images: group normalization, dropped channels, rescaled bytes, random changes of images."""

import numpy as np
import pytest

import nbbp


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


def passed(layer: nbbp.Layer, X: np.ndarray, training: bool = True, steps: int = 0, **settings):
    """The output of a layer in a step, and the gradient of its input where that of its output is 1, 2, 3, ..."""
    x = nbbp.Input(X.shape[1:])
    model = nbbp.Model(x, layer(x), dtype="float64", **settings)
    model.update.steps = steps
    if not training:
        return model.predict(X)
    step = model.step(len(X))
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
