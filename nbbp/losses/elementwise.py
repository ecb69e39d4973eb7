"""Losses that average or sum a function of output and target over a row's outputs."""

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.activations import ACTIVATIONS, ROWS
from nbbp.kernels import vector_math as vm
from nbbp.kernels.arguments import positive
from nbbp.kernels.denormals import flushed
from nbbp.kernels.jit import KERNELS, device, kernel
from nbbp.kernels.pointers import at
from nbbp.kernels.vector_math import HALF, ONE, TWO, ZERO
from nbbp.losses.base import DENSE, LOSSES, Loss


def value(z, t):
    """The loss of one output; each kernel made from the template below has its own."""


def slope(z, t):
    """The derivative of `value` with respect to z."""


def share(c, like):
    """1/c if a row's loss is the mean over its c outputs, 1 if it is their sum."""


def _map_loss(row_loss, dz, z, target, scale):
    rows, c = z.shape
    factor = share(c, scale[0])
    for p in prange((rows + ROWS - 1) // ROWS):
        begin = p * ROWS
        count, losses, scales = min(ROWS, rows - begin), at(row_loss, begin), at(scale, begin)
        d_rows, z_rows, t_rows = at(dz, begin * c), at(z, begin * c), at(target, begin * c)
        if c == 1:  # rows fill the vectors
            for i in range(count):
                d_rows[i] = flushed(scales[i] * slope(z_rows[i], t_rows[i]))
                losses[i] = ZERO(scales[i]) + value(z_rows[i], t_rows[i])
        else:
            for i in range(count):
                z_row, t_row, d_row, total = at(z_rows, i * c), at(t_rows, i * c), at(d_rows, i * c), ZERO(scales[i])
                step = scales[i] * factor
                for j in range(c):
                    d_row[j] = flushed(step * slope(z_row[j], t_row[j]))
                for j in range(c):
                    total += value(z_row[j], t_row[j])
                losses[i] = total * factor


@device
def _mean_share(c, like):
    return ONE(like) / type(like)(c)


@device
def _sum_share(c, like):
    return ONE(like)


def elementwise(
    name, value, slope, numpy_value, numpy_slope, *, mean_over_outputs=True, cycles=2.0, description,
    from_probabilities=False, **more,
) -> Loss:  # fmt: skip
    """Enter a loss that is a mean or a sum over outputs."""

    def reference(row_loss, dz, z, target, scale):
        share = 1 / z.shape[1] if mean_over_outputs else 1
        row_loss[:] = numpy_value(z, target).sum(axis=1) * share
        dz[:] = numpy_slope(z, target) * scale[:, None] * share

    dense = kernel(
        reference,
        DENSE,
        cycles=cycles,
        values={"z": positive, "target": positive} if from_probabilities else {},
        name=name,
        value=device(value, inline=True),
        slope=device(slope, inline=True),
        share=_mean_share if mean_over_outputs else _sum_share,
    )(_map_loss)
    LOSSES[name] = Loss(name, description, dense, from_probabilities=from_probabilities, **more)
    return LOSSES[name]


def define(
    name, value, slope, numpy_value, numpy_slope, description, *, mean_over_outputs=True, link="linear",
    valid_targets=(-np.inf, np.inf), cycles=4.0,
) -> Loss:  # fmt: skip
    """Enter a loss of your own, the mean or the sum over outputs of a function of output and target.

    Parameters
    ----------
    name : str
        The name by which models refer to it.
    value, slope : callable
        Functions of two numbers, output z and target t, that Numba compiles: the loss, and its derivative in z.
    numpy_value, numpy_slope : callable
        The same for arrays, in NumPy.
    description : str
        The equation, and which mean is taken.
    mean_over_outputs : bool
        Whether a row's loss is the mean over its outputs, not the sum.
    link : str
        The output activation, which turns outputs into predictions.
    valid_targets : tuple of float
        The smallest and the largest valid target.
    cycles : float
        Approximate cost of one output, in processor cycles.

    Raises
    ------
    TwinError
        If the two forms differ.
    ValueError
        If the slope is not the derivative of the value, `link` is not an activation, or the name is taken.
    """
    checks.unused("loss", name, LOSSES)
    checks.choose("link", link, ACTIVATIONS)
    loss = elementwise(
        name, value, slope, numpy_value, numpy_slope, mean_over_outputs=mean_over_outputs, cycles=cycles,
        description=description, link=link, valid_targets=valid_targets,
    )  # fmt: skip
    try:
        table = np.zeros((300, 3))
        loss.dense.check(np.zeros(300), table, table, table, np.zeros(300))
        _check_slope(loss, numpy_value, numpy_slope)
    except Exception:
        del LOSSES[name], KERNELS[name]
        raise
    return loss


def _check_slope(loss: Loss, numpy_value, numpy_slope) -> None:
    rng, step = np.random.default_rng(0), 1e-6
    z, low, high = rng.standard_normal(1000), *loss.valid_targets
    t = np.clip(rng.standard_normal(1000), low, high)
    slope, change = numpy_slope(z, t), (numpy_value(z + step, t) - numpy_value(z - step, t)) / (2 * step)
    wrong = ~np.isclose(slope, change, rtol=1e-4, atol=1e-5)
    if wrong.mean() > 0.05:  # a kink may lie between
        at = int(np.argmax(wrong))
        raise ValueError(
            f"loss {loss.name}: at z = {z[at]:.4f}, t = {t[at]:.4f} the slope is {slope[at]:.6g}, "
            f"central differences of the value say {change[at]:.6g}"
        )


mse = elementwise(
    "mse",
    lambda z, t: (z - t) * (z - t),
    lambda z, t: TWO(z) * (z - t),
    lambda z, t: (z - t) ** 2,
    lambda z, t: 2 * (z - t),
    cycles=1.0,
    description="1/(b c) sum (z - t)^2: mean over batch and outputs, as PyTorch's MSELoss and Keras's mse.",
)

half_mse = elementwise(
    "half_mse",
    lambda z, t: HALF(z) * (z - t) * (z - t),
    lambda z, t: z - t,
    lambda z, t: 0.5 * (z - t) ** 2,
    lambda z, t: z - t,
    mean_over_outputs=False,
    cycles=1.0,
    description="1/(2 b) sum (z - t)^2: mean over the batch, sum over outputs, the quadratic cost of textbooks "
    "(Nielsen 2015, eq. 6). PyTorch and Keras have none; it is c/2 times their mse.",
)

mae = elementwise(
    "mae",
    lambda z, t: abs(z - t),
    lambda z, t: ZERO(z) if z == t else (ONE(z) if z > t else -ONE(z)),
    lambda z, t: np.abs(z - t),
    lambda z, t: np.sign(z - t),
    cycles=1.0,
    description="1/(b c) sum |z - t|: mean over batch and outputs, as PyTorch's L1Loss and Keras's mae.",
)

huber = elementwise(
    "huber",
    lambda z, t: HALF(z) * (z - t) * (z - t) if abs(z - t) < ONE(z) else abs(z - t) - HALF(z),
    lambda z, t: ONE(z) if z - t > ONE(z) else (-ONE(z) if z - t < -ONE(z) else z - t),
    lambda z, t: np.where(np.abs(z - t) < 1, 0.5 * (z - t) ** 2, np.abs(z - t) - 0.5),
    lambda z, t: np.clip(z - t, -1, 1),
    cycles=1.0,
    description="(z - t)^2 / 2 within 1 of the target, |z - t| - 1/2 beyond (Huber 1964): mean over batch and outputs, "
    "as PyTorch's HuberLoss and Keras's Huber with delta 1.",
)

binary_cross_entropy = elementwise(
    "binary_cross_entropy",
    lambda z, t: vm.softplus(-abs(z)) + ((z if z > ZERO(z) else ZERO(z)) - t * z),
    lambda z, t: vm.sigmoid(z) - t,
    lambda z, t: (np.maximum(z, 0) - t * z) + np.log1p(np.exp(-np.abs(z))),
    lambda z, t: 0.5 * (1 + np.tanh(0.5 * z)) - t,
    cycles=6.0,
    link="sigmoid",
    valid_targets=(0.0, 1.0),
    description="-(t log p + (1 - t) log(1 - p)) with p = sigmoid(z), from logits: mean over batch and outputs, as "
    "PyTorch's BCEWithLogitsLoss and Keras's BinaryCrossentropy(from_logits=True); Keras's default takes p.",
)

poisson = elementwise(
    "poisson",
    lambda z, t: vm.exp(z) - t * z,
    lambda z, t: vm.exp(z) - t,
    lambda z, t: np.exp(z) - t * z,
    lambda z, t: np.exp(z) - t,
    cycles=4.0,
    link="exponential",
    valid_targets=(0.0, np.inf),
    description="exp(z) - t z, from the log of the rate: mean over batch and outputs, as PyTorch's PoissonNLLLoss; "
    "Keras's Poisson takes the rate itself. log(t!) is left out, as in both.",
)
