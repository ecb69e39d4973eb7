"""Layers of tokens in the formats of other programs."""

import runpy

import numpy as np
import pytest

import nbbp


def language_model(dtype: str = "float64", kind: str = "learned", tied: bool = True) -> nbbp.Sequential:
    embedding = nbbp.Embedding(11, 8)
    last = nbbp.TiedDense(embedding) if tied else nbbp.Dense(11)
    layers = [embedding, nbbp.PositionalEmbedding(kind), nbbp.Dense(8, "tanh"), last]
    return built(nbbp.Sequential(layers, "softmax_cross_entropy", dtype=dtype, backend="numpy"), 6)


def of_features(dtype: str = "float64") -> nbbp.Sequential:
    layers = [nbbp.FeatureTokens(4), nbbp.Dense(3, "tanh"), nbbp.TakeFirst(), nbbp.Dense(2)]
    return built(nbbp.Sequential(layers, dtype=dtype, backend="numpy"), 5)


def built(model, shape):
    model.build(shape)
    model.params[:] = np.random.default_rng(1).normal(0, 0.5, model.params.size)
    return model


def rows(model) -> np.ndarray:
    rng = np.random.default_rng(2)
    return rng.integers(0, 11, (7, 6)) if model.network.graph.inputs[0].dtype else rng.standard_normal((7, 5))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("what", ["learned", "sinusoidal", "features"])
def test_files_predict_the_same(what, dtype, tmp_path):
    model = of_features(dtype) if what == "features" else language_model(dtype, what)
    X, rtol = rows(model), 1e-5 if dtype == "float32" else 1e-12
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    predictions = runpy.run_path(str(tmp_path / "network.py"))["predict"](X)
    assert predictions.dtype == model.dtype
    np.testing.assert_allclose(predictions, model.predict(X), rtol=rtol, atol=rtol)
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = tmp_path / "network.onnx"
    nbbp.exchange.to_onnx(model, path)
    onnx.checker.check_model(path, full_check=True)
    x = X.astype(model.network.graph.inputs[0].dtype or dtype)
    (predictions,) = onnxruntime.InferenceSession(path).run(None, {"X": x})
    np.testing.assert_allclose(predictions, model.predict(X), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("tied", [False, True])
def test_weights_go_to_pytorch_and_back(tied):
    torch = pytest.importorskip("torch")

    class Positions(torch.nn.Embedding):
        def forward(self, x):
            return x + self.weight

    embedding, last = torch.nn.Embedding(11, 8), torch.nn.Linear(8, 11, bias=not tied)
    if tied:
        last.weight = embedding.weight
    between = [Positions(6, 8), torch.nn.Linear(8, 8), torch.nn.Tanh()]
    network = torch.nn.Sequential(embedding, *between, last).double()
    model = language_model(tied=tied)
    network.load_state_dict(nbbp.exchange.to_torch_state_dict(model), strict=True)
    X = rows(model)
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.tensor(X)).softmax(-1), model.predict(X), rtol=1e-10)
        for parameter in network.parameters():
            parameter.uniform_(-1, 1)
        nbbp.exchange.from_torch(model, network.state_dict())
        np.testing.assert_allclose(network(torch.tensor(X)).softmax(-1), model.predict(X), rtol=1e-10)
    if tied:
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        state["4.weight"][0] += 1
        with pytest.raises(ValueError, match=r"embedding_0.table is one array, and 0.weight differs from 4.weight"):
            nbbp.exchange.from_torch(model, state)
    with pytest.raises(RuntimeError, match=r"call model\.build"):
        nbbp.exchange.from_torch(nbbp.Sequential(model.layers), network.state_dict())
    with pytest.raises(ValueError, match="featuretokens_0: PyTorch's names for FeatureTokens are not known"):
        nbbp.exchange.to_torch_state_dict(of_features())


def test_weights_come_from_keras():
    keras = pytest.importorskip("keras")
    embedding, dense = keras.layers.Embedding(11, 8), keras.layers.Dense(11)
    network = keras.Sequential([keras.Input((6,), dtype="int32"), embedding, dense])
    model = built(nbbp.Sequential([nbbp.Embedding(11, 8), nbbp.Dense(11)]), 6)
    nbbp.exchange.from_keras(model, network)
    X = rows(model)
    expected = embedding.get_weights()[0][X] @ dense.get_weights()[0]
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5, atol=1e-6)
