"""Exchange of networks of images and series: convolutions, and the orders of their axes elsewhere."""

import runpy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_exchange import assert_close, filled, onnx_session

import nbbp

SMALL = st.sampled_from(["linear", "tanh", "relu", "softmax"])


def convolution(draw, kind, channels: int) -> nbbp.Layer:
    groups = draw(st.sampled_from([n for n in (1, 2, 3, 4) if channels % n == 0]))
    size, strides, dilation = (draw(st.tuples(*[st.integers(1, n)] * kind.axes)) for n in (4, 3, 2))
    numbers = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * kind.axes)
    padding = draw(st.one_of(st.sampled_from(["valid", "same"]), st.integers(0, 3), numbers))
    return kind(
        groups * draw(st.integers(1, 4)), size, strides, padding, draw(SMALL), draw(st.booleans()), dilation, groups
    )


@st.composite
def networks(draw):
    """A model of images or series that branch, meet and become flat, and data for it."""
    axes = draw(st.sampled_from([1, 2]))
    kinds = [nbbp.Conv1D, nbbp.Conv1DTranspose] if axes == 1 else [nbbp.Conv2D, nbbp.Conv2DTranspose]
    x = nbbp.Input((*(draw(st.integers(1, 9)) for _ in range(axes)), draw(st.integers(1, 4))))
    edges = [x]
    for _ in range(draw(st.integers(1, 6))):
        one = draw(st.sampled_from(edges[-2:]))
        choice = draw(st.integers(0, 7))
        if choice <= 2:
            layer = convolution(draw, draw(st.sampled_from(kinds)), one.shape[-1])
            try:
                y = layer(one)
            except ValueError:  # its windows do not fit
                continue
            if max(y.shape) <= 30:
                edges.append(y)
        elif choice == 3:
            edges.append(nbbp.BatchNorm()(one))
        elif choice == 4:
            inner = [kinds[0](one.shape[-1] + draw(st.integers(0, 1)), 3, padding="same"), nbbp.LayerNorm(0.1)]
            edges.append(nbbp.Residual(inner)(one))
        elif choice == 5:
            others = [edge for edge in edges if edge.shape[:-1] == one.shape[:-1]]
            edges.append(nbbp.Concatenate()(one, draw(st.sampled_from(others))))
        elif choice == 6:
            others = [edge for edge in edges if edge.shape == one.shape]
            edges.append(draw(st.sampled_from([nbbp.Add, nbbp.Multiply]))()(one, draw(st.sampled_from(others))))
        else:
            edges.append(nbbp.Activation(draw(SMALL))(nbbp.Dropout()(one)))
    ends = [nbbp.Dense(3)(nbbp.Concatenate()(nbbp.Flatten()(edges[-1]), nbbp.Flatten()(edges[-2:][0])))]
    ends += [edges[-1]] if draw(st.booleans()) and edges[-1] is not x else []
    ends += [nbbp.Flatten()(edges[-2])] if len(edges) > 1 and draw(st.booleans()) else []
    losses = [draw(st.sampled_from(["mse", "softmax_cross_entropy"])) for _ in ends]
    dtype = draw(st.sampled_from(["float32", "float64"]))
    model = filled(nbbp.Model(x, ends, losses, dtype=dtype, backend="numpy"), None, draw(st.integers(0, 99)))
    X = np.random.default_rng(draw(st.integers(0, 99))).uniform(-1, 1, (3, *x.shape)).astype(dtype)
    return model, X


@given(networks())
@settings(max_examples=100, deadline=None)
def test_numpy_file_predicts_the_same(tmp_path_factory, made):
    model, X = made
    path = tmp_path_factory.mktemp("numpy") / "network.py"
    nbbp.exchange.to_numpy_file(model, path)
    for mine, expected in zip(runpy.run_path(str(path))["predict"](X), model.predict(X), strict=True):
        assert_close(mine, expected, 1e-5 if model.dtype == "float32" else 1e-12)


@given(networks())
@settings(max_examples=100, deadline=None)
def test_onnx_file_predicts_the_same(tmp_path_factory, made):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model, X = made
    path = tmp_path_factory.mktemp("onnx") / "network.onnx"
    nbbp.exchange.to_onnx(model, path)
    onnx.checker.check_model(path, full_check=True)
    predictions = onnxruntime.InferenceSession(path).run(None, {"X": X})
    for mine, expected in zip(predictions, model.predict(X), strict=True):
        assert_close(mine, expected, 1e-5)


def test_onnx_file_changes_the_order_of_axes_once(tmp_path):
    """Before the first convolution and before Flatten, however many layers are between them."""
    onnx = pytest.importorskip("onnx")
    conv = nbbp.Conv2D(4, 3, padding="same", activation="relu")
    layers = [conv, nbbp.BatchNorm(), nbbp.Residual([conv, nbbp.Dropout(), conv]), nbbp.Activation("softmax"), conv]
    model = filled(nbbp.Sequential([*layers, nbbp.Flatten(), nbbp.Dense(2)], backend="numpy"), (6, 5, 3))
    X = np.random.default_rng(0).standard_normal((3, 6, 5, 3))
    assert_close(onnx_session(model, tmp_path / "network.onnx")(X), model.predict(X), 1e-5)
    graph = onnx.load(tmp_path / "network.onnx").graph
    names = [node.name for node in graph.node if node.op_type in ("Transpose", "Reshape")]
    assert names == ["conv2d_0/Transpose", "flatten_0/Transpose", "flatten_0/Reshape"]
    shapes = {array.name: tuple(array.dims) for array in graph.initializer}
    assert shapes["conv2d_0.w"] == (4, 3, 3, 3)


def test_onnx_file_flattens_integers(tmp_path):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    x = nbbp.Input((2, 3), "int32", name="X")
    words = nbbp.Embedding({0: 4, 5: 2**24 + 2}, dimension=1)(nbbp.Flatten()(x))  # of which float32 has no last
    model = filled(nbbp.Model(x, nbbp.Dense(2)(words), backend="numpy"), None)
    nbbp.exchange.to_onnx(model, tmp_path / "network.onnx")
    onnx.checker.check_model(tmp_path / "network.onnx", full_check=True)
    X = np.array([[[3, 1, 2], [5, 2, 2**24 + 1]]], np.int32)
    (y,) = onnxruntime.InferenceSession(tmp_path / "network.onnx").run(None, {"X": X})
    assert_close(y, model.predict(X), 1e-6)


def test_numpy_file_is_readable(tmp_path):
    layers = [
        nbbp.Conv2D(4, (3, 2), 2, "same", "relu", groups=2),
        nbbp.Conv2DTranspose(2, 3, (2, 1), padding=1, use_bias=False),
        nbbp.Flatten(),
    ]
    model = filled(nbbp.Sequential(layers, backend="numpy"), (6, 5, 2))
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    text = (tmp_path / "network.py").read_text()
    forward = """
    x = np.asarray(X, np.float32)
    x = _convolution(x, weights["conv2d_0.w"], strides=2, padding=(0, 1), groups=2)
    x = x + weights["conv2d_0.b"]
    x = np.maximum(x, 0)  # relu
    x = _transposed_convolution(x, weights["conv2dtranspose_0.w"], (5, 3), strides=(2, 1), padding=1)
    x = x.reshape(len(x), 30)
    return x


def _transposed_convolution("""
    assert forward in text
    assert max(len(line) for line in text.splitlines()) <= 120
    nbbp.exchange.to_numpy_file(filled(nbbp.Sequential([nbbp.Dense(2)]), 3), tmp_path / "network.py")
    assert "convolution" not in (tmp_path / "network.py").read_text()
