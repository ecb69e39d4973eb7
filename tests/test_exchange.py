"""Exchange of models: against PyTorch, Keras, onnxruntime and a Python that has nothing but NumPy."""

import argparse
import dataclasses
import os
import runpy
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbbp
from nbbp.exchange import command, numpy_file, onnx_file

os.environ.setdefault("KERAS_BACKEND", "torch")  # before Keras is imported


@dataclasses.dataclass(frozen=True)
class Own(nbbp.Layer):
    """Not one of nbbp's."""

    def spec(self, shape):
        return nbbp.Spec(shape, {"factors": nbbp.Parameter(shape, nbbp.initializers.ones)})


def filled(model, features, seed=0):
    """The model with random parameters and running statistics; NumPy's backend compiles nothing."""
    rng = np.random.default_rng(seed)
    if not model.is_built:
        model.build(features)
    model.params[:] += rng.normal(0, 0.1, model.params.shape)
    for place in model.network.layout.places:
        for name, array in vars(place.views(model.params, model.network.state)).items():
            if name.endswith("mean"):
                array[:] = rng.normal(0, 0.3, array.shape)
            elif name.endswith("variance"):
                array[:] = rng.uniform(0.5, 2, array.shape)
    return model


def layers(deep: bool = True):
    """Random layers; an exponential within would enlarge the rounding of what it gets."""
    activations = st.sampled_from(sorted(set(nbbp.ACTIVATIONS) - {"exponential", "gaussian"}))
    kinds = [
        st.builds(nbbp.Dense, st.integers(1, 9), activations, use_bias=st.booleans()),
        st.builds(nbbp.Activation, activations),
        st.builds(nbbp.BatchNorm, epsilon=st.sampled_from([1e-5, 1e-3])),
        st.builds(nbbp.LayerNorm, epsilon=st.sampled_from([0.1, 0.01])),
        st.just(nbbp.Dropout(0.3)),
        st.just(nbbp.GaussianNoise(0.1)),
    ]
    if deep:
        kinds.append(st.builds(nbbp.Residual, st.lists(layers(deep=False), min_size=1, max_size=3)))
    return st.one_of(kinds)


@st.composite
def models(draw):
    embedding = [nbbp.ColumnEmbedding({1: 5, 2: 2}, dimension=3)] if draw(st.booleans()) else []
    model = nbbp.Sequential(
        [*embedding, *draw(st.lists(layers(), min_size=1, max_size=4)), nbbp.Dense(draw(st.integers(1, 4)))],
        loss=draw(st.sampled_from(["mse", "softmax_cross_entropy", "binary_cross_entropy", "poisson"])),
        dtype=draw(st.sampled_from(["float32", "float64"])),
        backend="numpy",
    )
    return filled(model, 4, draw(st.integers(0, 99)))


def rows(n: int, seed: int = 0) -> np.ndarray:
    """Rows of 4 features of which columns 1 and 2 are codes."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 4))
    X[:, 1], X[:, 2] = rng.integers(0, 5, n), rng.integers(0, 2, n)
    return X


def assert_close(given, expected, rtol):
    """Within rounding, of which that of small elements is as large as that of their sums."""
    assert given.dtype == expected.dtype
    assert given.shape == expected.shape
    np.testing.assert_allclose(given, expected, rtol=rtol, atol=rtol)


EVERYTHING = [
    nbbp.Dense(6, "gelu"),
    nbbp.BatchNorm(epsilon=1e-3),
    nbbp.Dropout(0.3),
    nbbp.Residual([nbbp.Dense(6, "tanh"), nbbp.LayerNorm(epsilon=1e-3), nbbp.Residual([nbbp.Dense(3, "selu")])]),
    nbbp.GaussianNoise(0.1),
    nbbp.Dense(3, use_bias=False),
]


def everything(**more):
    return filled(nbbp.Sequential(EVERYTHING, "softmax_cross_entropy", backend="numpy", **more), 4)


@pytest.mark.slow
@given(models())
@settings(max_examples=40, deadline=None)
def test_numpy_file_predicts_the_same(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("numpy") / "network.py"
    nbbp.exchange.to_numpy_file(model, path)
    X = rows(7)
    assert_close(runpy.run_path(str(path))["predict"](X), model.predict(X), 1e-5 if model.dtype == "float32" else 1e-12)


def test_numpy_file_needs_nothing_but_numpy(tmp_path):
    model = everything()
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    np.save(tmp_path / "x.npy", rows(9))
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import numpy
before = set(sys.modules)
import network
numpy.save({str(tmp_path / "y.npy")!r}, network.predict(numpy.load({str(tmp_path / "x.npy")!r})))
print({{name.split(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names))
"""
    run = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert eval(run.stdout) - {"numpy"} == {"network"}
    assert_close(np.load(tmp_path / "y.npy"), model.predict(rows(9)), 1e-5)


def test_numpy_file_is_readable(tmp_path):
    model = nbbp.Sequential([nbbp.Dense(5, "relu"), nbbp.Dropout(), nbbp.Dense(3)], "softmax_cross_entropy")
    model.build(4)
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    text = (tmp_path / "network.py").read_text()
    assert max(len(line) for line in text.splitlines()) <= 120
    forward = """
def predict(X):
    \"""Predictions (rows, 3) for X (rows, 4).\"""
    x = np.asarray(X, np.float32)
    x = x @ weights["dense_0.w"] + weights["dense_0.b"]
    x = np.maximum(x, 0)  # relu
    x = x @ weights["dense_1.w"] + weights["dense_1.b"]
    x = np.exp(x - x.max(axis=-1, keepdims=True))  # softmax
    x = x / x.sum(axis=-1, keepdims=True)  # softmax
    return x
"""
    assert forward in text


def onnx_session(model, path):
    """What onnxruntime makes of the model, the file being checked."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    nbbp.exchange.to_onnx(model, path)
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    return lambda X: session.run(["predictions"], {"X": np.asarray(X, model.dtype)})[0]


@given(models())
@settings(max_examples=40, deadline=None)
def test_onnx_file_predicts_the_same(tmp_path_factory, model):
    predict = onnx_session(model, tmp_path_factory.mktemp("onnx") / "network.onnx")
    for n in (1, 7, 64):
        assert_close(predict(rows(n)), model.predict(rows(n)), 1e-5 if model.dtype == "float32" else 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(onnx_file.ACTIVATIONS.keys() & numpy_file.ACTIVATIONS))
def test_activations_far_from_zero(name, dtype, tmp_path):
    model = nbbp.Sequential([nbbp.Activation(name)], dtype=dtype, backend="numpy")
    X = np.linspace(-30, 30, 120).reshape(-1, 2)
    expected = model.predict(X)
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    y = runpy.run_path(str(tmp_path / "network.py"))["predict"](X)
    np.testing.assert_allclose(y, expected, rtol=1e-6 if dtype == "float32" else 1e-13, atol=1e-30)
    rounding = np.finfo("float32" if name == "gelu" else dtype).eps
    y = onnx_session(model, tmp_path / "network.onnx")(X)
    np.testing.assert_allclose(y, expected, rtol=10 * rounding, atol=30 / 2 * rounding)  # of the largest x


@pytest.mark.parametrize("layer", [nbbp.BatchNorm(), nbbp.LayerNorm(), nbbp.Activation("softmax")])
def test_samples_of_several_axes(layer, tmp_path, rng):
    model = filled(nbbp.Sequential([layer], "softmax_cross_entropy", backend="numpy"), (3, 5))
    X = rng.standard_normal((7, 3, 5))
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    assert_close(runpy.run_path(str(tmp_path / "network.py"))["predict"](X), model.predict(X), 1e-6)
    assert_close(onnx_session(model, tmp_path / "network.onnx")(X), model.predict(X), 1e-6)


def test_categories_outside_are_the_nearest(tmp_path):
    X = np.array([[9, -1], [4, 0]])
    model = filled(nbbp.Sequential([nbbp.ColumnEmbedding({0: 5, 1: 2}), nbbp.Dense(2)], backend="numpy"), 2)
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    for predict in (onnx_session(model, tmp_path / "n.onnx"), runpy.run_path(str(tmp_path / "network.py"))["predict"]):
        outside, nearest = predict(X)
        assert np.array_equal(outside, nearest)
        assert_close(nearest, model.predict(X[1:])[0], 1e-6)


def test_onnx_file_says_who_wrote_it(tmp_path):
    onnx = pytest.importorskip("onnx")
    nbbp.exchange.to_onnx(everything(), tmp_path / "network.onnx")
    written = onnx.load(tmp_path / "network.onnx")
    assert (written.producer_name, written.producer_version) == ("nbbp", nbbp.__version__)
    assert [value.name for value in (*written.graph.input, *written.graph.output)] == ["X", "predictions"]
    assert written.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "rows"


def test_onnx_models_that_are_too_large(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setattr(onnx_file, "LIMIT", 600)
    with pytest.raises(ValueError, match="has 696 bytes of arrays; an ONNX file holds at most 600"):
        nbbp.exchange.to_onnx(everything(), tmp_path / "network.onnx")


@pytest.mark.parametrize(("module", "write"), [(onnx_file, "to_onnx"), (numpy_file, "to_numpy_file")])
def test_what_is_not_known_is_refused_by_name(module, write, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    path, write = tmp_path / "file", getattr(nbbp.exchange, write)
    inner = nbbp.Sequential([nbbp.Residual([Own()])])
    inner.build(3)
    with pytest.raises(ValueError, match=rf"residual_0.own_0: how Own is .*{module.__name__}.LAYERS\[Own\]"):
        write(inner, path)
    monkeypatch.delitem(module.ACTIVATIONS, "tanh")
    with pytest.raises(ValueError, match=r"the activation tanh is .*ACTIVATIONS\['tanh'\]"):
        write(everything(), path)
    with pytest.raises(RuntimeError, match="does not know its input yet"):
        write(nbbp.Sequential([nbbp.Dense(2)]), path)
    with pytest.raises(TypeError, match=r"must be an nbbp.Model or nbbp.Sequential, got \[\]"):
        write([], path)
    assert not path.exists()


def test_a_layer_of_ones_own_is_entered(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setitem(numpy_file.LAYERS, Own, lambda node, p, y, x: [f"{y} = {x} * {p['factors']}"])
    monkeypatch.setitem(onnx_file.LAYERS, Own, lambda writer, node, p, x: writer.operator("Mul", x, p["factors"]))
    model = nbbp.Sequential([Own()])
    model.build(4)
    model.params[:] = 2
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    for predict in (onnx_session(model, tmp_path / "n.onnx"), runpy.run_path(str(tmp_path / "network.py"))["predict"]):
        assert np.array_equal(predict(rows(3)), np.float32(2) * rows(3).astype(np.float32))


def torch_layers(layers, features):
    """The modules that a PyTorch user would write, and the number of features that come out."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Exponential(nn.Module):
        def forward(self, x):
            return torch.exp(x)

    class Residual(nn.Module):
        def __init__(self, within):
            super().__init__()
            modules, out = torch_layers(within, features)
            self.layers, self.out = nn.Sequential(*modules), out
            self.projection = nn.Identity() if out == features else nn.Linear(features, out, bias=False)

        def forward(self, x):
            return self.projection(x) + self.layers(x)

    class Columns(nn.Module):
        def __init__(self, categories, dimension):
            super().__init__()
            self.columns = list(categories)
            for column, n in categories.items():
                setattr(self, f"table_{column}", nn.Embedding(n, dimension))

        def forward(self, x):
            kept = [x[:, j : j + 1] for j in range(x.shape[1]) if j not in self.columns]
            return torch.cat(kept + [getattr(self, f"table_{c}")(x[:, c].long()) for c in self.columns], 1)

    activations = {
        "linear": nn.Identity(), "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(), "relu": nn.ReLU(), "gelu": nn.GELU(),
        "leaky_relu": nn.LeakyReLU(0.01), "elu": nn.ELU(), "selu": nn.SELU(), "softplus": nn.Softplus(),
        "silu": nn.SiLU(), "mish": nn.Mish(), "exponential": Exponential(), "softmax": nn.Softmax(-1),
    }  # fmt: skip
    modules = []
    for layer in layers:
        if isinstance(layer, nbbp.Dense):
            modules.append(nn.Linear(features, layer.units, bias=layer.use_bias))
            modules += [] if layer.activation == "linear" else [activations[layer.activation]]
            features = layer.units
        elif isinstance(layer, nbbp.Activation):
            modules.append(activations[layer.name])
        elif isinstance(layer, nbbp.BatchNorm):
            modules.append(nn.BatchNorm1d(features, layer.epsilon))
        elif isinstance(layer, nbbp.LayerNorm):
            modules.append(nn.LayerNorm(features, layer.epsilon))
        elif isinstance(layer, nbbp.Residual):
            modules.append(Residual(layer.layers))
            features = modules[-1].out
        elif isinstance(layer, nbbp.ColumnEmbedding):
            modules.append(Columns(layer.categories, layer.dimension))
            features += len(layer.categories) * (layer.dimension - 1)
        else:
            modules.append(nn.Dropout() if isinstance(layer, nbbp.Dropout) else nn.Identity())
    return modules, features


def torch_network(model, features: int = 4):
    """The model's architecture in PyTorch, with PyTorch's first weights."""
    torch = pytest.importorskip("torch")
    modules, _ = torch_layers(model.layers, features)
    return torch.nn.Sequential(*modules).to(getattr(torch, model.dtype.name)).eval()


def torch_predictions(network, model, X):
    torch = pytest.importorskip("torch")
    link = {"softmax": lambda z: z.softmax(-1), "sigmoid": torch.sigmoid, "exponential": torch.exp}
    with torch.no_grad():
        z = network(torch.from_numpy(X.astype(model.dtype)))
        return link.get(model.loss.link, lambda z: z)(z).numpy()


def same_architecture(model):
    """Not built."""
    return nbbp.Sequential(model.layers, model.loss, dtype=model.dtype.name, backend="numpy")


@given(models())
@settings(max_examples=40, deadline=None)
def test_torch_predicts_the_same_and_back(model):
    network = torch_network(model)
    state = nbbp.exchange.to_torch_state_dict(model)
    assert state.keys() == network.state_dict().keys()
    network.load_state_dict(state, strict=True)
    assert_close(torch_predictions(network, model, rows(7)), model.predict(rows(7)), 1e-5)
    again = same_architecture(model)
    again.build(4)
    assert nbbp.exchange.from_torch(again, network.state_dict()) is again
    assert np.array_equal(again.params, model.params)
    assert np.array_equal(again.network.state, model.network.state)


def test_torch_weights_in_from_file_and_other_names(tmp_path):
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    torch.manual_seed(0)
    model = everything()
    network = torch_network(model)
    with torch.no_grad():
        network[2].running_mean += 0.1
    state, path = network.state_dict(), tmp_path / "weights.safetensors"
    safetensors.save_file(state, path)
    other_names = {f"net.part_{name}".replace("layers.", "").replace("_2.", "_norm."): state[name] for name in state}
    for source in (path, str(path), state, other_names, {name: state[name] for name in sorted(state)}):
        again = nbbp.exchange.from_torch(same_architecture(model), source)
        assert_close(again.predict(rows(7)), torch_predictions(network, model, rows(7)), 1e-5)
    single = torch.nn.Linear(3, 2)
    again = nbbp.exchange.from_torch(nbbp.Sequential([nbbp.Dense(2)], backend="numpy"), single.state_dict())
    assert np.array_equal(again.named_params()["dense_0.w"], single.weight.detach().numpy().T)
    half = {name: array.bfloat16() for name, array in single.state_dict().items()}
    nbbp.exchange.from_torch(again, half)
    assert np.array_equal(again.named_params()["dense_0.w"], single.weight.detach().bfloat16().float().numpy().T)


def test_a_file_goes_by_numbers_or_not_at_all(tmp_path, rng):
    from safetensors.numpy import load_file, save_file

    arrays = {f"fc{i}.{name}": rng.standard_normal(shape).astype(np.float32)
              for i in range(1, 12) for name, shape in (("weight", (3, 3)), ("bias", (3,)))}  # fmt: skip
    save_file(arrays, tmp_path / "numbered")
    for source in (tmp_path / "numbered", load_file(tmp_path / "numbered")):
        model = nbbp.exchange.from_torch(nbbp.Sequential([nbbp.Dense(3)] * 11, backend="numpy"), source)
        for i in range(11):
            assert np.array_equal(model.named_params()[f"dense_{i}.w"], arrays[f"fc{i + 1}.weight"].T)
    save_file({name.replace("fc2.", "hidden."): array for name, array in arrays.items()}, tmp_path / "named")
    with pytest.raises(ValueError, match=r"keeps no order, and the modules fc1, .*hidden are not numbered alike"):
        nbbp.exchange.from_torch(model, tmp_path / "named")
    (tmp_path / "text").write_text("no safetensors")
    with pytest.raises(ValueError, match="is not a safetensors file, is damaged"):
        nbbp.exchange.from_torch(model, tmp_path / "text")


def test_a_file_of_bfloat16(tmp_path):
    safetensors, torch = pytest.importorskip("safetensors.torch"), pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    safetensors.save_file({"weight": torch.full((2, 4), 1.5).bfloat16(), "bias": torch.ones(2)}, tmp_path / "half")
    model = nbbp.Sequential([nbbp.Dense(2)], backend="numpy")
    for source in (tmp_path / "half", safetensors.load_file(tmp_path / "half")):
        nbbp.exchange.from_torch(model, source)
        assert (model.named_params()["dense_0.w"] == 1.5).all()


def test_safetensors_file_is_torchs(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    model = everything()
    nbbp.exchange.to_safetensors(model, tmp_path / "weights.safetensors")
    network = torch_network(model)
    network.load_state_dict(safetensors.load_file(tmp_path / "weights.safetensors"), strict=True)
    assert_close(torch_predictions(network, model, rows(7)), model.predict(rows(7)), 1e-5)


W, B = np.ones((2, 4)), np.ones(2)
TWO = {"a.weight": W, "a.bias": B, "b.weight": np.ones((3, 2)), "b.bias": np.ones(3)}


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"a.weight": W.T}, ValueError, r"dense_0.w takes an array of shape \(2, 4\) .*a.weight has \(4, 2\)"),
        ({"c.weight": W, "c.bias": B}, ValueError, "no layer takes c.weight; no layer takes c.bias"),
        ({"b.weight": None, "b.bias": None}, ValueError, "nothing is given for dense_1.w; nothing .* dense_1.b"),
        ({"a.bias": None}, ValueError, "a has weight; dense_0 takes weight, bias"),
        ({"a.running_mean": B}, ValueError, "a has weight, bias, running_mean; dense_0 takes weight, bias"),
        ({"a.weight": W * np.nan}, ValueError, "weights must be finite"),
        ({"a.weight": W * 1e300}, ValueError, "weights must be finite, in float32 too"),
        ({"a.weight": {}}, TypeError, "a.weight must hold numbers"),
    ],
)
def test_torch_weights_that_do_not_fit(changed, error, message):
    model = nbbp.Sequential([nbbp.Dense(2), nbbp.Dense(3)], backend="numpy")
    model.build(4)
    before = model.params.copy()
    arrays = {name: array for name, array in (TWO | changed).items() if array is not None}
    with pytest.raises(error, match=message):
        nbbp.exchange.from_torch(model, arrays)
    assert np.array_equal(model.params, before)
    nbbp.exchange.from_torch(model, TWO)
    assert (model.params == 1).all()


def test_what_cannot_come_from_torch():
    with pytest.raises(TypeError, match="must be a state_dict or a safetensors file, got int"):
        nbbp.exchange.from_torch(nbbp.Sequential([nbbp.Dense(2)]), 3)
    with pytest.raises(RuntimeError, match=r"model.build\(features\)"):
        nbbp.exchange.from_torch(nbbp.Sequential([nbbp.ColumnEmbedding({0: 2}), nbbp.Dense(2)]), TWO)
    with pytest.raises(ValueError, match=r"own_0: PyTorch's names for Own are not known; .*NAMES\[Own\]"):
        nbbp.exchange.from_torch(nbbp.Sequential([Own()]), {"weight": np.ones(3)})


def test_weights_begin_training_anew(rng):
    X, y = rng.standard_normal((8, 4)), rng.standard_normal((8, 3))
    model, fresh = (
        nbbp.Sequential([nbbp.Dense(2), nbbp.Dense(3)], optimizer="adam", averaging=nbbp.EMA(0.9), backend="numpy")
        for _ in range(2)
    )
    model.fit(X, y, verbose=0)
    for each in (model, fresh):
        nbbp.exchange.from_torch(each, TWO)
    assert (model.averaged().params == 1).all()
    losses = [each.fit(X, y, epochs=2, shuffle=False, verbose=0).step_loss for each in (model, fresh)]
    assert np.array_equal(*losses)


@pytest.fixture(scope="module")
def keras():
    pytest.importorskip("torch")
    return pytest.importorskip("keras")


def keras_network(keras):
    """The architecture of `everything`, trained a little: running statistics are no longer the first ones."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((4,))
    x = keras.layers.Dense(6, "gelu")(x)
    x = keras.layers.Dropout(0.3)(keras.layers.BatchNormalization()(x))
    y = keras.layers.LayerNormalization()(keras.layers.Dense(6, "tanh")(x))
    carried = y
    y = keras.layers.Dense(3, "selu")(y)
    y = keras.layers.Add()([y, keras.layers.Dense(3, use_bias=False)(carried)])
    x = keras.layers.Add()([y, keras.layers.Dense(3, use_bias=False)(x)])
    network = keras.Model(inputs, keras.layers.Dense(3, use_bias=False)(keras.layers.GaussianNoise(0.1)(x)))
    network.compile("sgd", "mse")
    network.fit(rows(32), np.ones((32, 3)), epochs=2, verbose=0)
    return network


def test_keras_predicts_the_same(keras, tmp_path):
    network = keras_network(keras)
    network.save(tmp_path / "network.keras")
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(network(rows(7).astype(np.float32))))
    for source in (network, network.get_weights(), tmp_path / "network.keras"):
        model = nbbp.exchange.from_keras(same_architecture(everything()), source)
        assert_close(model.predict(rows(7)), expected, 1e-5)
    ours = [nbbp.ColumnEmbedding({1: 5}, dimension=3), nbbp.Dense(2, "relu")]
    table, dense = keras.layers.Embedding(5, 3), keras.layers.Dense(2, "relu")
    inputs = keras.Input((1,)), keras.Input((2,))
    merged = keras.layers.Concatenate()([inputs[1], keras.layers.Flatten()(table(inputs[0]))])
    network, X = keras.Model(inputs, dense(merged)), rows(7)[:, :3].astype(np.float32)
    model = nbbp.Sequential(ours, backend="numpy")
    model.build(3)
    nbbp.exchange.from_keras(model, network)
    assert_close(model.predict(X), keras.ops.convert_to_numpy(network((X[:, [1]], X[:, [0, 2]]))), 1e-5)


def test_keras_models_that_do_not_fit(keras, tmp_path):
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    with pytest.raises(ValueError, match=r"epsilon is 0.001, that of batchnorm_0.gamma is 1e-05; nbbp.BatchNorm\(eps"):
        nbbp.exchange.from_keras(nbbp.Sequential([nbbp.Dense(2), nbbp.BatchNorm()]), network)
    with pytest.raises(ValueError, match=r"gamma belongs to a BatchNormalization; layernorm_0.gamma takes .* a LayerN"):
        nbbp.exchange.from_keras(nbbp.Sequential([nbbp.Dense(2), nbbp.LayerNorm(1e-3)]), network)
    with pytest.raises(ValueError, match=r"no layer takes .*gamma; no layer takes .*beta"):
        nbbp.exchange.from_keras(nbbp.Sequential([nbbp.Dense(2)]), network)
    with pytest.raises(ValueError, match=r"must be a \.keras file"):
        nbbp.exchange.from_keras(nbbp.Sequential([nbbp.Dense(2)]), tmp_path / "network.weights.h5")


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ([W], ValueError, r"dense_0.w has shape \(2, 2\), Keras's array 0 has \(2, 4\)"),
        ([W.T], ValueError, "nothing is given for dense_0.b"),
        ([W.T, B, B], ValueError, "no layer takes array 2"),
        ([], RuntimeError, r"model.build\(features\)"),
        (7, TypeError, "must be a Keras model, a list of arrays or a .keras file, got int"),
    ],
)
def test_arrays_that_do_not_fit(arrays, error, message):
    model = nbbp.Sequential([nbbp.Dense(2)])
    with pytest.raises(error, match=message):
        nbbp.exchange.from_keras(model, arrays)
    with pytest.raises(RuntimeError, match="does not know its input"):
        _ = model.params


def test_command(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    model = everything()
    model.save(tmp_path / "model")

    def export(*arguments):
        chosen = parser.parse_args(["export", str(tmp_path / "model"), *map(str, arguments)])
        chosen.function(chosen)

    for option, name in (("--numpy", "network.py"), ("--onnx", "network.onnx"), ("--torch", "network.safetensors")):
        if option == "--onnx":
            pytest.importorskip("onnx")
        export(option, tmp_path / name)
        assert capsys.readouterr().out == f"{tmp_path / name} written\n"
    assert_close(runpy.run_path(str(tmp_path / "network.py"))["predict"](rows(7)), model.predict(rows(7)), 1e-5)
    again = nbbp.exchange.from_torch(same_architecture(model), tmp_path / "network.safetensors")
    assert np.array_equal(again.params, model.params)
    (tmp_path / "model").unlink()
    model.fit(rows(8), [0, 1] * 4, verbose=0, callbacks=[nbbp.Checkpoint(tmp_path / "model")])
    export("--torch", tmp_path / "network.safetensors")
    nbbp.exchange.from_torch(again, tmp_path / "network.safetensors")
    assert np.array_equal(again.params, model.params)
    with pytest.raises(SystemExit):
        export()


@pytest.mark.parametrize(
    ("library", "use", "message"),
    [
        ("torch", lambda model: nbbp.exchange.to_torch_state_dict(model), r"nbbp\[torch\]"),
        ("onnx", lambda model: nbbp.exchange.to_onnx(model, "never.onnx"), r"nbbp\[onnx\]"),
        ("keras", lambda model: nbbp.exchange.from_keras(model, "no.keras"), r"nbbp\[keras\]"),
    ],
)
def test_missing_libraries(library, use, message, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=message):
        use(everything())


def test_a_trained_network_goes_everywhere(digits, tmp_path):
    X, y, X_test, _ = digits
    layers = [nbbp.Dense(16, "relu"), nbbp.BatchNorm(), nbbp.Dropout(0.2), nbbp.Dense(10)]
    model = nbbp.Sequential(layers, "softmax_cross_entropy", "adam")
    model.fit(X, y, epochs=2, verbose=0)
    expected = model.predict(X_test)
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    assert_close(runpy.run_path(str(tmp_path / "network.py"))["predict"](X_test), expected, 1e-5)
    assert_close(onnx_session(model, tmp_path / "network.onnx")(X_test), expected, 1e-5)
    network = torch_network(model, X.shape[1])
    network.load_state_dict(nbbp.exchange.to_torch_state_dict(model))
    assert network[2].num_batches_tracked == model.steps
    assert_close(torch_predictions(network, model, X_test), expected, 1e-5)


ESTIMATORS = {
    "numbers": lambda kinds: kinds,
    "names": lambda kinds: np.array(["a", "b", "c"])[kinds],
    "yes and no": lambda kinds: np.array(["no", "yes"], object)[(kinds > 0) * 1],
    "bools": lambda kinds: kinds > 0,
    "one class": lambda kinds: np.full(len(kinds), 7),
    "labels": lambda kinds: np.stack([kinds == 0, kinds > 1], axis=1) * 1,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("targets", ESTIMATORS)
def test_onnx_file_of_a_classifier_has_its_labels(tmp_path, rng, targets, dtype):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("sklearn")
    kinds = np.arange(60) % 3
    X = (rng.normal(size=(60, 4)) + kinds[:, np.newaxis]).astype(dtype)
    classifier = nbbp.sklearn.MLPClassifier((8,), max_iter=3, n_iter_no_change=np.inf, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier.fit(X, ESTIMATORS[targets](kinds))
    nbbp.exchange.to_onnx(classifier, tmp_path / "network.onnx")
    onnx.checker.check_model(tmp_path / "network.onnx", full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    label, p = session.run(["label", "probabilities"], {"X": X})
    np.testing.assert_array_equal(label, classifier.predict(X))
    np.testing.assert_allclose(p, classifier.predict_proba(X), rtol=1e-5, atol=1e-6)
    assert (label.dtype.kind in "OUS") == (classifier.classes_.dtype.kind in "OUS")


@pytest.mark.parametrize("outputs", [1, 2])
def test_onnx_file_of_a_regressor_has_the_form_of_y(tmp_path, rng, outputs):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    pytest.importorskip("sklearn")
    X = rng.normal(size=(60, 4))
    regressor = nbbp.sklearn.MLPRegressor((8,), solver="lbfgs", tol=0.1, random_state=0).fit(X, X[:, :outputs])
    nbbp.exchange.to_onnx(regressor, tmp_path / "network.onnx")
    (values,) = onnxruntime.InferenceSession(tmp_path / "network.onnx").run(None, {"X": X})
    assert values.shape == regressor.predict(X).shape
    np.testing.assert_allclose(values, regressor.predict(X), rtol=1e-6)


def test_onnx_file_of_an_estimator_that_is_not_fitted():
    pytest.importorskip("onnx")
    pytest.importorskip("sklearn")
    with pytest.raises(TypeError, match="is not fitted"):
        nbbp.exchange.to_onnx(nbbp.sklearn.MLPClassifier(), "never.onnx")
