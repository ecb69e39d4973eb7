"""What a network computes, held against NumPy and against finite differences."""

import dataclasses
import time

import numpy as np

from nbbp.model import Sequential


@dataclasses.dataclass(frozen=True)
class Difference:
    """Largest difference of one gradient array, and the same relative to the array's largest element."""

    absolute: float
    relative: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The same model compiled and in NumPy.

    Attributes
    ----------
    gradients : dict of str to Difference
        For every parameter, at the first parameters.
    compiled, reference : ndarray (steps,)
        Loss of every step, compiled and in NumPy.
    seconds, reference_seconds : float
        Time of one step.
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

    def plot(self, path=None):
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
        Mini-batches, at least one epoch's.
    batch_size : int

    Returns
    -------
    Comparison
    """
    model.gradients(X, y)  # builds the model where it is new
    compiled, reference = model.with_backend("numba"), model.with_backend("numpy")
    ours, theirs = compiled.gradients(X, y), reference.gradients(X, y)
    differences = {}
    for name in ours:
        absolute, largest = float(np.max(np.abs(ours[name] - theirs[name]))), float(np.max(np.abs(theirs[name])))
        differences[name] = Difference(absolute, absolute / largest if largest else absolute)
    steps_per_epoch = -(-len(X) // min(batch_size, len(X)))
    epochs = max(1, -(-steps // steps_per_epoch))
    model.with_backend("numba").fit(X, y, epochs=1, batch_size=batch_size, verbose=0)  # compiles
    losses: list[np.ndarray] = []
    seconds: list[float] = []
    for copy in (compiled, reference):
        begin = time.perf_counter()
        history = copy.fit(X, y, epochs=epochs, batch_size=batch_size, verbose=0)
        seconds.append((time.perf_counter() - begin) / len(history.step_loss))
        losses.append(history.step_loss)
    return Comparison(differences, losses[0], losses[1], seconds[0], seconds[1])


def check_gradients(model: Sequential, X, y, step: float = 1e-5, most: int = 200) -> dict[str, float]:
    """Central differences in float64 against the backward pass; the model itself stays as it is.

    Parameters
    ----------
    model : Sequential
    X, y : array_like
        As for `Sequential.fit`; a few rows are enough.
    step : float
        Distance to either side. Where a kink such as relu's lies within it, the two disagree.
    most : int
        Elements of each parameter that are tried, drawn at random where it has more.

    Returns
    -------
    dict of str to float
        For every parameter, |difference| / (|gradient| + |central difference|), Euclidean norms over its elements.
    """
    model.gradients(X, y)  # builds the model where it is new
    copy = model._copy(dtype="float64")
    gradients = {name: g.copy() for name, g in copy.gradients(X, y).items()}
    errors, rng = {}, np.random.default_rng(0)
    for name, parameter in copy.named_params().items():
        flat, gradient = parameter.reshape(-1), gradients[name].reshape(-1)
        tried = np.arange(len(flat)) if len(flat) <= most else rng.choice(len(flat), most, replace=False)
        numeric = np.empty(len(tried))
        for k, i in enumerate(tried):
            value, losses = flat[i], []
            for moved in (value + step, value - step):
                flat[i] = moved
                losses.append(copy.evaluate(X, y)["loss"])
            flat[i] = value
            numeric[k] = (losses[0] - losses[1]) / (2 * step)
        size = np.linalg.norm(gradient[tried]) + np.linalg.norm(numeric)
        errors[name] = float(np.linalg.norm(gradient[tried] - numeric) / size) if size else 0.0
    return errors
