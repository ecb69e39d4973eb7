"""What a scikit-learn estimator makes of its network's outputs, as ONNX nodes: class labels, and values of one axis."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nbbp.exchange.onnx_file import Graph, Output


def answers(graph: "Graph", estimator: Any, y: str) -> "dict[str, Output]":
    """Add the nodes from the network's predictions y (rows, outputs) to what the estimator's methods return.

    The outputs are ``label`` and ``probabilities`` of a classifier, ``predictions`` of a regressor.
    """
    outputs = estimator.n_outputs_
    if not hasattr(estimator, "classes_"):
        if outputs > 1:
            return {"predictions": (y, graph.dtype, [outputs])}
        return {"predictions": (graph.node("Squeeze", y, graph.array("axis", np.array([1]))), graph.dtype, [])}
    classes = estimator.classes_
    if outputs > 1 and estimator.out_activation_ != "softmax":  # several labels a row
        label = graph.cast(graph.node("Greater", y, graph.number(0.5)), np.int64)
        return {"label": (label, np.int64, [outputs]), "probabilities": (y, graph.dtype, [outputs])}
    if len(classes) == 1:
        y = graph.node("Add", graph.node("Mul", y, graph.number(0.0)), graph.number(1.0))
    elif outputs == 1:
        y = graph.node("Concat", graph.node("Sub", graph.number(1.0), y), y, axis=1)
    names = classes.astype(object if classes.dtype.kind in "OUS" else classes.dtype)
    label = graph.node("Gather", graph.array("classes", names), graph.node("ArgMax", y, axis=1, keepdims=0))
    return {"label": (label, names.dtype, []), "probabilities": (y, graph.dtype, [len(classes)])}
