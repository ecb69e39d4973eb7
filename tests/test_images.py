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
