"""L-BFGS over all rows at once, by SciPy, on the flat arrays."""

import functools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbbp import checks
from nbbp.callbacks import Callback, LearningRateLog, ReduceOnPlateau
from nbbp.engine.data import Data
from nbbp.insight.inspection import Inspect
from nbbp.model import Model
from nbbp.training import progress
from nbbp.training.arguments import checked_callbacks, validation
from nbbp.training.checkpoint import Checkpoint
from nbbp.training.history import History
from nbbp.training.observed import ObservedFit
from nbbp.training.trainer import DivergenceError

REFUSED: dict[type[Callback], str] = {
    Checkpoint: "SciPy holds the state of L-BFGS, and no fit can resume from a checkpoint: save the model, as in "
    "nbbp.callbacks.Call(lambda fit: fit.model.save(path))",
    ReduceOnPlateau: "L-BFGS has no learning rate",
    LearningRateLog: "L-BFGS has no learning rate",
    Inspect: "it looks at the steps of mini-batches, which L-BFGS does not make",
}


def fit_lbfgs(
    model: Model,
    X,
    y,
    iterations: int = 100,
    memory: int = 10,
    sample_weight=None,
    tolerance: float = 1e-5,
    evaluations: int | None = None,
    validation_data: tuple | None = None,
    verbose: int = 1,
    callbacks: Sequence[Callback] = (),
    class_weight: dict | str | None = None,
    mask=None,
    lengths=None,
) -> History:
    """Train on all rows at once with the quasi-Newton method L-BFGS; the model's own optimizer is not used.

    Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989. Good for small data and
    smooth networks, for which it needs far fewer passes than gradient descent; layers that draw random numbers draw the
    same in each pass. Pruned weights stay 0; an average of the parameters is reset.

    Parameters
    ----------
    model : Model
    X, y, sample_weight, class_weight, mask, lengths : array_like
        As for `Model.fit`.
    iterations : int
        The maximum number of iterations.
    memory : int
        The number of pairs of steps and gradient differences that approximate the Hessian.
    tolerance : float
        The fit stops when no element of the gradient is larger, or when the loss cannot fall because of rounding: in
        float32 that may be before 1e-7.
    evaluations : int, optional
        The number of evaluations of loss and gradient after which no iteration begins; by default 20 per iteration.
    validation_data : (X, y) or (X, y, sample_weight), optional
        Data to evaluate after every iteration.
    verbose : {0, 1, 2}
        Nothing, a progress bar, or a line for each iteration.
    callbacks : sequence of Callback
        Callbacks, for which an iteration is a step and an epoch. They may stop the fit, but must not change the
        parameters; those that need mini-batches, a learning rate or checkpoints are refused.

    Ctrl-C (and SIGTERM) end the fit: the model then has the parameters of the last complete iteration.

    Returns
    -------
    History
        The history, with an epoch for each iteration; ``stopped`` is SciPy's message, or a callback's reason.

    Raises
    ------
    ValueError
        If a layer depends on more than parameters and data: running statistics, `max_norm`.
    DivergenceError
        If the loss is not finite.
    ImportError
        If SciPy is not installed: ``pip install nbbp[scipy]``.

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.Sequential([nbbp.Dense(10)], loss="softmax_cross_entropy", metrics=["accuracy"])
    >>> history = nbbp.fit_lbfgs(model, X, y, iterations=50, verbose=0)
    >>> history["accuracy"][-1] > 0.98
    True
    """
    iterations = checks.positive_integer("iterations", iterations)
    memory = checks.positive_integer("memory", memory)
    checks.number("tolerance", tolerance)
    evaluations = 20 * iterations if evaluations is None else checks.positive_integer("evaluations", evaluations)
    if verbose not in (0, 1, 2):
        raise ValueError(f"verbose must be 0, 1 or 2, got {verbose!r}")
    callbacks = checked_callbacks(callbacks)
    for callback in callbacks:
        for kind, reason in REFUSED.items():
            if isinstance(callback, kind):
                raise TypeError(f"fit_lbfgs takes no {kind.__name__}: {reason}")
    data = model.prepare(X, y, sample_weight, class_weight, mask, lengths)
    held_out = None if validation_data is None else validation(model, validation_data)
    layout = model.network.layout
    if layout.state_size or any(parameter.max_norm is not None for _, _, parameter in layout.slices()):
        raise ValueError("fit_lbfgs trains no layers with running statistics (BatchNorm) or max_norm: use fit")
    fit = _Fit(model, data, held_out, iterations, callbacks, verbose)
    return fit.run({"maxiter": iterations, "maxcor": memory, "maxfun": evaluations, "gtol": tolerance, "ftol": 0})


class _Fit(ObservedFit):
    """A fit by L-BFGS: an iteration is an epoch of one step on all rows."""

    def __init__(
        self, model: Model, data: Data, held_out: Data | None, iterations: int, callbacks: list[Callback], verbose: int
    ) -> None:
        super().__init__(
            model, held_out, data.rows, iterations, data.rows, 1, False, callbacks, verbose,
            measures_training=True, interrupts=None,
        )  # fmt: skip
        self.data, self._gradient = data, model.built.gradient(data)
        self.history = model.history = History(steps_per_epoch=1, label="L-BFGS", steps_before=model.steps)
        self._reached = model.params.copy()  # parameters of the last complete iteration

    def run(self, options: dict[str, Any]) -> History:
        """Train; returns the history."""
        minimize, limited = _scipy()
        model, history = self.model, self.history
        bar = progress.bar(desc="L-BFGS", total=self.epochs, disable=self._verbose != 1, unit="iteration")
        begin = time.perf_counter()

        def end_iteration(intermediate_result: Any) -> None:
            nonlocal begin
            self._end_iteration(intermediate_result.x, intermediate_result.fun)
            bar.update()
            if self._verbose:
                self._show(bar, begin)
            begin = time.perf_counter()
            self._interrupts.check()
            if history.stopped:
                raise StopIteration

        with self._interrupts, self, bar:
            if history.stopped:
                return history
            start = model.params.astype(np.float64)
            try:
                with limited():
                    result = minimize(
                        self._value_and_gradient, start, jac=True, method="L-BFGS-B", callback=end_iteration,
                        options=options,
                    )  # fmt: skip
            except BaseException:
                self._take(self._reached)
                raise
            self._take(result.x)
            history.stopped = history.stopped or result.message
            if not np.isfinite(result.fun):
                history.add_steps(np.array([result.fun]))
                raise DivergenceError(len(history) + 1, 1, history)
        if self._verbose:
            print(f"stopped after iteration {len(history)}: {history.stopped}")
        return history

    def _value_and_gradient(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        self._interrupts.check()
        self.model.params[:] = flat
        value, mask = self._gradient(), self.model.network.mask
        gradient = self.model.grads.astype(np.float64)
        return value, gradient if mask is None else gradient * mask

    def _end_iteration(self, flat: np.ndarray, value: float) -> None:
        params, network = self.model.params, self.model.network
        self._take(flat)
        self._reached[:] = params
        mask = network.mask
        self.history.add_steps(np.array([value]))
        self._pause(1)
        self._end_epoch()
        if network.mask is not mask or not np.array_equal(params, self._reached):
            raise RuntimeError("a callback changed the parameters, and L-BFGS goes on from its own: change them after")

    def _take(self, flat: np.ndarray) -> None:
        """Give the model these parameters."""
        self.model.params[:] = flat
        if self.model.update.mean is not None:
            self.model.update.mean[:] = self.model.params

    @property
    def _steps(self) -> int:
        return self.history.steps

    def _trained(self) -> dict[str, float]:
        measure, gradient = self.model.built.measure, self._gradient
        values = measure.losses(float(self.history.step_loss[-1]), gradient.losses)
        return values | measure.of_outputs(gradient.outputs, self.data, np.arange(self.data.rows))


@functools.cache
def _scipy() -> tuple[Any, Any]:
    """SciPy's minimize, and a context in which BLAS has one thread.

    L-BFGS-B multiplies tiny matrices, for which the threads of OpenBLAS wait for each other many times longer than they
    compute.
    """
    try:
        from scipy.optimize import minimize
        from threadpoolctl import ThreadpoolController
    except ImportError:
        raise ImportError("fit_lbfgs needs SciPy and threadpoolctl: pip install nbbp[scipy]") from None
    controller = ThreadpoolController()
    return minimize, lambda: controller.limit(limits=1, user_api="blas")
