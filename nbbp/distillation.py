"""Distillation: a small network learns what a large one says."""

import dataclasses

import numpy as np

from nbbp import checks
from nbbp.activations import ACTIVATIONS
from nbbp.history import History
from nbbp.losses import LOSSES
from nbbp.metrics import higher_is_better
from nbbp.model import Sequential


def distill(
    student: Sequential, teacher: Sequential, X, y, temperature: float = 4.0, share: float = 0.9, **fit
) -> History:
    """Train a student on a teacher's probabilities at a temperature, and on the true classes.

    The loss is share T^2 H(softmax(teacher / T), softmax(student / T)) + (1 - share) H(y, softmax(student)), H being
    the cross-entropy. Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015.

    Parameters
    ----------
    student, teacher : Sequential
        Both with the loss softmax_cross_entropy and as many outputs.
    X : array_like (rows, features)
    y : array_like (rows,) or (rows, outputs)
    temperature : float
        The higher, the more the teacher's small probabilities count.
    share : float in [0, 1)
        How much the teacher counts.
    **fit
        For `Sequential.fit`, such as ``epochs=20``.
    """
    checks.number("temperature", temperature, open_low=True)
    checks.number("share", share, high=1.0)
    for name, model in (("student", student), ("teacher", teacher)):
        if model.loss.name != "softmax_cross_entropy":
            raise ValueError(f"{name}: distillation is for the loss softmax_cross_entropy, not {model.loss.name}")
    classes = int(np.prod(teacher.network.layout.output_shape))

    def both(X, y) -> np.ndarray:
        """The teacher's probabilities and the true ones, (rows, 2 classes)."""
        data = teacher._data("X", X, "y", y)
        soft = teacher._outputs(data.x) / teacher.dtype.type(temperature)
        ACTIVATIONS["softmax"].forward.reference(soft)
        hard = np.eye(classes)[data.target[:, 0]] if data.target.dtype.kind == "i" else data.target
        return np.hstack([soft, hard])

    if fit.get("validation_data") is not None:
        X_held, y_held, *weights = fit["validation_data"]
        fit["validation_data"] = X_held, both(X_held, y_held), *weights
    truth = teacher._data("X", X, "y", y).truth
    fit["sample_weight"] = checks.weights(truth, fit.get("sample_weight"), fit.pop("class_weight", None), teacher.dtype)
    if student._network is None:
        student.build(np.asarray(X).shape[1])
    learner = student._copy(loss=dataclasses.replace(LOSSES["distillation"], numbers=(temperature, share)), metrics=[])
    learner.metrics = {name: _of_true_classes(metric, classes) for name, metric in student.metrics.items()}
    try:
        return learner.fit(X, both(X, y), **fit)
    finally:
        state = learner.__getstate__()
        student.__setstate__(state | {"settings": student.__getstate__()["settings"]})


def _of_true_classes(metric, classes: int):
    def measured(y, prediction, weight=None):
        return metric(y[:, classes:], prediction, weight)

    measured.higher_is_better = higher_is_better(metric)  # type: ignore[attr-defined]
    return measured
