"""Pools, and layers that resize images: against PyTorch, at odd shapes."""

import numpy as np
import pytest

import nbbp

torch = pytest.importorskip("torch")
F = torch.nn.functional

BACKENDS = ["numba", "numpy"]


def channels_first(x):
    return np.moveaxis(x, -1, 1)


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def both(layer, function, X, backend, rng):
    """The outputs of a layer and of a PyTorch function of channels-first tensors, and the gradients of their inputs."""
    x = nbbp.Input(X.shape[1:])
    model = nbbp.Model(x, layer(x), "mse", dtype="float64", backend=backend)
    tensor = torch.tensor(np.ascontiguousarray(channels_first(X)), requires_grad=True)
    out = function(tensor)
    Y = channels_last(out.detach().numpy())
    T = rng.standard_normal(Y.shape)
    ((out - torch.tensor(np.ascontiguousarray(channels_first(T)))) ** 2).mean().backward()
    ours, slopes = model.predict(X), model.input_gradients(X, T)
    return (ours, Y), (slopes, channels_last(tensor.grad.numpy()))


def agree(*arguments):
    for got, expected in both(*arguments):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


def image(rng, *shape):
    """Numbers of which many are equal."""
    return rng.integers(-9, 10, shape) / 4


# the pool's size, strides and padding, and the shape of a sample
POOLS = [
    (2, None, 0, (8, 6, 6)),
    (2, None, 0, (7, 5, 16)),
    (2, None, 0, (2, 2, 1)),
    (1, None, 0, (1, 1, 3)),
    ((2, 3), (3, 4), 0, (9, 11, 17)),
    (3, 2, 1, (7, 8, 5)),
    (3, 1, 1, (5, 4, 33)),
    ((3, 2), (1, 2), (1, 0), (4, 9, 40)),
    (5, 3, 2, (3, 1, 2)),
    ((4, 6), (2, 1), (2, 3), (1, 1, 20)),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("size", "strides", "padding", "shape"), POOLS)
def test_pools_of_images_agree_with_pytorch(size, strides, padding, shape, backend, rng):
    X = image(rng, 3, *shape)
    agree(nbbp.MaxPool2D(size, strides, padding), lambda x: F.max_pool2d(x, size, strides, padding), X, backend, rng)
    mean = nbbp.AveragePool2D(size, strides, padding)
    agree(mean, lambda x: F.avg_pool2d(x, size, strides, padding, count_include_pad=False), X, backend, rng)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("size", "strides", "padding", "shape"),
    [(2, None, 0, (9, 6)), (3, 2, 1, (8, 17)), (4, 1, 2, (1, 3)), (1, 3, 0, (7, 1)), (2, 1, 0, (2, 100))],
)
def test_pools_of_series_agree_with_pytorch(size, strides, padding, shape, backend, rng):
    X = image(rng, 3, *shape)
    agree(nbbp.MaxPool1D(size, strides, padding), lambda x: F.max_pool1d(x, size, strides, padding), X, backend, rng)
    agree(
        nbbp.AveragePool1D(size, strides, padding),
        lambda x: F.avg_pool1d(x, size, strides, padding, count_include_pad=False),
        X, backend, rng,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(7, 8, 3), (1, 5, 16), (2, 2, 6)])
@pytest.mark.parametrize(("size", "strides"), [(2, 2), (3, 2), ((2, 5), (1, 3)), (1, 2)])
def test_same_padding_is_after_rather_than_before(size, strides, shape, rng):
    """PyTorch pads both sides alike: the odd position is added by hand, as one that never wins and never counts."""
    sizes, steps = (np.broadcast_to(n, 2) for n in (size, strides))
    added = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(shape[:2], steps, sizes, strict=True)]
    (top, bottom), (left, right) = ((n // 2, n - n // 2) for n in added)

    def largest(x):
        return F.max_pool2d(F.pad(x, (left, right, top, bottom), value=-np.inf), size, strides)

    def mean(x):
        parts = F.pad(torch.stack([x, torch.ones_like(x)]), (left, right, top, bottom))
        sums, counts = (F.avg_pool2d(part, size, strides) for part in parts)
        return sums / counts

    X = image(rng, 2, *shape)
    agree(nbbp.MaxPool2D(size, strides, "same"), largest, X, "numba", rng)
    agree(nbbp.AveragePool2D(size, strides, "same"), mean, X, "numba", rng)


def test_a_side_may_have_padding_of_its_own(rng):
    X = image(rng, 2, 5, 6, 3)

    def largest(x):
        return F.max_pool2d(F.pad(x, (1, 2, 0, 1), value=-np.inf), 3, 2)

    agree(nbbp.MaxPool2D(3, 2, ((0, 1), (1, 2))), largest, X, "numba", rng)


@pytest.mark.parametrize("backend", BACKENDS)
def test_global_pools_agree_with_pytorch(backend, rng):
    for shape in ((1, 3), (7, 300), (5, 4, 6), (2, 3, 2, 16)):
        X = image(rng, 3, *shape)
        agree(nbbp.GlobalMaxPool(), lambda x: x.flatten(2).max(dim=2).values, X, backend, rng)
        agree(nbbp.GlobalAveragePool(), lambda x: x.flatten(2).mean(dim=2), X, backend, rng)


@pytest.mark.parametrize("backend", BACKENDS)
def test_layers_that_resize_agree_with_pytorch(backend, rng):
    for shape in ((1, 1, 1), (3, 5, 6), (4, 3, 17)):
        X = image(rng, 3, *shape)
        for size in (1, 2, (3, 2)):
            factors = np.broadcast_to(size, 2).tolist()
            agree(nbbp.UpSample2D(size), lambda x, f=factors: F.interpolate(x, scale_factor=f), X, backend, rng)
        for padding in (2, (1, 0), ((0, 3), (2, 1))):
            (top, bottom), (left, right) = nbbp.ZeroPad2D(padding).padding
            sides = left, right, top, bottom
            agree(nbbp.ZeroPad2D(padding), lambda x, sides=sides: F.pad(x, sides), X, backend, rng)
            whole = image(rng, 3, shape[0] + top + bottom, shape[1] + left + right, shape[2])
            opposite = [-n for n in sides]
            agree(nbbp.Crop2D(padding), lambda x, sides=opposite: F.pad(x, sides), whole, backend, rng)


@pytest.mark.parametrize("layer", [nbbp.GlobalMaxPool(), nbbp.GlobalAveragePool()])
@pytest.mark.parametrize("backend", BACKENDS)
def test_masked_positions_do_not_count(layer, backend, rng):
    """Nor do they change a bit: a row alone, without what is masked, has the same results."""
    X, mask = rng.standard_normal((6, 9, 5)) - 3, rng.random((6, 9)) < 0.6
    mask[:, 2] = True
    mask[5] = False
    X[~mask] = np.nan
    x = nbbp.Input((9, 5))
    model = nbbp.Model(x, layer(x), "mse", dtype="float64", backend=backend)
    y = rng.standard_normal((6, 5))
    got, slopes = model.predict(X, mask=mask), model.input_gradients(X, y, mask=mask)
    for k in range(5):
        there = X[k][mask[k]]
        alone = nbbp.Input(there.shape)
        single = nbbp.Model(alone, layer(alone), "mse", dtype="float64", backend=backend)
        np.testing.assert_array_equal(got[k], single.predict(there[np.newaxis])[0])
        own = single.input_gradients(there[np.newaxis], y[[k]])[0] / 6
        np.testing.assert_allclose(slopes[k][mask[k]], own, rtol=1e-14)
    assert not got[5].any()
    assert not slopes[~mask].any()


@pytest.mark.parametrize("name", ["window_maxima", "maximum_over_positions"])
@pytest.mark.parametrize("channels", [3, 40])
def test_nan_is_the_largest_as_in_pytorch(name, channels, rng):
    """Data of a model must be finite, so the kernels are called by themselves."""
    pair = nbbp.kernels.jit.KERNELS[name]
    x = rng.standard_normal((2, 4, 6, channels))
    x[rng.random(x.shape) < 0.2] = np.nan
    x[rng.random(x.shape) < 0.2] = -np.inf
    tensor = torch.tensor(np.ascontiguousarray(channels_first(x)))
    if name == "window_maxima":
        bounds = np.array([[0, 3], [1, 4]]), np.array([[0, 2], [2, 4], [4, 6]])
        expected = channels_last(F.max_pool2d(tensor, (3, 2), (1, 2)).numpy())
    else:
        x, bounds = x.reshape(2, -1, channels), (np.ones((2, 24), bool),)
        expected = tensor.flatten(2).max(dim=2).values.numpy()
    found = [(np.zeros(expected.shape), np.zeros(expected.shape, np.int32)) for _ in range(2)]
    pair.serial(*found[0], x, *bounds)
    pair.reference(*found[1], x, *bounds)
    for y, winner in found:
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(winner, found[0][1])
    assert np.isnan(expected).any()
    assert not np.isnan(expected).all()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nbbp.MaxPool2D(), (4, 4), r"MaxPool2D takes samples \(height, width, channels\), got \(4, 4\)"),
        (nbbp.AveragePool1D(), (4, 4, 1), r"AveragePool1D takes samples \(time, channels\), got \(4, 4, 1\)"),
        (nbbp.MaxPool2D(5), (4, 6, 1), "MaxPool2D: a window of 5 x 5 does not fit into 4 x 6 positions"),
        (nbbp.MaxPool2D(2, 1, (0, 2)), (4, 4, 1), r"MaxPool2D: padding \(2, 2\) must be less than the window's 2"),
        (nbbp.AveragePool1D(3, 1, ((0, 3),)), (4, 2), r"AveragePool1D: padding \(0, 3\) must be less"),
        (nbbp.GlobalMaxPool(), (4,), r"GlobalMaxPool takes samples \(\*positions, channels\), got \(4,\)"),
        (nbbp.GlobalAveragePool(), (4,), "GlobalAveragePool takes samples"),
        (nbbp.UpSample2D(), (4, 4), "UpSample2D takes samples"),
        (nbbp.ZeroPad2D(), (4, 4), "ZeroPad2D takes samples"),
        (nbbp.Crop2D((1, 2)), (3, 4, 1), r"Crop2D: cropping \(\(1, 1\), \(2, 2\)\) leaves nothing of 3 x 4"),
    ],
)  # fmt: skip
def test_samples_that_do_not_fit(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(nbbp.Input(shape))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nbbp.MaxPool2D(0), ValueError, "MaxPool2D: pool_size must be 1 or more, got 0"),
        (lambda: nbbp.MaxPool1D((2, 2)), ValueError, "MaxPool1D: pool_size must be an integer, or 1 of them"),
        (lambda: nbbp.MaxPool2D(2, 0.5), TypeError, "MaxPool2D: strides must be an integer, got 0.5"),
        (lambda: nbbp.AveragePool2D(2, padding="full"), ValueError, "AveragePool2D: padding 'full'"),
        (lambda: nbbp.UpSample2D(1.5), TypeError, "UpSample2D: size must be an integer, got 1.5"),
        (lambda: nbbp.ZeroPad2D("same"), ValueError, "ZeroPad2D: padding must be a number, or one for each of 2 axes"),
        (lambda: nbbp.Crop2D(-1), ValueError, "Crop2D: cropping must be 0 or more, got -1"),
        (lambda: nbbp.Crop2D((1, 2, 3)), ValueError, "Crop2D: cropping must be a number, or one for each of 2 axes"),
    ],
)
def test_settings_that_cannot_be(make, error, message):
    with pytest.raises(error, match=message):
        make()
