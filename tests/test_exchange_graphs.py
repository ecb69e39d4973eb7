"""Exchange of graphs: several inputs and outputs, branches, shared layers, positions, integers."""

import runpy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_exchange import assert_close, filled

import nbbp

SMALL = st.sampled_from(["linear", "tanh", "sigmoid", "relu", "gelu", "softmax"])


@st.composite
def graphs(draw):
    """A model over edges that branch, meet and share layers, and data for it."""
    positions = draw(st.sampled_from([(), (3,), (2, 3)]))
    kind = draw(st.sampled_from(["float", "int32", "uint8"]))
    x = nbbp.Input((*positions, 4), name=draw(st.sampled_from([None, "x"])))
    codes = nbbp.Input((*positions, 3), None if kind == "float" else kind, name="codes")
    shared = nbbp.Dense(4, draw(SMALL))
    edges = [x, nbbp.Dense(4)(nbbp.ColumnEmbedding({2: 5, 0: 2}, dimension=3)(codes))]
    twins = [shared, nbbp.LayerNorm(0.1), nbbp.BatchNorm()]
    for _ in range(draw(st.integers(1, 7))):
        one, other = (draw(st.sampled_from(edges)) for _ in range(2))
        choice = draw(st.integers(0, 6))
        if choice == 0:
            edges.append(nbbp.Add()(one, other, one) if one.shape == other.shape else nbbp.Concatenate()(one, other))
        elif choice == 1:
            edges.append(nbbp.Multiply()(one, other) if one.shape == other.shape else nbbp.Concatenate()(other, one))
        elif choice == 2:
            edges.append(nbbp.Residual([nbbp.Dense(draw(st.sampled_from([4, 5])), draw(SMALL)), nbbp.Dropout()])(one))
        elif choice == 3:
            edges.append(nbbp.Activation(draw(SMALL))(nbbp.GaussianNoise(0.1)(one)))
        elif one.shape[-1] == 4:
            edges.append(draw(st.sampled_from(twins))(one))
    ends = [
        nbbp.Dense(2)(nbbp.Concatenate()(*edges)),
        *draw(st.lists(st.sampled_from(edges[1:]), max_size=2, unique_by=id)),
    ]
    form = draw(st.sampled_from(["one", "list", "dict"]))
    outputs = {"one": ends[0], "list": ends, "dict": {f"end {k}": end for k, end in enumerate(ends)}}[form]
    losses = [draw(st.sampled_from(["mse", "softmax_cross_entropy", "poisson"])) for _ in ends]
    loss = {"one": losses[0], "list": losses, "dict": {f"end {k}": name for k, name in enumerate(losses)}}[form]
    inputs = [x, codes] if draw(st.booleans()) else {"first": x, "second": codes}
    dtype = draw(st.sampled_from(["float32", "float64"]))
    model = filled(nbbp.Model(inputs, outputs, loss, dtype=dtype, backend="numpy"), None, draw(st.integers(0, 99)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    X = rng.uniform(-1, 1, (5, *x.shape)), rng.integers(0, 2, (5, *codes.shape)).astype(codes.dtype or dtype)
    return model, list(X) if isinstance(inputs, list) else dict(zip(inputs, X, strict=True))


def arrays(packed) -> list:
    """One array, a list or a dict of them, as a list."""
    return list(packed.values()) if isinstance(packed, dict) else packed if isinstance(packed, list) else [packed]


def onnx_predictions(model, X, path) -> dict[str, np.ndarray]:
    """What onnxruntime makes of the model, the file being checked, by the names of its outputs."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    nbbp.exchange.to_onnx(model, path)
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    dtypes = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int32)": np.int32}
    feed = {
        source.name: np.asarray(x, dtypes.get(source.type, np.uint8))
        for source, x in zip(session.get_inputs(), arrays(X), strict=True)
    }
    names = [result.name for result in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def assert_all_close(given, model, X, rtol32, rtol64):
    rtol = rtol32 if model.dtype == "float32" else rtol64
    for mine, expected in zip(given, arrays(model.predict(X)), strict=True):
        assert_close(mine, expected, rtol)


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_numpy_file_predicts_the_same(tmp_path_factory, made):
    model, X = made
    path = tmp_path_factory.mktemp("numpy") / "network.py"
    nbbp.exchange.to_numpy_file(model, path)
    predictions = runpy.run_path(str(path))["predict"](X)
    assert type(predictions) is type(model.predict(X))
    if isinstance(predictions, dict):
        assert list(predictions) == list(model.predict(X))
    assert_all_close(arrays(predictions), model, X, 2e-5, 1e-12)


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_onnx_file_predicts_the_same(tmp_path_factory, made):
    model, X = made
    predictions = onnx_predictions(model, X, tmp_path_factory.mktemp("onnx") / "network.onnx")
    expected = {"": "predictions"}.get(model.outputs.names[0])
    assert list(predictions) == ([expected] if expected else model.outputs.names)
    assert_all_close(predictions.values(), model, X, 2e-5, 1e-6)


def two_headed() -> nbbp.Model:
    """One layer called twice, a block with a projection, two outputs that differ in their activations alone."""
    image, weather = nbbp.Input(4, name="image"), nbbp.Input(4)
    shared = nbbp.Dense(3, "relu")
    h = nbbp.Residual([nbbp.Dense(5, "tanh"), nbbp.BatchNorm()])(nbbp.Add()(shared(image), shared(weather)))
    z = nbbp.Dense(2)(h)
    outputs = {"class": z, "score": nbbp.Dropout()(z), "gate": nbbp.Dense(1)(nbbp.Multiply()(h, h))}
    loss = {"class": "softmax_cross_entropy", "score": "mse", "gate": "binary_cross_entropy"}
    return filled(nbbp.Model([image, weather], outputs, loss, backend="numpy"), None)


def test_numpy_file_is_readable(tmp_path):
    nbbp.exchange.to_numpy_file(two_headed(), tmp_path / "network.py")
    forward = """
def predict(X):
    \"""Predictions {class: (rows, 2), score: (rows, 2), gate: (rows, 1)} for X [(rows, 4), (rows, 4)].\"""
    x1 = np.asarray(X[0], np.float32)
    x2 = np.asarray(X[1], np.float32)
    x1 = x1 @ weights["dense_0.w"] + weights["dense_0.b"]
    x1 = np.maximum(x1, 0)  # relu
    x2 = x2 @ weights["dense_0.w"] + weights["dense_0.b"]
    x2 = np.maximum(x2, 0)  # relu
    x1 = x1 + x2
    h = x1 @ weights["residual_0.dense_0.w"] + weights["residual_0.dense_0.b"]
    h = np.tanh(h)  # tanh
    h = (h - weights["residual_0.batchnorm_0.mean"]) / np.sqrt(weights["residual_0.batchnorm_0.variance"] + 1e-05)
    h = h * weights["residual_0.batchnorm_0.gamma"] + weights["residual_0.batchnorm_0.beta"]
    x1 = x1 @ weights["residual_0.projection.w"]
    x1 = x1 + h
    h = x1 @ weights["dense_2.w"] + weights["dense_2.b"]
    x1 = x1 * x1
    x1 = x1 @ weights["dense_3.w"] + weights["dense_3.b"]
    h2 = np.exp(h - h.max(axis=-1, keepdims=True))  # softmax
    h2 = h2 / h2.sum(axis=-1, keepdims=True)  # softmax
    x1 = 0.5 * (1 + np.tanh(0.5 * x1))  # sigmoid
    return {"class": h2, "score": h, "gate": x1}
"""
    assert forward in (tmp_path / "network.py").read_text()


def test_names_and_dtypes_in_an_onnx_file(tmp_path):
    onnx = pytest.importorskip("onnx")
    pixels, tokens = nbbp.Input((2, 4), "uint8", name="pixels"), nbbp.Input((2, 3), "int32", name="dense_0/MatMul")
    words = nbbp.ColumnEmbedding({0: 2**24 + 2}, dimension=1)(tokens)  # of which float32 has no last
    shades = nbbp.ColumnEmbedding({0: 256}, dimension=1)(pixels)
    h = nbbp.Concatenate()(nbbp.BatchNorm()(shades), words)
    model = nbbp.Model([pixels, tokens], [nbbp.Dense(2)(h), words], backend="numpy")
    X = [np.full((1, 2, 4), 200, np.uint8), np.full((1, 2, 3), 2**24 + 1, np.int32)]
    predictions = onnx_predictions(model, X, tmp_path / "network.onnx")
    assert_all_close(predictions.values(), model, X, 1e-6, 1e-6)
    graph = onnx.load(tmp_path / "network.onnx").graph
    kinds = {value.name: value.type.tensor_type for value in (*graph.input, *graph.output)}
    assert list(kinds) == ["pixels", "dense_0/MatMul", "output_0", "output_1"]
    assert [kind.elem_type for kind in kinds.values()] == [2, 6, 1, 1]  # uint8, int32, float, float
    shapes = [[axis.dim_param or axis.dim_value for axis in kind.shape.dim] for kind in kinds.values()]
    assert shapes == [["rows", 2, 4], ["rows", 2, 3], ["rows", 2, 2], ["rows", 2, 3]]


def test_a_shared_layer_is_written_once(tmp_path):
    onnx = pytest.importorskip("onnx")
    nbbp.exchange.to_onnx(two_headed(), tmp_path / "network.onnx")
    graph = onnx.load(tmp_path / "network.onnx").graph
    assert [value.name for value in graph.input] == ["image", "input_1"]
    assert sorted(array.name for array in graph.initializer) == sorted(
        {"residual_0.batchnorm_0.mean", "residual_0.batchnorm_0.variance"} | two_headed().named_params().keys()
    )
    names = [node.name for node in graph.node]
    assert {"dense_0/Gemm", "dense_1/Gemm", "residual_0.projection/Gemm", "class/Softmax"} < set(names)


def test_names_that_are_there_twice(tmp_path):
    pytest.importorskip("onnx")
    x = nbbp.Input(3)
    model = nbbp.Model({"x": x}, {"x": nbbp.Dense(2)(x)}, backend="numpy")
    X = {"x": np.ones((2, 3))}
    with pytest.raises(ValueError, match="two inputs or outputs have the name 'x'"):
        nbbp.exchange.to_onnx(model, tmp_path / "network.onnx")
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    predictions = runpy.run_path(str(tmp_path / "network.py"))["predict"](X)
    assert_close(predictions["x"], model.predict(X)["x"], 1e-6)


@pytest.mark.parametrize(
    "name", ['"""\nraise SystemExit\n"""', "\\", '\\"""', "a\nb", "{lines}", "h", "np", "ü \U0001f600", '"', "'"]
)
def test_no_name_becomes_code(name, tmp_path):
    x = nbbp.Input(3, name=name)
    model = nbbp.Model({name: x}, {name: nbbp.Dense(2)(x), "other": nbbp.Dense(1)(x)}, backend="numpy")
    X = {name: np.ones((2, 3))}
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    predictions = runpy.run_path(str(tmp_path / "network.py"))["predict"](X)
    assert list(predictions) == [name, "other"]
    assert_close(predictions[name], model.predict(X)[name], 1e-6)


def torch_twin():
    """`two_headed` as a PyTorch user writes it who takes nbbp's names."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense_0 = nn.Linear(4, 3)
            self.residual_0 = nn.ModuleDict(
                {"dense_0": nn.Linear(3, 5), "batchnorm_0": nn.BatchNorm1d(5), "projection": nn.Linear(3, 5, False)}
            )
            self.dense_2, self.dense_3 = nn.Linear(5, 2), nn.Linear(5, 1)

        def forward(self, image, weather):
            x = self.dense_0(image).relu() + self.dense_0(weather).relu()
            block = self.residual_0
            x = block["projection"](x) + block["batchnorm_0"](block["dense_0"](x).tanh())
            z = self.dense_2(x)
            return {"class": z.softmax(-1), "score": z, "gate": self.dense_3(x * x).sigmoid()}

    return Network().eval()


def test_torch_predicts_the_same_and_back(rng):
    torch = pytest.importorskip("torch")
    model, network = two_headed(), torch_twin()
    X = [rng.standard_normal((7, 4)).astype(np.float32) for _ in range(2)]
    network.load_state_dict(nbbp.exchange.to_torch_state_dict(model), strict=True)
    with torch.no_grad():
        predictions = network(*map(torch.from_numpy, X))
    for name, expected in model.predict(X).items():
        assert_close(predictions[name].numpy(), expected, 1e-5)
    state = network.state_dict()
    shuffled = {name: state[name] for name in sorted(state, reverse=True)}
    in_order = {f"net.{name.replace('_', 'x')}": state[name] for name in state if "batches" not in name}
    renamed = {name.replace("runningx", "running_"): array for name, array in in_order.items()}
    for source in (state, shuffled, renamed):
        other = two_headed()
        other.params[:] = 0
        assert nbbp.exchange.from_torch(other, source) is other
        assert np.array_equal(other.params, model.params)
        assert np.array_equal(other.network.state, model.network.state)
        assert (other.steps, other.outputs.names) == (0, ["class", "score", "gate"])


def test_keras_weights_come_in_the_order_of_calls():
    model = two_headed()
    arrays = model.network.layout.named(model.params, model.network.state)
    given = [array + 1 for array in arrays.values()]
    nbbp.exchange.from_keras(model, given)
    again = model.network.layout.named(model.params, model.network.state)
    assert all(np.array_equal(*pair) for pair in zip(again.values(), given, strict=True))
    with pytest.raises(ValueError, match=r"nothing is given for dense_3.b"):
        nbbp.exchange.from_keras(model, given[:-1])


def test_weights_do_not_come_in_while_a_fit_goes_on(rng):
    """The fit would train arrays that are no longer the model's."""
    x = nbbp.Input(3)
    model = nbbp.Model(x, nbbp.Dense(2)(x), backend="numpy")

    class Hasty(nbbp.callbacks.Callback):
        def on_epoch_end(self, fit):
            nbbp.exchange.from_torch(fit.model, {"dense_0.weight": np.ones((2, 3)), "dense_0.bias": np.ones(2)})

    with pytest.raises(RuntimeError, match="before or after the fit"):
        model.fit(rng.standard_normal((4, 3)), np.ones((4, 2)), verbose=0, callbacks=[Hasty()])
    assert model.predict(np.ones((1, 3))).shape == (1, 2)
