"""L-BFGS over all rows at once, by SciPy, on the flat arrays."""

import numpy as np

from nbbp import checks
from nbbp.engine.network import Network
from nbbp.sequential import Sequential
from nbbp.training.history import History
from nbbp.training.trainer import DivergenceError


def fit_lbfgs(
    model: Sequential,
    X,
    y,
    iterations: int = 100,
    memory: int = 10,
    sample_weight=None,
    tolerance: float = 1e-5,
    evaluations: int | None = None,
) -> History:
    """Train on all rows at once with the quasi-Newton method L-BFGS; the model's own optimizer is not used.

    Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989. Good for small data and
    smooth networks, where it needs far fewer passes than gradient descent; layers that draw random numbers draw the
    same in each pass. Pruned weights stay 0; an average of the parameters begins anew.

    Parameters
    ----------
    model : Sequential
    X, y, sample_weight : array_like
        As for `Sequential.fit`.
    iterations : int
        At most.
    memory : int
        Pairs of steps and gradient differences that stand for the Hessian.
    tolerance : float
        It stops where no element of the gradient is larger, or where rounding lets the loss fall no more: in float32
        that may be before 1e-7.
    evaluations : int, optional
        Of the loss and its gradient after which no iteration begins; 20 for each iteration when it is left out.

    Returns
    -------
    History
        One epoch for each iteration; ``stopped`` has SciPy's message.

    Raises
    ------
    ValueError
        For layers that are not functions of parameters and data alone: running statistics, `max_norm`.
    DivergenceError
        When the loss is not finite.
    ImportError
        Without SciPy: ``pip install nbbp[scipy]``.
    """
    try:
        from scipy.optimize import minimize
    except ImportError:
        raise ImportError("fit_lbfgs needs SciPy: pip install nbbp[scipy]") from None
    iterations = checks.positive_integer("iterations", iterations)
    memory = checks.positive_integer("memory", memory)
    checks.number("tolerance", tolerance)
    evaluations = 20 * iterations if evaluations is None else checks.positive_integer("evaluations", evaluations)
    network = _checked(model, X, y)
    loss = model.built.gradient(model.prepare(X, y, sample_weight))
    history = History(steps_per_epoch=1, label="L-BFGS", steps_before=model.steps)

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        model.params[:] = flat
        value, gradient = loss(), model.grads.astype(np.float64)
        return value, gradient if network.mask is None else gradient * network.mask

    def note(intermediate_result) -> None:
        history.add_steps(np.array([intermediate_result.fun]))
        history.add_epoch(loss=intermediate_result.fun)

    result = minimize(
        value_and_gradient,
        model.params.astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        callback=note,
        options={"maxiter": iterations, "maxcor": memory, "maxfun": evaluations, "gtol": tolerance, "ftol": 0},
    )
    model.params[:] = result.x
    if model.update.mean is not None:
        model.update.mean[:] = model.params
    history.stopped = result.message
    if not np.isfinite(result.fun):
        history.add_steps(np.array([result.fun]))
        raise DivergenceError(len(history) + 1, 1, history)
    return history


def _checked(model: Sequential, X, y) -> Network:
    """The network, where L-BFGS can train it."""
    model.prepare(X, y)  # builds a model that is new
    layout = model.network.layout
    if layout.state_size or any(parameter.max_norm is not None for _, _, parameter in layout.slices()):
        raise ValueError("fit_lbfgs trains no layers with running statistics (BatchNorm) or max_norm: use fit")
    return model.network
