"""The pinball loss: several quantiles of one target, each an output."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.kernels.arguments import positive
from nbbp.kernels.denormals import flushed
from nbbp.kernels.jit import kernel
from nbbp.kernels.vector_math import ONE, ZERO
from nbbp.losses.base import LOSSES, Loss


def pinball_reference(row_loss, dz, z, target, scale, quantiles):
    error = target - z  # (b, q)
    row_loss[:] = np.where(error > 0, quantiles * error, (quantiles - 1) * error).mean(axis=1)
    slope = np.where(error > 0, -quantiles, np.where(error < 0, 1 - quantiles, 0))
    dz[:] = slope * scale[:, None] / z.shape[1]


@kernel(pinball_reference, "(b) (b,q) (b,q) (b,1) (b) (q)", cycles=2.0, values={"quantiles": positive})
def pinball_dense(row_loss, dz, z, target, scale, quantiles):
    """The mean over j of max(q_j (t - z_j), (q_j - 1) (t - z_j))."""
    for i in prange(z.shape[0]):
        z_row, d_row, t, total = z[i], dz[i], target[i, 0], ZERO(scale[i])
        share = ONE(total) / type(total)(z_row.shape[0])
        step = scale[i] * share
        for j in range(z_row.shape[0]):
            error, q = t - z_row[j], quantiles[j]
            below, above = -q, ONE(q) - q  # slopes where the output lies below and above the target
            total -= (below if error > ZERO(error) else above) * error
            slope = below if error > ZERO(error) else (above if error < ZERO(error) else ZERO(error))
            d_row[j] = flushed(step * slope)
        row_loss[i] = total * share


LOSSES["pinball"] = pinball = Loss(
    "pinball",
    'max(q (t - z), (q - 1) (t - z)), whose minimum is the quantile q of t (Koenker and Bassett 1978, "Regression '
    "quantiles\"): mean over batch and quantiles, as scikit-learn's mean_pinball_loss. Each output is a quantile of "
    "the same target, 0.1, 0.5 and 0.9 by default; `nbbp.losses.Pinball` takes others. PyTorch and Keras have none.",
    pinball_dense,
    target_columns=lambda outputs: 1,
    numbers=(0.1, 0.5, 0.9),
    number_per_output=True,
)


def Pinball(quantiles: Sequence[float] = pinball.numbers) -> Loss:
    """The loss `pinball` for some quantiles of each target.

    Koenker and Bassett, "Regression quantiles", Econometrica 46, 1978.

    Parameters
    ----------
    quantiles : sequence of float
        In (0, 1), increasing. The model has an output for each: (rows, quantiles) for y (rows,), or (rows, future,
        quantiles) for y (rows, future), which a last layer ``Reshape((future, len(quantiles)))`` gives.

    Examples
    --------
    >>> import nbbp, numpy as np
    >>> X = np.zeros((1000, 1))
    >>> y = np.random.default_rng(0).normal(size=1000)
    >>> model = nbbp.Sequential([nbbp.Dense(2)], nbbp.losses.Pinball((0.25, 0.75)), nbbp.SGD(0.1), dtype="float64")
    >>> history = model.fit(X, y, epochs=100, verbose=0)
    >>> np.allclose(model.predict(X[:1]), np.quantile(y, [0.25, 0.75]), atol=0.05)
    True
    """
    return dataclasses.replace(pinball, numbers=checks.quantiles(quantiles))
