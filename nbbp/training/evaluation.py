"""Predictions of a model, its loss and metrics, and derivatives."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nbbp.model import Model


def predict(model: "Model", X, mask=None, lengths=None) -> Any:
    """Predictions (rows, *positions, outputs): probabilities, or values for regression.

    Those at the positions of an `nbbp.Ragged` are one themselves.

    Parameters
    ----------
    X : array_like (rows, *input_shape), nbbp.Ragged or a table; a list or a dict of them if there are several inputs
    mask : ndarray (rows, *positions), bool, optional
        False at masked elements of the input.
    lengths : array_like (rows,), int, optional
        In place of a mask: the number of positions of each row that are not masked, along the first axis.
    """
    data = model.prepare(X, mask=mask, lengths=lengths)
    return model.built.packed(data, model.built.measure.predicted(data))


def evaluate(model: "Model", X, y, sample_weight=None, mask=None, lengths=None) -> dict[str, float]:
    """The loss, including penalties, and every metric on these data: ``{"loss": ..., "accuracy": ...}``."""
    data = model.prepare(X, y, sample_weight, mask=mask, lengths=lengths)
    return model.built.measure(data)


def gradients(model: "Model", X, y, mask=None, lengths=None) -> dict[str, np.ndarray]:
    """The gradient of the mean loss over all rows: views into `grads` by name, such as ``dense_0.w``.

    The gradient of frozen parameters is 0.

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.Sequential([nbbp.Dense(10)], loss="softmax_cross_entropy")
    >>> {name: gradient.shape for name, gradient in model.gradients(X, y).items()}
    {'dense_0.w': (64, 10), 'dense_0.b': (10,)}
    """
    data = model.prepare(X, y, mask=mask, lengths=lengths)
    model.built.gradient(data)()
    return dict(model.network.named_grads)


def input_gradients(model: "Model", X, y, mask=None, lengths=None) -> Any:
    """The gradient of the mean loss over all rows with respect to the inputs, (rows, *input_shape)."""
    data = model.prepare(X, y, mask=mask, lengths=lengths)
    gradient = model.built.gradient(data, to_inputs=True)
    gradient()
    found = [None if dx is None else data.unpadded(k, dx.copy()) for k, dx in enumerate(gradient.inputs)]
    return model.inputs.packed(found)


def jacobian(model: "Model", X, mask=None, lengths=None) -> np.ndarray:
    """Derivatives of the predictions with respect to the inputs, (rows, outputs, inputs); shapes are flattened."""
    data = model.prepare(X, mask=mask, lengths=lengths)
    return model.built.jacobian(data)
