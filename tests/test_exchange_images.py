"""Exchange of networks of images and series: convolutions, and the orders of their axes elsewhere."""

import math
import runpy

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_exchange import assert_close, filled, onnx_session

import nbbp
from nbbp.exchange import channels, walk

SMALL = st.sampled_from(["linear", "tanh", "relu", "softmax"])


def convolution(draw, axes: int, channels: int) -> nbbp.Layer:
    kinds = [nbbp.Conv1D, nbbp.Conv1DTranspose] if axes == 1 else [nbbp.Conv2D, nbbp.Conv2DTranspose]
    kind = draw(st.sampled_from(kinds))
    groups = draw(st.sampled_from([n for n in (1, 2, 3, 4) if channels % n == 0]))
    size, strides, dilation = (draw(st.tuples(*[st.integers(1, n)] * kind.axes)) for n in (4, 3, 2))
    numbers = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * kind.axes)
    padding = draw(st.one_of(st.sampled_from(["valid", "same"]), st.integers(0, 3), numbers))
    return kind(
        groups * draw(st.integers(1, 4)), size, strides, padding, draw(SMALL), draw(st.booleans()), dilation, groups
    )


def pool(draw, axes: int) -> nbbp.Layer:
    kinds = [nbbp.MaxPool1D, nbbp.AveragePool1D] if axes == 1 else [nbbp.MaxPool2D, nbbp.AveragePool2D]
    size = draw(st.tuples(*[st.integers(1, 4)] * axes))
    strides = draw(st.one_of(st.none(), st.tuples(*[st.integers(1, 3)] * axes)))
    numbers = [st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)) for n in size]
    padding = draw(st.one_of(st.sampled_from(["valid", "same"]), st.tuples(*numbers)))
    return draw(st.sampled_from(kinds))(size, strides, padding)


def resizing(draw) -> nbbp.Layer:
    sides = draw(st.tuples(*[st.tuples(*[st.integers(0, 2)] * 2)] * 2))
    factors = draw(st.tuples(*[st.integers(1, 3)] * 2))
    crop = nbbp.RandomCrop(*draw(st.tuples(*[st.integers(1, 5)] * 2)))
    return draw(st.sampled_from([nbbp.UpSample2D(factors), nbbp.ZeroPad2D(sides), nbbp.Crop2D(sides), crop]))


def flat_layers(draw, edges):
    """A flat edge behind layers that keep its features, and behind some that bring others."""
    x = edges[-1]
    for _ in range(draw(st.integers(0, 3))):
        choice = draw(st.integers(0, 4))
        if choice <= 1:
            x = draw(st.sampled_from([nbbp.BatchNorm(), nbbp.LayerNorm(0.1)]))(x)
        elif choice == 2:
            x = nbbp.Activation(draw(SMALL))(nbbp.Dropout()(x))
        elif choice == 3:
            x = nbbp.Add()(x, edges[-1] if edges[-1].shape == x.shape else x)
        else:
            x = nbbp.Residual([nbbp.Dense(2), nbbp.Dense(draw(st.sampled_from([3, *x.shape])))])(x)
    return nbbp.Concatenate()(*edges, x, nbbp.Dense(2)(x)) if len(edges) > 1 and draw(st.booleans()) else x


@st.composite
def networks(draw):
    """A model of images or series that branch, meet and become flat, and data for it."""
    axes = draw(st.sampled_from([1, 2]))
    conv = nbbp.Conv1D if axes == 1 else nbbp.Conv2D
    x = nbbp.Input((*(draw(st.integers(1, 9)) for _ in range(axes)), draw(st.integers(1, 4))))
    edges = [x]
    for _ in range(draw(st.integers(1, 6))):
        one = draw(st.sampled_from(edges[-2:]))
        choice = draw(st.integers(-2, 7))
        if choice <= 2:
            layer = convolution(draw, axes, one.shape[-1]) if choice >= 0 else pool(draw, axes)
            layer = resizing(draw) if choice == -1 and axes == 2 else layer
            try:
                y = layer(one)
            except ValueError:  # its windows do not fit
                continue
            if max(y.shape) <= 30:
                edges.append(y)
        elif choice == 3:
            groups = draw(st.sampled_from([n for n in range(1, 5) if one.shape[-1] % n == 0]))
            edges.append(draw(st.sampled_from([nbbp.BatchNorm(), nbbp.GroupNorm(groups, 0.1)]))(one))
        elif choice == 4:
            inner = [conv(one.shape[-1] + draw(st.integers(0, 1)), 3, padding="same"), nbbp.LayerNorm(0.1)]
            edges.append(nbbp.Residual(inner)(one))
        elif choice == 5:
            others = [edge for edge in edges if edge.shape[:-1] == one.shape[:-1]]
            edges.append(nbbp.Concatenate()(one, draw(st.sampled_from(others))))
        elif choice == 6:
            others = [edge for edge in edges if edge.shape == one.shape]
            edges.append(draw(st.sampled_from([nbbp.Add, nbbp.Multiply]))()(one, draw(st.sampled_from(others))))
        else:
            edges.append(nbbp.Activation(draw(SMALL))(nbbp.SpatialDropout(0.2)(nbbp.Rescale(0.7, -0.1)(one))))
    flat = [nbbp.Flatten()(edge) for edge in edges[-2:]]
    ends = [nbbp.Dense(3)(flat_layers(draw, flat)), draw(st.sampled_from(flat))]
    if draw(st.booleans()):
        over_all = draw(st.sampled_from([nbbp.GlobalMaxPool(), nbbp.GlobalAveragePool()]))
        ends.append(nbbp.Dense(2)(over_all(edges[-1])))
    ends += [edges[-1]] if draw(st.booleans()) and edges[-1] is not x else []
    if draw(st.booleans()):
        features = nbbp.Dense(math.prod(one.shape))(flat_layers(draw, flat[-1:]))
        image = nbbp.Reshape(one.shape)(draw(st.sampled_from([nbbp.BatchNorm(), nbbp.Activation("tanh")]))(features))
        ends.append(nbbp.Flatten()(conv(2, 1)(image)))
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
    layers = [conv, nbbp.BatchNorm(), nbbp.Residual([conv, nbbp.Dropout(), conv]), nbbp.Activation("softmax")]
    layers += [nbbp.MaxPool2D(), nbbp.ZeroPad2D(1), conv, nbbp.Crop2D(1), nbbp.AveragePool2D(2, padding="same")]
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
    words = nbbp.ColumnEmbedding({0: 4, 5: 2**24 + 2}, dimension=1)(nbbp.Flatten()(x))  # of which float32 has no last
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


def torch_outputs(graph, state, X):
    """The outputs of a graph before their activations, as PyTorch computes them with channels first."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    activations = {"linear": lambda z: z, "tanh": torch.tanh, "relu": torch.relu, "softmax": lambda z: z.softmax(1)}
    values = {graph.inputs[0]: torch.from_numpy(np.moveaxis(X, -1, 1).copy())}
    for node in graph.nodes:
        layer, name, (x, *others) = node.layer, graph.names[graph.owners[node]], [values[e] for e in node.inputs]
        p = {key.rpartition(".")[2]: array for key, array in state.items() if key.rpartition(".")[0] == name}
        if isinstance(layer, nbbp.Conv1DTranspose | nbbp.Conv2DTranspose):
            windows = layer.windows(node.inputs[0].shape)
            transposed = {1: F.conv_transpose1d, 2: F.conv_transpose2d}[layer.axes]
            y = transposed(x, p["weight"], None, windows.strides, 0, 0, layer.groups, windows.dilation)
            for axis, ((before, _), n) in enumerate(zip(windows.padding, windows.lengths, strict=True), 2):
                missing = torch.zeros((*y.shape[:axis], n, *y.shape[axis + 1 :]), dtype=y.dtype)
                y = torch.cat([y, missing], axis).narrow(axis, before, n)
            y = y + p["bias"].reshape(-1, *[1] * layer.axes) if "bias" in p else y
        elif isinstance(layer, nbbp.Conv1D | nbbp.Conv2D):
            windows = layer.windows(node.inputs[0].shape)
            x = F.pad(x, [n for pair in reversed(windows.padding) for n in pair])
            conv = {1: F.conv1d, 2: F.conv2d}[layer.axes]
            y = conv(x, p["weight"], p.get("bias"), windows.strides, 0, windows.dilation, layer.groups)
        elif isinstance(layer, nbbp.MaxPool1D | nbbp.MaxPool2D | nbbp.AveragePool1D | nbbp.AveragePool2D):
            windows = layer.windows(node.inputs[0].shape)
            around = [n for pair in reversed(windows.padding) for n in pair]
            if isinstance(layer, nbbp.MaxPool2D):
                maxima = {1: F.max_pool1d, 2: F.max_pool2d}[layer.axes]
                y = maxima(F.pad(x, around, value=-np.inf), windows.size, windows.strides)
            else:
                mean = {1: F.avg_pool1d, 2: F.avg_pool2d}[layer.axes]
                each = [mean(F.pad(z, around), windows.size, windows.strides) for z in (x, torch.ones_like(x))]
                y = each[0] / each[1]
        elif isinstance(layer, nbbp.UpSample2D):
            y = F.interpolate(x, scale_factor=tuple(map(float, layer.size)))
        elif isinstance(layer, nbbp.ZeroPad2D | nbbp.Crop2D):
            pads, sign = (layer.padding, 1) if isinstance(layer, nbbp.ZeroPad2D) else (layer.cropping, -1)
            y = F.pad(x, [sign * n for pair in reversed(pads) for n in pair])
        elif isinstance(layer, nbbp.RandomCrop):
            top, left = ((n - m) // 2 for n, m in zip(x.shape[2:], (layer.height, layer.width), strict=True))
            y = x[:, :, top : top + layer.height, left : left + layer.width]
        elif isinstance(layer, nbbp.Rescale):
            y = x * layer.scale + layer.offset
        elif isinstance(layer, nbbp.GlobalMaxPool):
            y = x.flatten(2).amax(2)
        elif isinstance(layer, nbbp.GlobalAveragePool):
            y = x.flatten(2).mean(2)
        elif isinstance(layer, nbbp.Dense):
            y = F.linear(x.movedim(1, -1), p["weight"], p.get("bias")).movedim(-1, 1)
        elif isinstance(layer, nbbp.BatchNorm):
            y = F.batch_norm(x, p["running_mean"], p["running_var"], p["weight"], p["bias"], eps=layer.epsilon)
        elif isinstance(layer, nbbp.GroupNorm):
            y = F.group_norm(x, layer.groups, p["weight"], p["bias"], layer.epsilon)
        elif isinstance(layer, nbbp.LayerNorm):
            x = x.movedim(1, -1)
            y = F.layer_norm(x, x.shape[-1:], p["weight"], p["bias"], layer.epsilon).movedim(-1, 1)
        elif isinstance(layer, nbbp.Flatten):
            y = x.flatten(1)
        elif isinstance(layer, nbbp.Reshape):
            *positions, channels = node.outputs[0].shape
            y = x.unflatten(1, (channels, *positions))
        elif isinstance(layer, nbbp.Concatenate):
            y = torch.cat([x, *others], 1)
        elif isinstance(layer, nbbp.Add | nbbp.Multiply):
            y = x
            for other in others:
                y = y + other if isinstance(layer, nbbp.Add) else y * other
        else:
            y = activations[layer.name](x) if isinstance(layer, nbbp.Activation) else x
        values[node.outputs[0]] = y
    return [values[edge] for edge in graph.outputs]


@given(networks())
@settings(max_examples=100, deadline=None)
def test_torch_predicts_the_same_and_back(made):
    pytest.importorskip("torch")
    model, X = made
    graph = model.network.graph
    reshaped = [edge for node in graph.nodes for edge in node.outputs if isinstance(node.layer, nbbp.Reshape)]
    convolutions = [node for node in graph.nodes if isinstance(node.layer, nbbp.Conv1D | nbbp.Conv2D)]
    assume(any(node.inputs[0] not in reshaped for node in convolutions))  # otherwise channels of X may come last
    state = nbbp.exchange.to_torch_state_dict(model)
    with_links = {"softmax": lambda z: z.softmax(1), "linear": lambda z: z}
    outputs = torch_outputs(graph, state, X)
    for edge, z, activation, expected in zip(
        graph.outputs, outputs, walk.output_activations(model), model.predict(X), strict=True
    ):
        if isinstance(edge.node.layer, nbbp.Flatten):
            expected = expected.reshape(-1, *edge.node.inputs[0].shape)
        mine = with_links[activation](z).numpy().reshape(len(X), expected.shape[-1], *expected.shape[1:-1])
        assert_close(np.moveaxis(mine, 1, -1), expected, 1e-5 if model.dtype == "float32" else 1e-12)
    again = nbbp.Model(model.inputs.given, model.outputs.given, "mse", dtype=model.dtype.name, backend="numpy")
    for source in (state, {f"net.{name}": array for name, array in state.items()}):
        again.params[:] = 0
        nbbp.exchange.from_torch(again, source)
        assert np.array_equal(again.params, model.params)
        assert np.array_equal(again.network.state, model.network.state)


def test_torch_weights_of_a_sequential(rng):
    """As a PyTorch user writes it: features behind Flatten, and before Unflatten, have channels first."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.BatchNorm2d(6), nn.MaxPool2d((2, 1)),
        nn.Flatten(), nn.BatchNorm1d(36), nn.Dropout(), nn.Linear(36, 12), nn.Tanh(),
        nn.Unflatten(1, (3, 2, 2)), nn.ConvTranspose2d(3, 2, (3, 2), (2, 1), bias=False),
    )  # fmt: skip
    network(torch.randn(20, 2, 8, 6))  # so that running statistics are no longer the first ones
    network.eval()
    layers = [
        nbbp.Conv2D(6, 3, 2, padding=1, activation="relu", groups=2), nbbp.BatchNorm(), nbbp.MaxPool2D((2, 1)),
        nbbp.Flatten(), nbbp.BatchNorm(), nbbp.Dropout(), nbbp.Dense(12, "tanh"),
        nbbp.Reshape((2, 2, 3)), nbbp.Conv2DTranspose(2, (3, 2), (2, 1), use_bias=False),
    ]  # fmt: skip
    model = nbbp.Sequential(layers, "mse", backend="numpy")
    with pytest.raises(RuntimeError, match=r"model.build\(features\)"):
        nbbp.exchange.from_torch(model, network.state_dict())
    model.build((8, 6, 2))
    nbbp.exchange.from_torch(model, network.state_dict())
    X = rng.standard_normal((5, 8, 6, 2)).astype(np.float32)
    with torch.no_grad():
        z = network(torch.from_numpy(np.moveaxis(X, -1, 1).copy())).numpy()
    assert_close(model.predict(X), np.moveaxis(z, 1, -1), 1e-5)
    state = nbbp.exchange.to_torch_state_dict(model)
    assert state.keys() == network.state_dict().keys()
    assert all(np.array_equal(state[name], array) for name, array in network.state_dict().items() if "num" not in name)


def test_features_that_need_two_orders_in_torch():
    pytest.importorskip("torch")
    x = nbbp.Input((4, 2, 3))
    wide, high = nbbp.Conv2D(3, 1)(x), nbbp.Reshape((2, 2, 6))(x)
    high = nbbp.Conv2D(6, 1)(high)
    added = nbbp.Add()(nbbp.Flatten()(wide), nbbp.Flatten()(high))
    beside = nbbp.Concatenate()(nbbp.Flatten()(wide), nbbp.Flatten()(high))
    turned = nbbp.Conv2D(2, 1)(nbbp.Reshape((2, 2, 6))(nbbp.Flatten()(wide)))
    joined = nbbp.Conv2D(2, 1)(nbbp.Reshape((2, 4, 6))(beside))
    for y, name in ((added, "add_0"), (turned, "reshape_0"), (joined, "concatenate_0")):
        model = nbbp.Model(x, nbbp.Dense(2)(nbbp.Flatten()(y)), backend="numpy")
        with pytest.raises(ValueError, match=rf"{name}: PyTorch, .* no order of features .* 4 x 2 x 3"):
            nbbp.exchange.to_torch_state_dict(model)
    nbbp.exchange.to_torch_state_dict(nbbp.Model(x, nbbp.Dense(2)(beside), backend="numpy"))


def test_a_shared_layer_has_one_order_in_torch(rng):
    pytest.importorskip("torch")
    x, z = nbbp.Input((2, 3, 2)), nbbp.Input(4)
    shared = nbbp.Dense(3)
    first = shared(nbbp.Dense(12)(z))  # as features that come from nowhere else
    y = nbbp.Add()(first, shared(nbbp.Flatten()(nbbp.Conv2D(2, 1)(x))))
    model = filled(nbbp.Model([x, z], y, backend="numpy"), None)
    state = {name: array.numpy() for name, array in nbbp.exchange.to_torch_state_dict(model).items()}
    X, Z = rng.standard_normal((5, 2, 3, 2)).astype(np.float32), rng.standard_normal((5, 4)).astype(np.float32)
    names = {array.shape: name.removesuffix(".weight") for name, array in state.items() if name.endswith("weight")}
    conv, dense, both = names[2, 2, 1, 1], names[12, 4], names[3, 12]
    image = np.einsum("nhwc,fc->nfhw", X, state[f"{conv}.weight"][..., 0, 0]) + state[f"{conv}.bias"][:, None, None]
    features = image.reshape(5, 12) + Z @ state[f"{dense}.weight"].T + state[f"{dense}.bias"]
    expected = features @ state[f"{both}.weight"].T + 2 * state[f"{both}.bias"]
    assert_close(model.predict([X, Z]), expected, 1e-5)


class Plain(nbbp.Layer):
    """One's own, without parameters."""


def test_a_layer_whose_order_in_torch_is_not_known(monkeypatch):
    pytest.importorskip("torch")
    model = nbbp.Sequential([nbbp.Conv2D(3, 1), Plain(), nbbp.Flatten(), Plain(), nbbp.Dense(2)], backend="numpy")
    model.build((2, 3, 2))
    with pytest.raises(ValueError, match=r"plain_0: the order of Plain's features .* is not known; .*KEEP_ORDER"):
        nbbp.exchange.to_torch_state_dict(model)
    monkeypatch.setattr(channels, "KEEP_ORDER", channels.KEEP_ORDER | {Plain})
    weight = nbbp.exchange.to_torch_state_dict(model)["4.weight"].numpy()
    w = model.named_params()["dense_0.w"].reshape(2, 3, 3, 2)
    assert np.array_equal(weight, w.transpose(3, 2, 0, 1).reshape(2, 18))


IMAGE = [
    nbbp.Conv2D(4, (3, 2), 2, "same", "relu", dilation_rate=1, groups=2),
    nbbp.BatchNorm(epsilon=1e-3),
    nbbp.GroupNorm(2),
    nbbp.SpatialDropout(0.2),
    nbbp.Conv2DTranspose(3, (2, 3), (2, 4), "same"),
    nbbp.Conv2DTranspose(2, 2, (3, 1), use_bias=False),
    nbbp.Reshape((-1, 4)),
    nbbp.Conv1D(3, 3, padding="same", dilation_rate=2),
    nbbp.Conv1DTranspose(2, 2, 3),
    nbbp.Flatten(),
    nbbp.Dense(3),
]


def test_keras_weights_of_images(rng):
    model = filled(nbbp.Sequential(IMAGE, backend="numpy"), (7, 5, 2))
    given = [array.copy() for array in model.network.layout.named(model.params, model.network.state).values()]
    again = nbbp.Sequential(IMAGE, backend="numpy")
    with pytest.raises(RuntimeError, match=r"model.build\(features\)"):
        nbbp.exchange.from_keras(again, given)
    again.build((7, 5, 2))
    nbbp.exchange.from_keras(again, given)
    assert np.array_equal(again.params, model.params)
    assert np.array_equal(again.network.state, model.network.state)


def test_keras_predicts_the_same(rng):
    pytest.importorskip("torch")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    K = keras.layers
    network = keras.Sequential([
        keras.Input((7, 5, 2)), K.Conv2D(4, (3, 2), 2, "same", groups=2, activation="relu"), K.BatchNormalization(),
        K.GroupNormalization(2), K.SpatialDropout2D(0.2),
        K.Conv2DTranspose(3, (2, 3), (2, 4), "same"), K.Conv2DTranspose(2, 2, (3, 1), use_bias=False),
        K.Reshape((-1, 4)), K.Conv1D(3, 3, padding="same", dilation_rate=2), K.Conv1DTranspose(2, 2, 3),
        K.Flatten(), K.Dense(3),
    ])  # fmt: skip
    X = rng.standard_normal((4, 7, 5, 2)).astype(np.float32)
    network.compile("sgd", "mse")
    network.fit(X, np.ones((4, 3)), epochs=2, verbose=0)
    model = nbbp.Sequential(IMAGE, backend="numpy")
    model.build((7, 5, 2))
    nbbp.exchange.from_keras(model, network)
    assert_close(model.predict(X), keras.ops.convert_to_numpy(network(X)), 1e-5)


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 2, 6)])
@pytest.mark.parametrize("layer", [nbbp.GroupNorm(3), nbbp.SpatialDropout(0.2)])
def test_any_number_of_positions(layer, shape, tmp_path, rng):
    model = filled(nbbp.Sequential([layer], backend="numpy"), shape)
    X = rng.standard_normal((4, *shape))
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    assert_close(runpy.run_path(str(tmp_path / "network.py"))["predict"](X), model.predict(X), 1e-5)
    assert_close(onnx_session(model, tmp_path / "network.onnx")(X), model.predict(X), 1e-5)


def test_pixels_stay_bytes(tmp_path, rng):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    x = nbbp.Input((8, 7, 3), "uint8", name="X")
    y = nbbp.RandomShift(1, 1)(nbbp.RandomFlip()(nbbp.Rescale(1 / 255)(x)))
    y = nbbp.Flatten()(nbbp.Conv2D(4, 3)(nbbp.RandomCrop(6, 6)(y)))
    model = filled(nbbp.Model(x, y, backend="numpy"), None)
    X = rng.integers(0, 256, (4, 8, 7, 3)).astype(np.uint8)
    nbbp.exchange.to_onnx(model, tmp_path / "network.onnx")
    onnx.checker.check_model(tmp_path / "network.onnx", full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    assert session.get_inputs()[0].type == "tensor(uint8)"
    assert_close(session.run(None, {"X": X})[0], model.predict(X), 1e-5)
    nbbp.exchange.to_numpy_file(model, tmp_path / "network.py")
    assert_close(runpy.run_path(str(tmp_path / "network.py"))["predict"](X), model.predict(X), 1e-5)
