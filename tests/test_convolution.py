"""Convolutions against PyTorch: at odd shapes, strides, paddings, dilations and groups; their windows; their errors."""

import tracemalloc

import numpy as np
import pytest

import nbbp
from nbbp.kernels.arrays import while_used
from nbbp.layers.convolution import Convolution
from nbbp.layers.windows import over

torch = pytest.importorskip("torch")

KINDS = [nbbp.Conv1D, nbbp.Conv2D, nbbp.Conv1DTranspose, nbbp.Conv2DTranspose]


def drawn(kind: type[Convolution], rng: np.random.Generator) -> tuple[Convolution, tuple[int, ...]]:
    """A layer with random settings, and a shape of samples that it takes."""
    while True:
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        channels, filters = groups * int(rng.integers(1, 5)), groups * int(rng.integers(1, 20))
        if rng.random() < 0.2:  # depthwise
            groups = filters = channels = int(rng.integers(2, 70))
        size, strides, dilation = (tuple(int(n) for n in rng.integers(1, m, kind.axes)) for m in (8, 4, 3))
        numbers = tuple(tuple(int(n) for n in rng.integers(0, 4, 2)) for _ in range(kind.axes))
        padding = ("valid", "same", int(rng.integers(0, 4)), numbers)[rng.integers(4)]
        layer = kind(filters, size, strides, padding, dilation_rate=dilation, groups=groups)
        shape = (*(int(n) for n in rng.integers(1, 20, kind.axes)), channels)
        try:
            layer.windows(shape)
        except ValueError:
            continue
        return layer, shape


def first(array: np.ndarray):
    """A batch with features last as a tensor with channels first."""
    return torch.tensor(np.moveaxis(array, -1, 1).copy(), requires_grad=True)


def in_torch(layer: Convolution, shape, x, w, b):
    """The same layer in PyTorch, for channels first and its order of weights."""
    windows, axes = layer.windows(shape), layer.axes
    settings = {"stride": windows.strides, "dilation": windows.dilation, "groups": layer.groups}
    sides = [n for pair in reversed(windows.padding) for n in pair]
    functional = torch.nn.functional
    if not isinstance(layer, nbbp.Conv1DTranspose | nbbp.Conv2DTranspose):
        return getattr(functional, f"conv{axes}d")(functional.pad(x, sides), w, b, **settings)
    extra = [
        n - ((m - 1) * s + r - a - c)
        for n, m, s, r, (a, c) in zip(
            windows.lengths, windows.outputs, windows.strides, windows.reach, windows.padding, strict=True
        )
    ]
    # PyTorch pads both sides alike: the output is cut from an unpadded one
    whole = getattr(functional, f"conv_transpose{axes}d")(x, w, None, **settings)
    whole = functional.pad(whole, [n for e in reversed(extra) for n in (0, max(e, 0))])
    for axis, (n, (a, _)) in enumerate(zip(windows.lengths, windows.padding, strict=True)):
        whole = whole.narrow(2 + axis, a, n)
    return whole + b.reshape(1, -1, *[1] * axes)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_pytorch(kind, backend, rng):
    for _ in range(25):
        layer, shape = drawn(kind, rng)
        x = nbbp.Input(shape)
        model = nbbp.Model(x, layer(x), loss="mse", dtype="float64", backend=backend)
        rows = int(rng.integers(1, 12))
        X = rng.standard_normal((rows, *shape))
        step = model.step(rows)
        z = step.forward(X).copy()
        dz = rng.standard_normal(z.shape)
        dx = step.backward(dz.copy())
        name = next(iter(model.network.graph.names.values()))
        own = model.network.layout.named(model.params)
        axes = layer.axes
        w = own[f"{name}.w"]  # (*kernel, inner, outer): PyTorch's is (outer, inner, *kernel)
        tw = torch.tensor(np.moveaxis(w, [axes, axes + 1], [1, 0]).copy(), requires_grad=True)
        tb, tx = torch.tensor(own[f"{name}.b"].copy(), requires_grad=True), first(X)
        expected = in_torch(layer, shape, tx, tw, tb)
        expected.backward(first(dz).detach())
        found = (
            (z, np.moveaxis(expected.detach().numpy(), 1, -1)),
            (dx, np.moveaxis(tx.grad.numpy(), 1, -1)),
            (model.network.named_grads[f"{name}.w"], np.moveaxis(tw.grad.numpy(), [1, 0], [axes, axes + 1])),
            (model.network.named_grads[f"{name}.b"], tb.grad.numpy()),
        )
        for got, right in found:
            np.testing.assert_allclose(got, right, rtol=1e-10, atol=1e-10, err_msg=f"{layer} on {rows} x {shape}")


def test_each_backward_pass_pads_for_itself(rng):
    """Windows fill the vectors forward, so that the weights' gradient alone reads the padded input."""
    x = nbbp.Input((6, 6, 2))
    model = nbbp.Model(x, nbbp.Conv2D(3, 3, padding="same")(x), loss="mse", dtype="float64")
    step = model.step(2)
    X, dz = rng.standard_normal((2, 2, 6, 6, 2)), rng.standard_normal((2, 6, 6, 3))
    found = []
    for samples in X:
        step.forward(samples)
        step.backward(dz.copy())
        found.append(model.grads.copy())
    step.forward(X[0])
    step.backward(dz.copy())
    step.forward(X[1])
    step.backward(dz.copy(), add=True)
    np.testing.assert_allclose(model.grads, found[0] + found[1], rtol=1e-12)


@pytest.mark.parametrize(("length", "size", "stride"), [(28, 5, 1), (28, 5, 2), (7, 2, 2), (10, 3, 4), (1, 4, 3)])
def test_same_pads_the_odd_position_at_the_end(length, size, stride):
    windows = over("MaxPool1D", (length, 1), size, stride, "same", axes=1)
    ((before, after),) = windows.padding
    assert windows.outputs == (-(-length // stride),)
    assert 0 <= after - before <= 1


def test_threads_do_not_change_bits(rng):
    """Enough work that threads share it, with one mini-batch that is not a multiple of anything."""
    X, y = rng.standard_normal((70, 13, 11, 5)), rng.integers(0, 3, 70)

    def fitted(threads):
        layers = [nbbp.Conv2D(37, 3, 2, "same", "relu"), nbbp.Conv2D(50, (2, 4)), nbbp.Flatten(), nbbp.Dense(3)]
        model = nbbp.Sequential([*layers], loss="softmax_cross_entropy", seed=3)
        losses = model.fit(X, y, epochs=2, batch_size=33, verbose=0).step_loss
        return losses.tobytes() + model.params.tobytes()

    numba = pytest.importorskip("numba")
    every = numba.get_num_threads()
    runs = []
    try:
        for threads in (1, every):
            numba.set_num_threads(threads)
            runs.append(fitted(threads))
    finally:
        numba.set_num_threads(every)
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            nbbp.Conv2D(4, 3),
            (28, 28),
            r"Conv2D takes samples \(height, width, channels\), got .*\(28, 28, 1\)\)",
        ),
        (nbbp.Conv2D(4, 5), (4, 28, 1), r"Conv2D: a window of 5 x 5 does not fit into 4 x 28 positions"),
        (nbbp.Conv1D(4, 3, dilation_rate=4), (8, 1), "a window of 9 does not fit into 8 positions"),
        (nbbp.Conv2D(4, 3, groups=2), (8, 8, 3), "2 groups do not divide 3 channels"),
        (nbbp.Conv2D(3, 3, groups=2), (8, 8, 4), "2 groups do not divide 3 filters"),
        (nbbp.Conv2DTranspose(3, 1, padding=2), (4, 4, 1), "leaves nothing of the output"),
    ],
)
def test_shapes_that_do_not_fit_are_named(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(nbbp.Input(shape))


def test_shapes_that_do_not_fit_are_shown_layer_by_layer():
    layers = [nbbp.Conv2D(4, 5), nbbp.Conv2D(6, 5, 2), nbbp.Conv2D(8, 5)]
    model = nbbp.Sequential(layers, loss="mse")
    with pytest.raises(
        ValueError, match=r"(?s)5 x 5 does not fit into 3 x 3.*\nlayer by layer: Input \(14, 14, 1\), "
    ) as error:
        model.build((14, 14, 1))
    assert str(error.value).endswith("Conv2D (10, 10, 4), Conv2D (3, 3, 6)")


def test_summary_states_the_memory_of_a_row():
    """Twice as large an image needs about four times as much."""
    sizes = []
    for side in (32, 64):
        x = nbbp.Input((side, side, 3))
        model = nbbp.Model(x, nbbp.Conv2D(16, 3, padding="same", activation="relu")(x), loss="mse")
        sizes.append(model.network.bytes_a_row())
    assert 3.5 < sizes[1] / sizes[0] < 4.2
    assert sizes[0] >= 4 * 32 * 32 * (3 + 16 + 16)


def test_the_summary_of_a_large_network_needs_little_memory():
    model = nbbp.Sequential([nbbp.Dense(64)] * 100)
    model.build((1024, 64))
    tracemalloc.start()
    row = model.network.bytes_a_row()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert row >= 2 * 4 * 100 * 1024 * 64
    assert most < 2**30


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_size": 0}, "kernel_size must be 1 or more"),
        ({"kernel_size": (3, 3, 3)}, "must be an integer, or 2 of them"),
        ({"kernel_size": 3, "padding": "full"}, "unknown Conv2D: padding 'full'"),
        ({"kernel_size": 3, "padding": -1}, "padding must be 0 or more"),
        ({"kernel_size": 3, "strides": 1.5}, "strides must be an integer"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        nbbp.Conv2D(4, **settings)


@pytest.mark.parametrize(
    "layer",
    [
        nbbp.Conv1D(3, 3, padding="same"), nbbp.Conv1DTranspose(3, 2, 2), nbbp.MaxPool1D(2), nbbp.AveragePool1D(2),
        nbbp.Conv2D(3, 3), nbbp.Conv2DTranspose(3, 3), nbbp.MaxPool2D(2), nbbp.AveragePool2D(2), nbbp.UpSample2D(2),
        nbbp.ZeroPad2D(1), nbbp.Crop2D(1),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_masks_are_refused(layer, rng):
    """Their windows would read masked positions, and what reads their outputs would not know which are masked."""
    positions = (6,) * getattr(layer, "axes", 2)
    X, y, mask = rng.standard_normal((4, *positions, 2)), rng.integers(0, 3, 4), rng.random((4, *positions)) < 0.5
    model = nbbp.Sequential([layer, nbbp.GlobalAveragePool(), nbbp.Dense(3)], "softmax_cross_entropy")
    with pytest.raises(ValueError, match=f"_0: {type(layer).__name__} takes no mask"):
        model.fit(X, y, mask=mask, verbose=0)


def test_offsets_are_shared_while_they_are_used():
    made = []

    @while_used
    def numbers(n):
        made.append(n)
        return np.arange(n), np.ones(n)

    first = numbers(3)
    assert all(a is b for a, b in zip(first, numbers(3), strict=True))
    del first
    numbers(4)
    numbers(3)
    assert made == [3, 4, 3]
