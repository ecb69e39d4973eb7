"""Training in loops of the user's own: a bound step, and one update from one mini-batch."""

from typing import TYPE_CHECKING

from nbbp import checks
from nbbp.engine.step import Step

if TYPE_CHECKING:
    from nbbp.model import Model


def step(model: "Model", batch_size: int, training: bool = True) -> Step:
    """Forward, backward and update of mini-batches for your own loop, see `nbbp.engine.step.Step`.

    Parameters
    ----------
    batch_size : int
        The maximum number of rows in a mini-batch.
    training : bool
        Whether layers such as dropout behave as in training.

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.Sequential([nbbp.Dense(1)], optimizer=nbbp.SGD(0.03))
    >>> model.build(64)
    >>> step = model.step(32)
    >>> for _ in range(300):
    ...     z = step.forward(X[:32])
    ...     dX = step.backward(2 * (z - y[:32, None]) / 32)  # gradient of the mean squared error
    ...     step.update()
    >>> bool(((z[:, 0] - y[:32]) ** 2).mean() < 1)
    True
    """
    return model.built.step(checks.positive_integer("batch_size", batch_size), training)


def train_on_batch(model: "Model", X, y, sample_weight=None, mask=None, lengths=None) -> float:
    """Make one update from all given rows; returns their loss before it.

    The state of a stateful layer begins anew; `Model.step` goes on from one mini-batch to the next.

    Raises
    ------
    DivergenceError
        If the loss is not finite; nothing is updated then.
    """
    data = model.prepare(X, y, sample_weight, mask=mask, lengths=lengths)
    return model.built.train_on(data)
