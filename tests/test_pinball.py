"""Quantiles of a value as outputs: the pinball loss at rows and at instants of a forecast."""

import pickle

import numpy as np
import pytest

import nbbp
from nbbp.losses import Pinball
from nbbp.metrics import METRICS

QUANTILES = (0.05, 0.25, 0.5, 0.95)


def forecaster(quantiles=QUANTILES, **settings) -> nbbp.Sequential:
    layers = [nbbp.Dense(6, "tanh"), nbbp.Dense(3 * len(quantiles)), nbbp.Reshape((3, len(quantiles)))]
    return nbbp.Sequential(layers, Pinball(quantiles), "adam", **settings)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_instants_have_quantiles_as_in_pytorch(backend, rng):
    torch = pytest.importorskip("torch")
    X, y = rng.standard_normal((7, 5)), rng.standard_normal((7, 3))
    model = forecaster(dtype="float64", backend=backend)
    model.build(5)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in model.named_params().items()}
    h = torch.tanh(torch.tensor(X) @ p["dense_0.w"] + p["dense_0.b"])
    z = (h @ p["dense_1.w"] + p["dense_1.b"]).reshape(7, 3, 4)
    error, levels = torch.tensor(y)[..., None] - z, torch.tensor(QUANTILES, dtype=torch.float64)
    loss = torch.maximum(levels * error, (levels - 1) * error).mean()
    loss.backward()
    assert model.evaluate(X, y)["loss"] == pytest.approx(loss.item(), rel=1e-12)
    for name, gradient in model.gradients(X, y).items():
        np.testing.assert_allclose(gradient, p[name].grad, rtol=1e-10, atol=1e-14)


def test_gradients_are_central_differences(rng):
    X, y = rng.standard_normal((9, 5)), rng.standard_normal((9, 3))
    model = forecaster()
    model.build(5)
    assert max(nbbp.check_gradients(model, X, y).values()) < 1e-6


def test_a_model_is_saved_with_its_quantiles(rng, tmp_path):
    X, y = rng.standard_normal((9, 5)), rng.standard_normal((9, 3))
    model = forecaster()
    model.fit(X, y, verbose=0)
    model.save(tmp_path / "model.safetensors")
    for other in (nbbp.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model)), model.copy()):
        assert other.loss.numbers == QUANTILES
        assert other.evaluate(X, y) == model.evaluate(X, y)


def test_metrics_are_those_of_all_instants(rng):
    X, y = rng.standard_normal((9, 5)), rng.standard_normal((9, 3))
    model = forecaster((0.1, 0.5, 0.9), metrics=["pinball", "coverage"])
    model.build(5)
    found, prediction = model.evaluate(X, y), model.predict(X)
    assert found["pinball"] == pytest.approx(found["loss"], rel=1e-6)
    assert found["coverage"] == np.mean((prediction[..., 0] <= y) & (y <= prediction[..., 2]))


def test_the_loss_leaves_the_quantiles_of_the_data(rng):
    y = rng.exponential(size=2_000)
    model = nbbp.Sequential([nbbp.Dense(4)], Pinball(QUANTILES), nbbp.SGD(nbbp.schedules.Cosine(0.5, 2_000)))
    model.fit(np.zeros((2_000, 1)), y, epochs=40, batch_size=40, verbose=0)
    below = np.mean(y[:, np.newaxis] <= model.predict(np.zeros((1, 1))), axis=0)
    np.testing.assert_allclose(below, QUANTILES, atol=0.02)


def test_errors_say_what_fits(rng):
    with pytest.raises(ValueError, match=r"an output for each of 0.1, 0.5, 0.9, and the model's last axis has 2"):
        nbbp.Sequential([nbbp.Dense(2)], "pinball").build(3)
    for wrong in ((0.5, 0.1), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5), ()):
        with pytest.raises(ValueError, match="quantiles"):
            Pinball(wrong)
    with pytest.raises(ValueError, match="y needs 1 column in all for each of the model's 4 outputs, at each of 3"):
        forecaster().fit(rng.standard_normal((9, 5)), rng.standard_normal((9, 2)))
    with pytest.raises(ValueError, match=r"pinball takes y \(rows, 1\) and 3 quantiles"):
        METRICS["pinball"](np.zeros((4, 1)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="coverage takes"):
        METRICS["coverage"](np.zeros((4, 1)), np.zeros((4, 1)))
