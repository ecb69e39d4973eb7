"""Ensembles within a network: the loss of each member, and the mean of their predictions."""

import numpy as np
import pytest

import nbbp


def network(outputs: int, loss: str, **settings) -> nbbp.Sequential:
    layers = [nbbp.Input(4), nbbp.Members(3), nbbp.Dense(6, "tanh"), nbbp.Dropout(0.0), nbbp.MemberDense(outputs)]
    return nbbp.Sequential(layers, loss, dtype="float64", **settings)


def outputs(model, X):
    """The outputs (rows, members, outputs) by their equations."""
    p = model.named_params()
    h = np.tanh(X[:, np.newaxis] * p["members_0.r"] @ p["dense_0.w"] + p["dense_0.b"])
    return np.einsum("bkn,kun->bku", h, p["memberdense_0.w"]) + p["memberdense_0.b"]


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_each_member_has_its_loss_and_predictions_are_the_mean(backend, rng):
    X, labels, weights = rng.standard_normal((50, 4)), rng.integers(0, 3, 50), rng.uniform(0.1, 1, 50)
    model = network(3, "softmax_cross_entropy", metrics=["accuracy"], backend=backend)
    assert set(np.unique(model.named_params()["members_0.r"])) <= {-1, 1}
    p = np.exp(outputs(model, X))
    p /= p.sum(axis=2, keepdims=True)
    losses = -np.log(p[np.arange(50), :, labels]).mean(axis=1)
    np.testing.assert_allclose(model.predict(X), p.mean(axis=1), rtol=1e-12)
    found = model.evaluate(X, labels)
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-12)
    assert found["accuracy"] == np.mean(p.mean(axis=1).argmax(axis=1) == labels)
    assert model.evaluate(X, labels, weights)["loss"] == pytest.approx((weights * losses).mean(), rel=1e-12)
    one_hot = model.evaluate(X, np.eye(3)[labels])
    assert one_hot["loss"] == pytest.approx(losses.mean(), rel=1e-12)


def test_derivatives_are_those_of_the_mean(rng):
    X, step = rng.standard_normal((5, 4)), 1e-6
    model = network(3, "softmax_cross_entropy")
    for j, of_input in enumerate(np.moveaxis(model.jacobian(X), 2, 0)):
        change = model.predict(X + step * np.eye(4)[j]) - model.predict(X - step * np.eye(4)[j])
        np.testing.assert_allclose(of_input, change / (2 * step), atol=1e-8)


@pytest.mark.parametrize("loss", ["mse", "pinball", "gaussian_nll"])
def test_gradients_are_central_differences(loss, rng):
    X, y = rng.standard_normal((20, 4)), rng.standard_normal((20, 1))
    model = network({"mse": 1, "pinball": 3, "gaussian_nll": 2}[loss], loss)
    assert max(nbbp.check_gradients(model, X, y).values()) < 1e-6


def test_a_fit_trains_all_members(rng, tmp_path):
    X = rng.standard_normal((200, 4))
    y = np.tanh(X[:, 0]) * X[:, 1]
    settings = {"optimizer": nbbp.Adam(0.02), "metrics": ["rmse"]}
    model, twin = network(1, "mse", **settings), network(1, "mse", **settings, backend="numpy")
    histories = [
        m.fit(X[:150], y[:150], 30, 32, (X[150:], y[150:], np.ones(50)), sample_weight=np.ones(150), verbose=0)
        for m in (model, twin)
    ]
    np.testing.assert_allclose(*(history.step_loss for history in histories), rtol=1e-8)
    assert histories[0]["val_rmse"][-1] < 0.5 * histories[0]["val_rmse"][0]
    assert model.evaluate(X, y)["rmse"] == pytest.approx(np.sqrt(np.mean((model.predict(X)[:, 0] - y) ** 2)))
    assert histories[0]["rmse"][-1] == pytest.approx(twin.history["rmse"][-1])
    model.save(tmp_path / "model.safetensors")
    assert nbbp.load(tmp_path / "model.safetensors").predict(X).tobytes() == model.predict(X).tobytes()


def test_an_axis_that_does_not_stay_is_of_positions(rng):
    layers = [nbbp.Members(3), nbbp.MemberDense(2), nbbp.Flatten(), nbbp.Dense(2)]
    model = nbbp.Sequential(layers)
    model.fit(rng.standard_normal((20, 4)), rng.standard_normal((20, 2)), verbose=0)
    assert model.predict(np.zeros((5, 4))).shape == (5, 2)
    with pytest.raises(ValueError, match=r"MemberDense takes samples \(members, features\)"):
        nbbp.MemberDense(2)(nbbp.Input(4))
    with pytest.raises(ValueError, match=r"Members takes samples \(features,\)"):
        nbbp.Members(2)(nbbp.Input((4, 3)))
