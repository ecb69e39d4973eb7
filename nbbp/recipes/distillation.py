"""Distillation: a small network learns the predictions of a large one."""

import dataclasses

import numpy as np

from nbbp import checks
from nbbp.activations import ACTIVATIONS
from nbbp.losses import LOSSES
from nbbp.metrics import OwnMetric
from nbbp.model import Model
from nbbp.sequential import Sequential
from nbbp.training.history import History


def distill(student: Sequential, teacher: Model, X, y, temperature: float = 4.0, share: float = 0.9, **fit) -> History:
    """Train a student on a teacher's probabilities at a temperature, and on the true classes.

    The loss is share T^2 H(softmax(teacher / T), softmax(student / T)) + (1 - share) H(y, softmax(student)), where H is
    the cross-entropy. Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015.

    Parameters
    ----------
    student, teacher : Sequential
        Networks with the loss softmax_cross_entropy and the same number of outputs.
    X : array_like (rows, features)
    y : array_like (rows,) or (rows, outputs)
    temperature : float
        The temperature: the higher it is, the more the teacher's small probabilities count.
    share : float in [0, 1)
        The weight of the teacher.
    **fit
        Arguments of `Sequential.fit`, such as ``epochs=20``.
    """
    checks.number("temperature", temperature, open_low=True)
    checks.number("share", share, high=1.0)
    for name, model in (("student", student), ("teacher", teacher)):
        if model.loss.name != "softmax_cross_entropy":
            raise ValueError(f"{name}: distillation is for the loss softmax_cross_entropy, not {model.loss.name}")
    classes = teacher.network.graph.outputs[0].shape[-1]

    def both(X, y, mask, lengths) -> np.ndarray:
        """The teacher's probabilities and the true ones, (rows, 2 classes)."""
        data = teacher.prepare(X, y, mask=mask, lengths=lengths)
        (target,) = data.targets
        soft = teacher.built.measure.outputs(data)[0] / teacher.dtype.type(temperature)
        ACTIVATIONS["softmax"].forward.reference(soft)
        hard = np.eye(classes)[target[:, 0]] if target.dtype.kind == "i" else target
        return np.hstack([soft, hard])

    if fit.get("validation_data") is not None:
        X_held, y_held, *others = (*fit["validation_data"], None, None, None)[:5]
        fit["validation_data"] = X_held, both(X_held, y_held, *others[1:]), *others
    where = fit.get("mask"), fit.get("lengths")
    truth = teacher.prepare(X, y, mask=where[0], lengths=where[1]).truths[0]
    fit["sample_weight"] = checks.weights(truth, fit.get("sample_weight"), fit.pop("class_weight", None), teacher.dtype)
    if not student.is_built:
        student.build(np.shape(X)[1:])
    loss = dataclasses.replace(LOSSES["distillation"], numbers=(temperature, share))
    metrics = [_OfTrueClasses(name, metric, classes) for name, metric in student.metrics.items()]
    learner = student.copy(loss=loss, metrics=metrics)
    try:
        return learner.fit(X, both(X, y, *where), **fit)
    finally:
        student.take(learner)


@dataclasses.dataclass(frozen=True)
class _OfTrueClasses(OwnMetric):
    """A metric of the true classes only."""

    classes: int

    def __call__(self, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
        return self.function(y[:, self.classes :], prediction, weight)
