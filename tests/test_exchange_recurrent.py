"""Recurrent layers in the formats of other programs."""

import os
import runpy

import numpy as np
import pytest

import nbbp

os.environ.setdefault("KERAS_BACKEND", "torch")  # before Keras is imported

LAYERS = {
    "tanh": nbbp.SimpleRNN(5),
    "relu": nbbp.SimpleRNN(5, activation="relu"),
    "gru": nbbp.GRU(5),
    "gru, reset before": nbbp.GRU(5, reset_after=False),
    "lstm": nbbp.LSTM(5),
}


def like(layer, **settings):
    """The layer with other settings."""
    return type(layer)(**vars(layer) | settings)


def filled(model, shape=(6, 3)):
    """The model with random parameters; NumPy's backend compiles nothing."""
    if not model.is_built:
        model.build(shape)
    model.params[:] = np.random.default_rng(1).normal(0, 0.5, model.params.size)
    return model


def stacked(layer, dtype: str = "float64", **settings) -> nbbp.Sequential:
    """Steps in both directions, those of a layer that goes backwards, and the last state."""
    sequences = like(layer, return_sequences=True, **settings)
    layers = [nbbp.Bidirectional(sequences), like(sequences, backwards=True), like(layer, **settings), nbbp.Dense(2)]
    return filled(nbbp.Sequential(layers, dtype=dtype, backend="numpy"))


def with_states(layer, dtype: str = "float64") -> nbbp.Model:
    """A layer whose initial states are inputs and whose last ones are outputs, between two that share them."""
    x = nbbp.Input((6, 3), name="x")
    given = [nbbp.Input(5, name=f"first_{name}") for name in layer.states]
    first = like(layer, return_sequences=True, return_state=True)
    y, *states = first(x, *given)
    last, *rest = like(layer, return_state=True)(y, *states)
    outputs = {"y": y, "last": last} | {f"state_{k}": state for k, state in enumerate(rest)}
    return filled(nbbp.Model([x, *given], outputs, dtype=dtype, backend="numpy"))


def rows(shape=(7, 6, 3), seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_files_predict_the_same(kind, use_bias, dtype, tmp_path):
    model = stacked(LAYERS[kind], dtype, use_bias=use_bias)
    X, rtol = rows(), 1e-5 if dtype == "float32" else 1e-12
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    predictions = runpy.run_path(str(tmp_path / "network.py"))["predict"](X)
    assert predictions.dtype == model.dtype
    np.testing.assert_allclose(predictions, model.predict(X), rtol=rtol, atol=rtol)
    (predictions,) = in_onnxruntime(model, {"X": X}, tmp_path).values()
    assert predictions.dtype == model.dtype
    np.testing.assert_allclose(predictions, model.predict(X), rtol=1e-5, atol=1e-6)


def in_onnxruntime(model, X: dict, tmp_path) -> dict:
    """Predictions of the ONNX file, by the outputs' names."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = tmp_path / "network.onnx"
    nbbp.exchange.to_onnx(model, path)
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {k: x.astype(model.dtype) for k, x in X.items()}), strict=True))


@pytest.mark.parametrize("kind", LAYERS)
def test_states_are_inputs_and_outputs_of_files(kind, tmp_path):
    model = with_states(LAYERS[kind], "float32")
    X = [rows(), *(rows((7, 5), seed) for seed in range(len(LAYERS[kind].states)))]
    expected = model.predict(X)
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    by_numpy = runpy.run_path(str(tmp_path / "network.py"))["predict"](X)
    names = ["x", *(f"first_{name}" for name in LAYERS[kind].states)]
    by_onnx = in_onnxruntime(model, dict(zip(names, X, strict=True)), tmp_path)
    for got in (by_numpy, by_onnx):
        assert got.keys() == expected.keys()
        for name, predictions in expected.items():
            np.testing.assert_allclose(got[name], predictions, rtol=1e-5, atol=1e-6, err_msg=name)


def test_rows_of_a_stateful_layer_begin_anew_in_files(tmp_path):
    model = filled(nbbp.Sequential([nbbp.GRU(5, stateful=True), nbbp.Dense(2)], backend="numpy"))
    (predictions,) = in_onnxruntime(model, {"X": rows()}, tmp_path).values()
    np.testing.assert_allclose(predictions, model.predict(rows()), rtol=1e-5, atol=1e-6)


TORCH = [kind for kind in LAYERS if kind != "gru, reset before"]


def module(kind: str, features: int, units: int = 5, **settings):
    """PyTorch's module of a kind, with biases that are not 0."""
    torch = pytest.importorskip("torch")
    cls = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}.get(kind, torch.nn.RNN)
    settings |= {"nonlinearity": kind} if cls is torch.nn.RNN else {}
    return cls(features, units, batch_first=True, **settings).double()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", TORCH)
def test_weights_come_from_pytorch_and_go_back(kind, bias, rng):
    """One module of two layers in both directions fills two layers; each becomes a module of its own."""
    torch = pytest.importorskip("torch")

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = module(kind, 3, num_layers=2, bidirectional=True, bias=bias)
            self.fc = torch.nn.Linear(10, 2).double()

        def forward(self, x):
            return self.fc(self.rnn(x)[0])

    network, layer = Network(), like(LAYERS[kind], return_sequences=True, use_bias=bias)
    layers = [nbbp.Bidirectional(layer), nbbp.Bidirectional(layer), nbbp.Dense(2)]
    model = nbbp.Sequential(layers, dtype="float64", backend="numpy")
    model.build((6, 3))
    nbbp.exchange.from_torch(model, network.state_dict())
    X = rows()
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.tensor(X)), model.predict(X), rtol=1e-10, atol=1e-13)
    first, second = (module(kind, features, bidirectional=True, bias=bias) for features in (3, 10))
    chain = torch.nn.Sequential(first, second, torch.nn.Linear(10, 2).double())
    filled(model)
    state = nbbp.exchange.to_torch_state_dict(model)
    chain.load_state_dict(state, strict=True)
    with torch.no_grad():
        z = chain[2](second(first(torch.tensor(X))[0])[0])
    np.testing.assert_allclose(z, model.predict(X), rtol=1e-10, atol=1e-13)
    again = filled(nbbp.Sequential(layers, dtype="float64", backend="numpy"))
    again.params[:] = 0
    nbbp.exchange.from_torch(again, state)
    np.testing.assert_array_equal(again.params, model.params)


def test_a_file_of_weights_comes_back(tmp_path):
    """Its arrays are in no order."""
    pytest.importorskip("torch")
    model = stacked(LAYERS["gru"])
    nbbp.exchange.to_safetensors(model, tmp_path / "weights.safetensors")
    again = filled(nbbp.Sequential(model.layers, dtype="float64", backend="numpy"))
    again.params[:] = 0
    nbbp.exchange.from_torch(again, tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(again.params, model.params)
    graph = filled(nbbp.Model(model.network.graph.inputs[0], model.network.graph.outputs[0], backend="numpy"))
    names = list(nbbp.exchange.to_torch_state_dict(graph))
    assert names[:2] == ["bidirectional_0.weight_ih_l0", "bidirectional_0.weight_hh_l0"]
    assert "bidirectional_0.bias_hh_l0_reverse" in names


def test_what_pytorch_has_not_is_refused():
    pytest.importorskip("torch")
    model = stacked(LAYERS["gru, reset before"])
    with pytest.raises(ValueError, match=r"gru_1|bidirectional_0.*: PyTorch's GRU has reset_after=True, and no other"):
        nbbp.exchange.to_torch_state_dict(model)
    with pytest.raises(RuntimeError, match=r"the number of features does not show in the weights: call model\.build"):
        nbbp.exchange.from_torch(nbbp.Sequential([nbbp.LSTM(5)]), module("lstm", 3).state_dict())
    model = filled(nbbp.Sequential([nbbp.LSTM(5)], backend="numpy"))
    with pytest.raises(ValueError, match=r"lstm_0\.w takes an array of shape \(20, 3\) from PyTorch.*has \(28, 3\)"):
        nbbp.exchange.from_torch(model, module("lstm", 3, 7).state_dict())
    with pytest.raises(ValueError, match="bias_hh_l0; lstm_0 takes weight_ih_l0, weight_hh_l0, bias_ih_l0"):
        nbbp.exchange.from_torch(model, module("gru", 3).state_dict())
    x = nbbp.Input((6, 3))
    image = nbbp.Conv2DTranspose(3, 2)(nbbp.Reshape((2, 2, 2))(nbbp.LSTM(8)(x)))
    with pytest.raises(ValueError, match="lstm_0: the order of LSTM's features in PyTorch is not known"):
        nbbp.exchange.to_torch_state_dict(nbbp.Model(x, image, backend="numpy"))


def in_keras(keras, kind: str, **settings):
    """Keras's layer of a kind, whose biases are not 0."""
    layer = LAYERS[kind]
    own = {"activation": layer.activation} if isinstance(layer, nbbp.SimpleRNN) else {}
    own |= {"reset_after": layer.reset_after} if isinstance(layer, nbbp.GRU) else {}
    cls = getattr(keras.layers, type(layer).__name__)
    return cls(5, bias_initializer="normal", **own, **settings)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_weights_come_from_keras(kind, use_bias):
    keras = pytest.importorskip("keras")
    both = keras.layers.Bidirectional(in_keras(keras, kind, use_bias=use_bias, return_sequences=True))
    network = keras.Sequential([keras.Input((6, 3)), both, in_keras(keras, kind, use_bias=use_bias)])
    layer = like(LAYERS[kind], use_bias=use_bias)
    model = nbbp.Sequential([nbbp.Bidirectional(like(layer, return_sequences=True)), layer], backend="numpy")
    for source in (network, network.get_weights()):
        filled(model)
        nbbp.exchange.from_keras(model, source)
        X = rows().astype(np.float32)
        np.testing.assert_allclose(model.predict(X), np.asarray(network.predict(X, verbose=0)), rtol=1e-5, atol=1e-6)
    if kind == "gru":
        other = filled(nbbp.Sequential([nbbp.Bidirectional(nbbp.GRU(5, True, reset_after=False)), layer]))
        with pytest.raises(
            ValueError, match=r"Keras's reset_after is True, that of .* is False; nbbp.GRU\(reset_after"
        ):
            nbbp.exchange.from_keras(other, network)


def test_two_rows_of_biases_come_as_arrays(rng):
    """As Keras has them: of the inputs, and of the state, of which the reset gate acts on the last third."""
    model = filled(nbbp.Sequential([nbbp.GRU(2)], dtype="float64", backend="numpy"))
    w, u, both = rng.standard_normal((3, 6)), rng.standard_normal((2, 6)), rng.standard_normal((2, 6))
    nbbp.exchange.from_keras(model, [w, u, both])
    p = model.named_params()
    np.testing.assert_array_equal(p["gru_0.b"], both[0] + np.where(np.arange(6) < 4, both[1], 0))
    np.testing.assert_array_equal(p["gru_0.c"], both[1, 4:])
    with pytest.raises(ValueError, match=r"gru_0\.b has shape \(2, 6\), Keras's array 2 has \(6,\)"):
        nbbp.exchange.from_keras(model, [w, u, both[0]])
