"""Backward against central differences and against PyTorch's autograd."""

import itertools

import numpy as np
import pytest

import nbbp
from nbbp import ACTIVATIONS, LOSSES


def wide(shape, rng):
    """Weights so large that every activation leaves its linear part."""
    return rng.normal(0, 0.7, shape)


def outputs(loss: str) -> int:
    return 2 if loss == "gaussian_nll" else 3


def network(kind: str, activation: str, loss: str, hidden: bool) -> list:
    output = [
        nbbp.Dense(outputs(loss), activation="softmax" if loss == "cross_entropy" else "linear", initializer=wide)
    ]
    units = 4 if hidden else outputs(loss)
    tested = [nbbp.Dense(units, initializer=wide), nbbp.Activation(activation)]
    if kind == "dense":
        tested = [nbbp.Dense(units, activation=activation, initializer=wide)]
    return [nbbp.Dense(5, activation="tanh", initializer=wide), *tested, *(output if hidden else [])]


def targets(loss: str, rng, rows: int = 6):
    if loss == "distillation":
        return np.hstack([rng.dirichlet(np.ones(3), rows), rng.dirichlet(np.ones(3), rows)])
    if loss == "poisson":
        return rng.poisson(2.0, (rows, 3)).astype(float)
    if loss == "binary_cross_entropy":
        return rng.integers(0, 2, (rows, 3)).astype(float)
    if loss in ("pinball", "gaussian_nll"):
        return rng.standard_normal((rows, 3))[:, :1]  # as many numbers as for other losses: parameters follow
    if LOSSES[loss].labels is not None:
        return rng.dirichlet(np.ones(3), rows)
    return rng.standard_normal((rows, 3))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backward_agrees_with_central_differences(activation, loss, rng):
    for kind, hidden in itertools.product(("dense", "activation"), (True, False)):
        if not hidden and loss == "cross_entropy" and activation != "softmax":
            continue  # takes probabilities
        X, y = rng.standard_normal((6, 3)), targets(loss, rng)
        model = nbbp.Sequential(network(kind, activation, loss, hidden), loss=loss, seed=3)
        errors = nbbp.check_gradients(model, X, y)
        assert max(errors.values()) < 1e-6, (kind, hidden, errors)


@pytest.mark.slow
@pytest.mark.parametrize("name", nbbp.LAYERS)
def test_every_layer_with_every_activation_and_loss(name):
    for activation, loss in itertools.product(ACTIVATIONS, LOSSES):
        rng = np.random.default_rng(1)  # equal numbers for all, with which nothing is at a kink
        after = "tanh" if activation == "exponential" else activation  # an exponential of another overflows
        X, y = rng.standard_normal((6, 4)), targets(loss, rng)
        X[:, 1], X[:, 3] = rng.integers(0, 5, 6), rng.integers(0, 2, 6)  # codes, for ColumnEmbedding
        x = nbbp.Input(4)
        h = x if name == "column_embedding" else nbbp.Dense(4, activation, use_bias=name != "batch_norm")(x)
        last = "softmax" if loss == "cross_entropy" else "linear"
        h = nbbp.Activation(after)(nbbp.LAYERS[name].example(h))
        model = nbbp.Model(x, nbbp.Dense(outputs(loss), last)(h), loss, dtype="float64")
        model.params[:] = rng.normal(0, 0.5, model.params.size)  # biases too: at 0 relu has a kink
        errors, slopes = nbbp.check_gradients(model, X, y), model.gradients(X, y)
        errors = {
            key: error for key, error in errors.items() if np.abs(slopes[key]).max() > 1e-15
        }  # 0 but for rounding
        assert max(errors.values()) < 1e-6, (activation, loss, errors)


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if loss.labels is not None])
def test_labels_agree_with_one_hot_targets(loss, rng):
    X, labels = rng.standard_normal((9, 4)), rng.integers(0, 3, 9)
    last = nbbp.Dense(3, activation="softmax" if loss == "cross_entropy" else "linear")
    model = nbbp.Sequential([last], loss=loss, dtype="float64")
    by_label = {name: g.copy() for name, g in model.gradients(X, labels).items()}
    by_row = model.gradients(X, np.eye(3)[labels])
    for name in by_label:
        np.testing.assert_allclose(by_label[name], by_row[name], rtol=1e-12, atol=1e-14)
    assert model.evaluate(X, labels)["loss"] == pytest.approx(model.evaluate(X, np.eye(3)[labels])["loss"], rel=1e-12)


TORCH_ACTIVATIONS = {
    "linear": lambda F, z: z, "sigmoid": lambda F, z: z.sigmoid(), "tanh": lambda F, z: z.tanh(),
    "relu": lambda F, z: F.relu(z), "leaky_relu": lambda F, z: F.leaky_relu(z), "elu": lambda F, z: F.elu(z),
    "selu": lambda F, z: F.selu(z), "softplus": lambda F, z: F.softplus(z), "gelu": lambda F, z: F.gelu(z),
    "silu": lambda F, z: F.silu(z), "mish": lambda F, z: F.mish(z), "exponential": lambda F, z: z.exp(),
    "softmax": lambda F, z: F.softmax(z, 1),
}  # fmt: skip
TORCH_LOSSES = {
    "mse": lambda F, z, t: F.mse_loss(z, t), "half_mse": lambda F, z, t: F.mse_loss(z, t) * z.shape[1] / 2,
    "mae": lambda F, z, t: F.l1_loss(z, t), "huber": lambda F, z, t: F.huber_loss(z, t),
    "binary_cross_entropy": lambda F, z, t: F.binary_cross_entropy_with_logits(z, t),
    "poisson": lambda F, z, t: F.poisson_nll_loss(z, t), "cross_entropy": lambda F, z, t: -(t * z.log()).sum(1).mean(),
    "softmax_cross_entropy": lambda F, z, t: F.cross_entropy(z, t),
}  # fmt: skip


@pytest.mark.parametrize("activation", TORCH_ACTIVATIONS)
def test_activations_agree_with_pytorch(activation, rng):
    torch = pytest.importorskip("torch")
    X, y = rng.standard_normal((7, 3)), rng.standard_normal((7, 4))
    model = nbbp.Sequential([nbbp.Dense(4, activation=activation, initializer=wide)], loss="mse", dtype="float64")
    gradients = model.gradients(X, y)
    w = torch.tensor(model.named_params()["dense_0.w"], requires_grad=True)
    output = TORCH_ACTIVATIONS[activation](torch.nn.functional, torch.tensor(X) @ w)
    torch.nn.functional.mse_loss(output, torch.tensor(y)).backward()
    np.testing.assert_allclose(model.predict(X), output.detach(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(gradients["dense_0.w"], w.grad, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("loss", TORCH_LOSSES)
def test_losses_agree_with_pytorch(loss, rng):
    torch = pytest.importorskip("torch")
    X, t = rng.standard_normal((7, 3)), targets(loss, rng, 7)
    activation = "softmax" if loss == "cross_entropy" else "linear"
    model = nbbp.Sequential(
        [nbbp.Dense(3, activation=activation, initializer=wide)], loss=loss, dtype="float64"
    )  # fmt: skip
    gradients = model.gradients(X, t)
    w = torch.tensor(model.named_params()["dense_0.w"], requires_grad=True)
    z = TORCH_ACTIVATIONS[activation](torch.nn.functional, torch.tensor(X) @ w)
    value = TORCH_LOSSES[loss](torch.nn.functional, z, torch.tensor(t))
    value.backward()
    assert model.evaluate(X, t)["loss"] == pytest.approx(value.item(), rel=1e-12)
    np.testing.assert_allclose(gradients["dense_0.w"], w.grad, rtol=1e-11, atol=1e-14)
