"""Loss functions: value and gradient in one kernel, compiled and in NumPy.

For a mini-batch of b rows with c outputs each, a loss kernel writes

    row_loss (b)      the loss of each row
    dz (b, c)         scale[i] times the gradient of row i's loss with respect to its outputs z

and the mini-batch's loss is sum_i scale[i] row_loss[i], with scale 1/b: **the mean over the batch**. Whether a row's
loss is a mean or a sum over its c outputs differs from loss to loss and is said in each one's description.

To add one that works output by output, write its value and slope as scalar functions and enter them below with their
NumPy twins.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.activations import ACTIVATIONS, ROWS, exp_of_rows, row_max, row_sum
from nbbp.engine.program import Program
from nbbp.kernels import vector_math as vm
from nbbp.kernels.jit import KERNELS, Kernel, device, kernel
from nbbp.kernels.vector_math import HALF, ONE, TWO, ZERO, constant


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss function.

    Attributes
    ----------
    description : str
        The equation, which mean is taken, and how PyTorch's and Keras's differ.
    dense : Kernel
        ``(row_loss, dz, z, target, scale)`` for targets of the outputs' shape.
    labels : Kernel or None
        The same for integer class labels (b, 1); None where labels make no sense.
    link : str
        The activation that turns outputs into predictions.
    valid_targets : tuple of float
        Smallest and largest target that has a meaning.
    from_probabilities : bool
        Whether the outputs have to be probabilities already.
    target_columns : callable
        How many columns targets have, given the number of outputs.
    numbers : tuple of float
        Settings that the kernel takes as one more array.
    """

    name: str
    description: str
    dense: Kernel
    labels: Kernel | None = None
    link: str = "linear"
    valid_targets: tuple[float, float] = (-np.inf, np.inf)
    from_probabilities: bool = False
    target_columns: Callable[[int], int] = int
    numbers: tuple[float, ...] = ()

    @property
    def of_classes(self) -> bool:
        """Whether targets are classes or answers to yes/no questions, or how probable these are."""
        return self.labels is not None or self.link in ("softmax", "sigmoid")

    def __reduce__(self):
        return restored, (self.name, self.numbers)

    def bind(self, program: Program, row_loss, dz, z, target, scale) -> None:
        """Bind the kernel for targets of this kind; dz (rows, outputs) is overwritten, as is row_loss (rows,)."""
        chosen = self.labels if self.labels and target.dtype.kind == "i" else self.dense
        numbers = [np.array(self.numbers, z.dtype)] if self.numbers else []
        program.call(chosen, row_loss, dz, z, target, scale, *numbers)


LOSSES: dict[str, Loss] = {}


def restored(name: str, numbers: Sequence[float]) -> Loss:
    """The loss of this name with these settings; ValueError where there is none."""
    loss = checks.choose("loss", name, LOSSES)
    if len(numbers) != len(loss.numbers):
        raise ValueError(f"{name} has {len(loss.numbers)} numbers, got {len(numbers)}")
    return dataclasses.replace(loss, numbers=tuple(float(number) for number in numbers))


_DENSE, _LABELS = "(b) (b,c) (b,c) (b,c) (b)", "(b) (b,c) (b,c) (b,1) (b)"


def value(z, t):
    """Loss of one output; each kernel made of the template below has its own."""


def slope(z, t):
    """Derivative of `value` by z."""


def share(c, like):
    """1/c where a row's loss is the mean over its c outputs, 1 where it is their sum."""


def _map_loss(row_loss, dz, z, target, scale):
    c = z.shape[1]
    for i in prange(z.shape[0]):
        z_row, t_row, d_row, total = z[i], target[i], dz[i], ZERO(scale[i])
        factor = share(c, total)
        step = scale[i] * factor
        for j in range(c):
            d_row[j] = vm.flushed(step * slope(z_row[j], t_row[j]))
        for j in range(c):
            total += value(z_row[j], t_row[j])
        row_loss[i] = total * factor


@device
def _mean_share(c, like):
    return ONE(like) / type(like)(c)


@device
def _sum_share(c, like):
    return ONE(like)


def _elementwise(
    name, value, slope, numpy_value, numpy_slope, *, mean_over_outputs=True, cycles=2.0, description, **more
) -> Loss:
    """Enter a loss that is a mean or a sum over outputs."""

    def reference(row_loss, dz, z, target, scale):
        share = 1 / z.shape[1] if mean_over_outputs else 1
        row_loss[:] = numpy_value(z, target).sum(axis=1) * share
        dz[:] = numpy_slope(z, target) * scale[:, None] * share

    dense = kernel(
        reference,
        _DENSE,
        cycles=cycles,
        name=name,
        value=device(value, inline=True),
        slope=device(slope, inline=True),
        share=_mean_share if mean_over_outputs else _sum_share,
    )(_map_loss)
    LOSSES[name] = Loss(name, description, dense, **more)
    return LOSSES[name]


def define(
    name, value, slope, numpy_value, numpy_slope, description, *, mean_over_outputs=True, link="linear",
    valid_targets=(-np.inf, np.inf), cycles=4.0,
) -> Loss:  # fmt: skip
    """Enter a loss of your own, the mean or the sum over outputs of a function of output and target.

    Parameters
    ----------
    name : str
    value, slope : callable
        Functions of two numbers, output z and target t, that Numba compiles: the loss, and its derivative by z.
    numpy_value, numpy_slope : callable
        The same for arrays, in NumPy.
    description : str
        The equation, and which mean is taken.
    mean_over_outputs : bool
        Whether a row's loss is the mean over its outputs, or their sum.
    link : str
        The activation that turns outputs into predictions.
    valid_targets : tuple of float
        Smallest and largest target that has a meaning.
    cycles : float
        Rough cost of one output, in processor cycles.

    Raises
    ------
    TwinError
        Where the two forms differ.
    ValueError
        Where the slope is not the derivative of the value, for a link that is no activation, and for a name that is
        taken.
    """
    checks.unused("loss", name, LOSSES)
    checks.choose("link", link, ACTIVATIONS)
    loss = _elementwise(
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


mse = _elementwise(
    "mse",
    lambda z, t: (z - t) * (z - t),
    lambda z, t: TWO(z) * (z - t),
    lambda z, t: (z - t) ** 2,
    lambda z, t: 2 * (z - t),
    cycles=1.0,
    description="1/(b c) sum (z - t)^2: mean over batch and outputs, as PyTorch's MSELoss and Keras's mse.",
)

half_mse = _elementwise(
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

mae = _elementwise(
    "mae",
    lambda z, t: abs(z - t),
    lambda z, t: ZERO(z) if z == t else (ONE(z) if z > t else -ONE(z)),
    lambda z, t: np.abs(z - t),
    lambda z, t: np.sign(z - t),
    cycles=1.0,
    description="1/(b c) sum |z - t|: mean over batch and outputs, as PyTorch's L1Loss and Keras's mae.",
)

huber = _elementwise(
    "huber",
    lambda z, t: HALF(z) * (z - t) * (z - t) if abs(z - t) < ONE(z) else abs(z - t) - HALF(z),
    lambda z, t: ONE(z) if z - t > ONE(z) else (-ONE(z) if z - t < -ONE(z) else z - t),
    lambda z, t: np.where(np.abs(z - t) < 1, 0.5 * (z - t) ** 2, np.abs(z - t) - 0.5),
    lambda z, t: np.clip(z - t, -1, 1),
    cycles=1.0,
    description="(z - t)^2 / 2 within 1 of the target, |z - t| - 1/2 beyond (Huber 1964): mean over batch and outputs, "
    "as PyTorch's HuberLoss and Keras's Huber with delta 1.",
)

binary_cross_entropy = _elementwise(
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

poisson = _elementwise(
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

TINY = constant(2.0**-1022, single=2.0**-126)  # smallest probability whose logarithm is taken


def cross_entropy_labels_reference(row_loss, dz, z, target, scale):
    rows = np.arange(len(z))
    p = np.maximum(z[rows, target[:, 0]], np.finfo(z.dtype).tiny)
    row_loss[:] = -np.log(p)
    dz[:] = 0
    dz[rows, target[:, 0]] = -scale / p


@kernel(cross_entropy_labels_reference, _LABELS, cycles=1.0)
def cross_entropy_labels(row_loss, dz, z, target, scale):
    """-log z[label], z being probabilities."""
    for i in prange(z.shape[0]):
        d_row, label = dz[i], target[i, 0]
        p = z[i, label]
        p = TINY(p) if p < TINY(p) else p
        row_loss[i] = -vm.log(p)
        for j in range(d_row.shape[0]):
            d_row[j] = ZERO(p)
        d_row[label] = -scale[i] / p


@device
def _log_probability(p):
    return vm.log(TINY(p) if p < TINY(p) else p)


@device
def _inverse_probability(p):
    return ONE(p) / (TINY(p) if p < TINY(p) else p)


cross_entropy = _elementwise(
    "cross_entropy",
    lambda z, t: ZERO(t) if t == ZERO(t) else -t * _log_probability(z),
    lambda z, t: -t * _inverse_probability(z),
    lambda z, t: -t * np.log(np.maximum(z, np.finfo(z.dtype).tiny)),
    lambda z, t: -t / np.maximum(z, np.finfo(z.dtype).tiny),
    mean_over_outputs=False,
    cycles=4.0,
    labels=cross_entropy_labels,
    valid_targets=(0.0, 1.0),
    from_probabilities=True,
    description="-sum_j t_j log z_j, z being probabilities such as a softmax layer's: sum over classes, mean over the "
    "batch, as Keras's CategoricalCrossentropy, which also divides z by its sum; PyTorch's nearest is NLLLoss, which "
    "takes their logarithms. Labels may be integers.",
)


def softmax_cross_entropy_reference(row_loss, dz, z, target, scale):
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    row_loss[:] = -np.sum(target * log_p, axis=1)
    dz[:] = (np.exp(log_p) * target.sum(axis=1, keepdims=True) - target) * scale[:, None]


@device
def _softmax_and_log_totals(y, log_total, x):
    """y = softmax(x), and the log of each row's sum of exp(x - its largest x)."""
    exp_of_rows(y, x)
    for i in range(x.shape[0]):
        y_row, total = y[i], row_sum(y[i])
        log_total[i] = total
        scale = ONE(total) / total
        for j in range(y_row.shape[0]):
            y_row[j] *= scale
    for i in range(log_total.shape[0]):
        log_total[i] = vm.log(log_total[i])


@kernel(softmax_cross_entropy_reference, _DENSE, cycles=2.0)
def softmax_cross_entropy_dense(row_loss, dz, z, target, scale):
    """-sum_j t_j log softmax(z)_j."""
    rows = z.shape[0]
    for p in prange((rows + ROWS - 1) // ROWS):
        begin, end = p * ROWS, min(rows, (p + 1) * ROWS)
        _softmax_and_log_totals(dz[begin:end], row_loss[begin:end], z[begin:end])
        for i in range(begin, end):
            z_row, t_row, d_row = z[i], target[i], dz[i]
            loss, weight, top = ZERO(scale[i]), row_sum(t_row), row_max(z_row)
            for j in range(z_row.shape[0]):
                loss += t_row[j] * (row_loss[i] - (z_row[j] - top))
            row_loss[i] = loss
            for j in range(z_row.shape[0]):
                d_row[j] = vm.flushed((d_row[j] * weight - t_row[j]) * scale[i])


def softmax_cross_entropy_labels_reference(row_loss, dz, z, target, scale):
    softmax_cross_entropy_reference(row_loss, dz, z, np.eye(z.shape[1], dtype=z.dtype)[target[:, 0]], scale)


@kernel(softmax_cross_entropy_labels_reference, _LABELS, cycles=2.0)
def softmax_cross_entropy_labels(row_loss, dz, z, target, scale):
    """-log softmax(z)[label]."""
    rows = z.shape[0]
    for p in prange((rows + ROWS - 1) // ROWS):
        begin, end = p * ROWS, min(rows, (p + 1) * ROWS)
        _softmax_and_log_totals(dz[begin:end], row_loss[begin:end], z[begin:end])
        for i in range(begin, end):
            d_row, label = dz[i], target[i, 0]
            row_loss[i] -= z[i, label] - row_max(z[i])
            d_row[label] -= ONE(scale[i])
            for j in range(d_row.shape[0]):
                d_row[j] = vm.flushed(d_row[j] * scale[i])


LOSSES["softmax_cross_entropy"] = softmax_cross_entropy = Loss(
    "softmax_cross_entropy",
    "-sum_j t_j log softmax(z)_j, from logits; labels may be integers: sum over classes, mean over the batch, as "
    "PyTorch's CrossEntropyLoss and Keras's CategoricalCrossentropy(from_logits=True); Keras's default takes p.",
    softmax_cross_entropy_dense,
    softmax_cross_entropy_labels,
    link="softmax",
    valid_targets=(0.0, 1.0),
)


def distillation_reference(row_loss, dz, z, target, scale, numbers):
    temperature, share = numbers
    soft, hard = np.split(target, 2, axis=1)
    soft_loss, soft_slope = np.empty_like(row_loss), np.empty_like(dz)
    ones = np.ones_like(scale)
    softmax_cross_entropy_reference(soft_loss, soft_slope, z / temperature, soft, ones)
    softmax_cross_entropy_reference(row_loss, dz, z, hard, ones)
    row_loss[:] = share * temperature**2 * soft_loss + (1 - share) * row_loss
    dz[:] = (share * temperature * soft_slope + (1 - share) * dz) * scale[:, None]


@kernel(distillation_reference, "(b) (b,c) (b,c) (b,D) (b) (2)", cycles=4.0)
def distillation_dense(row_loss, dz, z, target, scale, numbers):
    """share T^2 H(soft, softmax(z / T)) + (1 - share) H(hard, softmax(z)), H being the cross-entropy."""
    c, temperature, share = z.shape[1], numbers[0], numbers[1]
    cool, rest = ONE(share) / temperature, ONE(share) - share
    for i in prange(z.shape[0]):
        z_row, d_row, soft, hard = z[i], dz[i], target[i, :c], target[i, c:]
        top, weight_soft, weight_hard = row_max(z_row), row_sum(soft), row_sum(hard)
        total_soft = total_hard = loss_soft = loss_hard = ZERO(share)
        for j in range(c):
            total_soft += vm.exp((z_row[j] - top) * cool)
            total_hard += vm.exp(z_row[j] - top)
        log_soft, log_hard = vm.log(total_soft), vm.log(total_hard)
        for j in range(c):
            loss_soft += soft[j] * (log_soft - (z_row[j] - top) * cool)
            loss_hard += hard[j] * (log_hard - (z_row[j] - top))
            p_soft, p_hard = vm.exp((z_row[j] - top) * cool) / total_soft, vm.exp(z_row[j] - top) / total_hard
            slope_soft, slope_hard = p_soft * weight_soft - soft[j], p_hard * weight_hard - hard[j]
            d_row[j] = scale[i] * (share * temperature * slope_soft + rest * slope_hard)
        row_loss[i] = share * temperature * temperature * loss_soft + rest * loss_hard


LOSSES["distillation"] = distillation = Loss(
    "distillation",
    "s T^2 H(soft, softmax(z / T)) + (1 - s) H(hard, softmax(z)), H being the cross-entropy: sum over classes, mean "
    "over the batch. A row's targets are a teacher's probabilities at temperature T, then the true ones. Hinton et al. "
    '2015, "Distilling the knowledge in a neural network"; see `nbbp.distill`. T = 4 and s = 0.9 by default.',
    distillation_dense,
    link="softmax",
    valid_targets=(0.0, 1.0),
    target_columns=lambda outputs: 2 * outputs,
    numbers=(4.0, 0.9),
)
