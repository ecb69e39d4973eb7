"""ONNX operators for the results of a scikit-learn estimator: class labels, and values with one axis."""

from typing import Any

import numpy as np

from nbbp.exchange.onnx_writer import Output, Writer


def answers(writer: Writer, estimator: Any, y: str) -> dict[str, Output]:
    """Add the operators that turn the network's predictions y (rows, outputs) into the estimator's results.

    The outputs are ``label`` and ``probabilities`` of a classifier, ``predictions`` of a regressor.
    """
    outputs = estimator.n_outputs_
    if not hasattr(estimator, "classes_"):
        if outputs > 1:
            return {"predictions": (y, writer.dtype, [outputs])}
        return {"predictions": (writer.operator("Squeeze", y, writer.array("axis", np.array([1]))), writer.dtype, [])}
    classes = estimator.classes_
    if outputs > 1 and estimator.out_activation_ != "softmax":  # several labels a row
        label = writer.cast(writer.operator("Greater", y, writer.number(0.5)), np.int64)
        return {"label": (label, np.int64, [outputs]), "probabilities": (y, writer.dtype, [outputs])}
    if len(classes) == 1:
        y = writer.operator("Add", writer.operator("Mul", y, writer.number(0.0)), writer.number(1.0))
    elif outputs == 1:
        y = writer.operator("Concat", writer.operator("Sub", writer.number(1.0), y), y, axis=1)
    names = classes.astype(object if classes.dtype.kind in "OUS" else classes.dtype)
    label = writer.operator("Gather", writer.array("classes", names), writer.operator("ArgMax", y, axis=1, keepdims=0))
    return {"label": (label, names.dtype, []), "probabilities": (y, writer.dtype, [len(classes)])}
