"""Numbers at the edge: large logits, and sums over ten million rows in float32."""

import numpy as np
import pytest

import nbbp
from nbbp import LOSSES
from nbbp.engine.program import Program
from nbbp.engine.runner import Runner
from nbbp.kernels.jit import KERNELS

ROWS = 10_000_000
LOGITS = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 9999], [1e4, 1e4, 1e4], [-1e4, -1e4, -9999.5], [9998.5, 1e4, 9999]])
DTYPES = {"float32": 1e-6, "float64": 1e-13}


def run(loss: str, z: np.ndarray, target: np.ndarray, backend: str) -> tuple[np.ndarray, np.ndarray]:
    """Loss of each row, and its gradient."""
    program = Program(backend, z.dtype, len(z))
    row_loss, dz = program.buffer(len(z)), program.buffer(*z.shape)
    LOSSES[loss].bind(program, row_loss, dz, z, target, np.ones(len(z), z.dtype))
    Runner(program).once()
    return row_loss, dz


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["labels", "distributions"])
def test_softmax_of_large_logits(form, dtype, backend):
    z, labels = LOGITS.astype(dtype), np.array([1, 2, 0, 2, 0])
    t = np.eye(3)[labels] if form == "labels" else np.full(LOGITS.shape, [0.5, 0.25, 0.25])
    shifted = np.longdouble(z) - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    target = labels[:, np.newaxis] if form == "labels" else t.astype(dtype)
    row_loss, dz = run("softmax_cross_entropy", z, target, backend)
    np.testing.assert_allclose(row_loss, -np.sum(t * log_p, axis=1), rtol=DTYPES[dtype])
    np.testing.assert_allclose(dz, np.exp(log_p) - t, rtol=0, atol=DTYPES[dtype])
    model = nbbp.Sequential([nbbp.Activation("softmax")], "cross_entropy", dtype=dtype, backend=backend)
    np.testing.assert_allclose(model.predict(z), np.exp(log_p), rtol=0, atol=DTYPES[dtype])


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_of_large_logits(dtype, backend):
    z, t = (np.array(v, dtype) for v in ([[1e4, -1e4, 12, -12, 1e4, -1e4]], [[1, 0, 1, 0, 0, 1]]))
    each = [0, 0, np.log1p(np.exp(-12.0)), np.log1p(np.exp(-12.0)), 1e4, 1e4]
    for j, expected in enumerate(each):
        row_loss, dz = run("binary_cross_entropy", z[:, j : j + 1].copy(), t[:, j : j + 1].copy(), backend)
        assert row_loss[0] == pytest.approx(expected, rel=DTYPES[dtype], abs=0)
        assert dz[0, 0] == pytest.approx((1 if z[0, j] > 0 else 0) - t[0, j], abs=1e-5)


@pytest.fixture(scope="module")
def column():
    """Ten million positive numbers: added one after another in float32, a third of their sum would be lost."""
    return np.random.default_rng(0).random((ROWS, 1), dtype=np.float32) + np.float32(0.1)


@pytest.mark.parametrize("name", ["column_sums", "product_of_transposed"])
def test_sums_of_many_rows(name, column):
    sums, constant = np.zeros(1, np.float32), np.full_like(column, 0.1)
    for x in (column, constant):
        product = [np.zeros((1, 1), np.float32)] if name == "product_of_transposed" else []
        arguments = [*product, sums, *([x] if product else []), x]
        for function in (KERNELS[name].reference, KERNELS[name].parallel):
            function(*arguments)
            assert sums[0] == pytest.approx(x.sum(dtype=np.float64), rel=1e-5)
        for c in product:  # compiled; the reference's is as good as BLAS
            assert c[0, 0] == pytest.approx(np.square(x, dtype=np.float64).sum(), rel=1e-5)


def test_products_of_many_rows_have_every_element(rng):
    a, b = rng.standard_normal((2500, 21)), rng.standard_normal((2500, 77))
    for dtype, bound in ((np.float32, 1e-3), (np.float64, 1e-11)):
        c, sums = np.full((21, 77), np.nan, dtype), np.full(77, np.nan, dtype)
        KERNELS["product_of_transposed"].serial(c, sums, a.astype(dtype), b.astype(dtype))
        np.testing.assert_allclose(c, a.T @ b, rtol=0, atol=bound)
        np.testing.assert_allclose(sums, b.sum(axis=0), rtol=0, atol=bound)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_batch_normalization_of_many_rows(column, backend):
    model = nbbp.Sequential([nbbp.BatchNorm(momentum=0.0)], backend=backend)
    model.build(1)
    Y = column - np.float32(5)
    program = Program(backend, "float32", ROWS)
    y = model.network.forward(program, [column]).outputs[0].array
    Runner(program).once()
    mean, variance = column.mean(dtype=np.float64), column.var(dtype=np.float64)
    np.testing.assert_allclose(model.network.state, [mean, variance], rtol=1e-5)
    gradients = model.gradients(column, Y)
    expected = 2 / ROWS * (y - Y).sum(dtype=np.float64), 2 / ROWS * np.vdot((y - Y).astype(float), y.astype(float))
    assert gradients["batchnorm_0.beta"][0] == pytest.approx(expected[0], rel=1e-5)
    assert gradients["batchnorm_0.gamma"][0] == pytest.approx(expected[1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_measured_over_many_rows(column, backend):
    model = nbbp.Sequential([nbbp.Activation("linear")], "mse", metrics=["mse", "mae"], backend=backend)
    y = np.zeros_like(column)
    values = model.evaluate(column, y)
    assert values["loss"] == pytest.approx(np.mean(np.square(column, dtype=np.float64)), rel=1e-5)
    assert values["mse"] == pytest.approx(values["loss"], rel=1e-5)
    assert values["mae"] == pytest.approx(np.mean(column, dtype=np.float64), rel=1e-5)
