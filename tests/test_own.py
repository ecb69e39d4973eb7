"""Activations, losses and layers of one's own, through the same door as the built-in ones."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from numba import prange

import nbbp
from nbbp.kernels.vector_math import ONE


def softsign(**changed):
    functions = {
        "value": lambda x: x / (ONE(x) + abs(x)),
        "derivative": lambda y: (ONE(y) - abs(y)) * (ONE(y) - abs(y)),
        "numpy_value": lambda x: x / (1 + np.abs(x)),
        "numpy_derivative": lambda y: (1 - np.abs(y)) ** 2,
    }
    return nbbp.activations.define("softsign", **functions | changed)


@pytest.mark.usefixtures("forgotten")
def test_an_activation_of_ones_own(rng):
    softsign()
    model = nbbp.Sequential([nbbp.Dense(4, activation="softsign"), nbbp.Dense(2)], dtype="float64")
    X, y = rng.standard_normal((9, 3)), rng.standard_normal((9, 2))
    assert max(nbbp.check_gradients(model, X, y).values()) < 1e-6
    losses = [m.fit(X, y, epochs=3, batch_size=4, verbose=0).step_loss for m in (model.with_backend("numpy"), model)]
    np.testing.assert_allclose(*losses, rtol=1e-12)


@pytest.mark.usefixtures("forgotten")
def test_twins_that_disagree_are_refused_and_may_be_mended():
    with pytest.raises(nbbp.TwinError, match=r"kernel softsign_forward: argument 0 at \(0,\) is .* compiled and"):
        softsign(numpy_value=lambda x: x / (2 + np.abs(x)))
    with pytest.raises(ValueError, match=r"activation softsign: at x = .* the derivative is"):
        softsign(derivative=lambda y: ONE(y) - abs(y), numpy_derivative=lambda y: 1 - np.abs(y))
    with pytest.raises(AttributeError):
        softsign(numpy_value=lambda x: np.no_such_function(x))
    softsign()


@pytest.mark.usefixtures("forgotten")
def test_a_loss_of_ones_own(rng):
    nbbp.losses.define(
        "fourth_power",
        lambda z, t: (z - t) * (z - t) * (z - t) * (z - t),
        lambda z, t: (z - t) * (z - t) * (z - t) * (ONE(z) + ONE(z) + ONE(z) + ONE(z)),
        lambda z, t: (z - t) ** 4,
        lambda z, t: 4 * (z - t) ** 3,
        "1/(b c) sum (z - t)^4",
    )
    X, y = rng.standard_normal((9, 3)), rng.standard_normal((9, 2))
    model = nbbp.Sequential([nbbp.Dense(2)], "fourth_power", dtype="float64")
    assert max(nbbp.check_gradients(model, X, y).values()) < 1e-6
    assert model.evaluate(X, y)["loss"] == pytest.approx(np.mean((model.predict(X) - y) ** 4), rel=1e-12)
    with pytest.raises(ValueError, match=r"loss fifth: at z = .* the slope is"):
        nbbp.losses.define("fifth", lambda z, t: z - t, lambda z, t: z, lambda z, t: z - t, lambda z, t: z, "")
    assert "fifth" not in nbbp.LOSSES


def double_reference(y, x):
    np.multiply(x, 2, out=y)


def double(y, x):
    for i in prange(x.shape[0]):
        y[i] = x[i] + x[i]


def triple(y, x):
    for i in prange(x.shape[0]):
        y[i] = x[i] + x[i] + x[i]


def layer_of(kernel) -> nbbp.Layer:
    @dataclasses.dataclass(frozen=True)
    class Double(nbbp.Layer):
        reads = ()

        def forward(self, b):
            b.call(kernel, b.y.reshape(-1), b.x.reshape(-1))

        def backward(self, b):
            b.call(kernel, b.dx.reshape(-1), b.dy.reshape(-1))

    return Double()


@pytest.mark.usefixtures("forgotten")
def test_a_layer_of_ones_own(rng):
    layer = layer_of(nbbp.kernel(double_reference, "(n) (n)")(double))
    X, y = rng.standard_normal((9, 3)), rng.standard_normal((9, 2))
    model = nbbp.Sequential([nbbp.Dense(3), layer, nbbp.Dense(2)], dtype="float64")
    assert max(nbbp.check_gradients(model, X, y).values()) < 1e-6
    wrong = nbbp.Sequential([layer_of(nbbp.kernel(double_reference, "(n) (n)", name="triple")(triple))])
    with pytest.raises(nbbp.TwinError, match="kernel triple: argument 0"):
        wrong.predict(X)


SCRIPT = """
import nbbp, numpy as np
from nbbp.kernels.vector_math import ONE
FACTOR = {factor}
nbbp.activations.define("scaled", lambda x: x * FACTOR, lambda y: ONE(y) * FACTOR, lambda x: x * FACTOR,
                        lambda y: FACTOR)
print(nbbp.Sequential([nbbp.Activation("scaled")]).predict(np.ones((1, 2)))[0].tolist())
"""


@pytest.mark.slow
def test_a_changed_function_never_runs_old_machine_code(tmp_path):
    for factor in (2.0, 3.0):
        script = SCRIPT.format(factor=factor)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
        assert done.stdout.strip() == f"[{factor}, {factor}]", done.stderr


def test_a_layer_that_computes_instead_of_binding_is_an_error():
    class Doubled(nbbp.Layer):
        def forward(self, b):
            b.y[:] = 2 * b.x

    with pytest.raises(TypeError, match=r"doubled_0: forward computed y itself, or not at all"):
        nbbp.Sequential([Doubled()]).predict(np.ones((2, 3)))
