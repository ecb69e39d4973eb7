"""Comparison of what a network computes with NumPy and with finite differences."""

import dataclasses
import time
from typing import TYPE_CHECKING

import numpy as np

from nbbp import checks
from nbbp.sequential import Sequential

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Difference:
    """The largest difference of one gradient array, absolute and relative to the array's largest element."""

    absolute: float
    relative: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The same model compiled and in NumPy.

    Attributes
    ----------
    gradients : dict of str to Difference
        The difference for every parameter, at the initial parameters.
    compiled, reference : ndarray (steps,)
        The loss of every step, compiled and in NumPy.
    seconds, reference_seconds : float
        The time of one step.
    """

    gradients: dict[str, Difference]
    compiled: np.ndarray
    reference: np.ndarray
    seconds: float
    reference_seconds: float

    @property
    def speedup(self) -> float:
        return self.reference_seconds / self.seconds

    def __str__(self) -> str:
        lines = []
        if self.gradients:
            width = max(len("gradient"), *map(len, self.gradients))
            lines.append(f"{'gradient':{width}}  largest difference  relative")
            lines += [f"{k:{width}}  {d.absolute:18.2e}  {d.relative:8.1e}" for k, d in self.gradients.items()]
        apart = np.max(np.abs(self.compiled - self.reference))
        lines += [
            f"losses over {len(self.compiled)} steps differ by {apart:.1e} at most",
            f"a step takes {self.seconds * 1e6:.1f} us compiled, {self.reference_seconds * 1e6:.1f} us in NumPy: "
            f"{self.speedup:.1f} times as fast",
        ]
        return "\n".join(lines)

    def plot(self, path=None) -> "Figure":
        """Draw both loss curves and their difference, see `nbbp.plots.comparison`."""
        from nbbp import plots

        return plots.comparison(self, path=path)


def compare(model: Sequential, X, y, steps: int = 100, batch_size: int = 32) -> Comparison:
    """Train compiled and NumPy copies of a model side by side; the model itself stays as it is.

    Parameters
    ----------
    model : Sequential
    X, y : array_like
        As for `Sequential.fit`.
    steps : int
        The number of mini-batches whose losses are compared; whole epochs are trained.
    batch_size : int

    Returns
    -------
    Comparison
    """
    steps = checks.positive_integer("steps", steps)
    batch_size = checks.positive_integer("batch_size", batch_size)
    model.gradients(X, y)  # builds the model if it is not built
    compiled, reference = model.with_backend("numba"), model.with_backend("numpy")
    ours, theirs = compiled.gradients(X, y), reference.gradients(X, y)
    differences = {}
    for name in ours:
        absolute, largest = float(np.max(np.abs(ours[name] - theirs[name]))), float(np.max(np.abs(theirs[name])))
        differences[name] = Difference(absolute, absolute / largest if largest else absolute)
    losses, seconds = _trained(compiled, X, y, steps, batch_size)
    reference_losses, reference_seconds = _trained(reference, X, y, steps, batch_size)
    return Comparison(differences, losses, reference_losses, seconds, reference_seconds)


def _trained(model: Sequential, X, y, steps: int, batch_size: int) -> tuple[np.ndarray, float]:
    """The losses of the first `steps` mini-batches, and the time of one in the fastest epoch."""
    trainer = model.built.trainer(model.prepare(X, y), batch_size)
    losses: list[float] = []
    seconds = np.inf
    epochs = 0
    while len(losses) < steps:
        begin = time.perf_counter()
        done = trainer.train(1, epochs)
        epochs += 1
        seconds = min(seconds, (time.perf_counter() - begin) / max(1, done))
        losses += trainer.step_loss[:done].tolist()
        if trainer.diverged:
            raise ValueError(f"the loss is not finite after {len(losses)} steps: there is nothing to compare")
    return np.array(losses[:steps]), seconds


def check_gradients(
    model: Sequential, X, y, step: float = 1e-5, most: int = 200, mask=None, lengths=None
) -> dict[str, float]:
    """Compare the backward pass with central differences in float64; the model itself stays as it is.

    Parameters
    ----------
    model : Sequential
    X, y : array_like
        As for `Sequential.fit`; a few rows are enough.
    step : float
        The distance to either side. If a kink such as relu's lies within it, the two disagree.
    most : int
        The number of elements of each parameter that are tested, drawn at random if it has more.
    mask, lengths : array_like, optional
        As for `Sequential.fit`.

    Returns
    -------
    dict of str to float
        For every trained parameter, |difference| / (|gradient| + |central difference|), with Euclidean norms over
        its elements.

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.Sequential([nbbp.Dense(32, activation="relu"), nbbp.Dense(10)], loss="softmax_cross_entropy")
    >>> errors = nbbp.check_gradients(model, X[:8], y[:8])
    >>> list(errors), max(errors.values()) < 1e-6
    (['dense_0.w', 'dense_0.b', 'dense_1.w', 'dense_1.b'], True)
    """
    checks.number("step", step, open_low=True)
    most = checks.positive_integer("most", most)
    model.gradients(X, y, mask, lengths)  # builds the model if it is not built
    copy = model.copy(dtype="float64", precision="full")
    loss = copy.built.gradient(copy.prepare(X, y, mask=mask, lengths=lengths))
    if not np.isfinite(value := loss()):
        raise ValueError(f"the loss is {value}: there is nothing to compare")
    gradients = {name: g.copy() for name, g in copy.network.layout.named(copy.grads).items()}
    errors, rng = {}, np.random.default_rng(0)
    trained = {name for name, _, parameter in copy.network.layout.slices() if parameter.trained}
    for name, parameter in copy.named_params().items():
        if name not in trained:
            continue
        flat, gradient = parameter.reshape(-1), gradients[name].reshape(-1)
        tried = np.arange(len(flat)) if len(flat) <= most else rng.choice(len(flat), most, replace=False)
        numeric = np.empty(len(tried))
        for k, i in enumerate(tried):
            value, losses = flat[i], []
            for moved in (value + step, value - step):
                flat[i] = moved
                losses.append(loss())
            flat[i] = value
            numeric[k] = (losses[0] - losses[1]) / (2 * step)
        with np.errstate(all="ignore"):  # gradients may be near the largest number
            size = np.linalg.norm(gradient[tried]) + np.linalg.norm(numeric)
            errors[name] = float(np.linalg.norm(gradient[tried] - numeric) / size) if size else 0.0
    return errors
