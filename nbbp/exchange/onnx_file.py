"""A network as an ONNX file, opset 17: https://onnx.ai/onnx/operators/.

A layer of one's own enters a function in `LAYERS`, an activation one in `ACTIVATIONS`.
"""

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from nbbp._version import __version__
from nbbp.exchange import onnx_estimators
from nbbp.exchange.parts import Part, parts_of, writer
from nbbp.layers import Activation, BatchNorm, Dense, Dropout, Embedding, GaussianNoise, Layer, LayerNorm, Residual
from nbbp.sequential import Sequential
from nbbp.storage import files

if TYPE_CHECKING:
    from nbbp.sklearn import MLPClassifier, MLPRegressor

OPSET, IR_VERSION = 17, 8  # the first with LayerNormalization, of ONNX 1.12: older runtimes read it too
LIMIT = 2**31 - 2**20  # bytes of arrays; protobuf writes no more than 2 GiB

Output = tuple[str, np.dtype | type, list[int]]
"""The name of an array, its dtype, and its axes after the rows."""


def to_onnx(model: "Sequential | MLPClassifier | MLPRegressor", path: str | os.PathLike) -> None:
    """Write a model as ONNX: ``X`` (rows, *input_shape) to ``predictions`` (rows, outputs), for any number of rows.

    A fitted estimator of `nbbp.sklearn` has what its methods return: a classifier ``label`` and ``probabilities``, a
    regressor of one value ``predictions`` (rows,).

    The outputs are those of `predict`, after the link of the loss. Dropout and noise are left out, batch normalization
    has its running statistics. Both have the model's dtype; within a float64 model, gelu has float32's precision, for
    onnxruntime has no other, and so has epsilon, which ONNX keeps as float32. An Embedding takes the nearest category
    for a number outside of its range.

    Raises
    ------
    ValueError
        For a layer or an activation of one's own, and for more than 2 GiB.
    ImportError
        Without ONNX.
    """
    try:
        import onnx
        from onnx import helper
    except ImportError:
        raise ImportError('to_onnx needs ONNX: pip install "nbbp[onnx]"') from None
    trained: Sequential = getattr(model, "model_", model)
    if trained is model and hasattr(model, "get_params"):
        raise TypeError(f"{model!r} is not fitted, or no estimator of nbbp.sklearn: of a pipeline, give the last step")
    found = parts_of(trained)
    graph, network = Graph(trained.dtype), trained.network
    if (size := trained.params.nbytes + network.state.nbytes) > LIMIT:
        raise ValueError(f"the model has {size:,} bytes of arrays; an ONNX file holds at most {LIMIT:,}")
    y = _through(graph, found, "X")
    outputs = math.prod(network.graph.outputs[0].shape)
    if len(network.graph.outputs[0].shape) > 1:
        y = graph.node("Flatten", y)
    y = _activate(graph, trained.loss.link, y)
    answers: dict[str, Output] = {"predictions": (y, trained.dtype, [outputs])}
    if model is not trained:
        answers = onnx_estimators.answers(graph, model, y)
    for name, (array, *_) in answers.items():
        graph.nodes.append(helper.make_node("Identity", [array], [name]))
    written = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "nbbp",
            [_described("X", trained.dtype, network.graph.inputs[0].shape)],
            [_described(name, dtype, axes) for name, (_, dtype, axes) in answers.items()],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="nbbp",
        producer_version=__version__,
    )
    with files.writing(path, files.INCOMPLETE):
        onnx.save_model(written, os.fspath(path))


def _described(name: str, dtype, axes):
    """An input or output of the whole graph, (rows, *axes)."""
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["rows", *axes])


class Graph:
    """Nodes and constants as they are added.

    Attributes
    ----------
    nodes : list of onnx.NodeProto
    constants : dict of str to onnx.TensorProto
    dtype : numpy.dtype
        Of the model.
    """

    def __init__(self, dtype: np.dtype) -> None:
        self.nodes: list = []
        self.constants: dict = {}
        self.dtype = dtype

    def node(self, operator: str, *inputs: str, **attributes) -> str:
        """Add a node; returns the name of its output."""
        from onnx import helper

        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def array(self, name: str, values) -> str:
        """Add a constant; returns its name."""
        from onnx import numpy_helper

        self.constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def number(self, value: float) -> str:
        """Add a number of the model's dtype; returns its name."""
        return self.array(f"{value!r}", np.array(value, self.dtype))

    def cast(self, x: str, dtype) -> str:
        """Add a change of dtype; returns the name of its output."""
        from onnx import helper

        return self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _through(graph: Graph, found: list[Part], x: str) -> str:
    for part in found:
        x = writer(LAYERS, part, "ONNX", "nbbp.exchange.onnx_file.LAYERS")(graph, part, x)
    return x


def _activate(graph: Graph, name: str, x: str) -> str:
    if name not in ACTIVATIONS:
        place = f"nbbp.exchange.onnx_file.ACTIVATIONS[{name!r}]"
        raise ValueError(f"how the activation {name} is written as ONNX is not known; enter it in {place}")
    return ACTIVATIONS[name](graph, x)


def _leaky_relu(graph: Graph, x: str) -> str:
    return graph.node("Max", x, graph.node("Mul", x, graph.number(0.01)))


# onnxruntime has Elu, Selu and Softplus for float32 alone.
def _elu(graph: Graph, x: str, scale: float = 1.0, alpha: float = 1.0) -> str:
    """scale max(x, 0) + scale alpha (exp(min(x, 0)) - 1)."""
    above, below = graph.node("Relu", x), graph.node("Exp", graph.node("Min", x, graph.number(0.0)))
    below = graph.node("Sub", below, graph.number(1.0))
    if (scale, alpha) != (1.0, 1.0):
        above = graph.node("Mul", above, graph.number(scale))
        below = graph.node("Mul", below, graph.number(scale * alpha))
    return graph.node("Add", above, below)


def _selu(graph: Graph, x: str) -> str:
    return _elu(graph, x, 1.0507009873554805, 1.6732632423543772)


def _softplus(graph: Graph, x: str) -> str:
    """max(x, 0) + log(1 + exp(-|x|))."""
    small = graph.node("Exp", graph.node("Neg", graph.node("Abs", x)))
    return graph.node("Add", graph.node("Relu", x), graph.node("Log", graph.node("Add", small, graph.number(1.0))))


def _gelu(graph: Graph, x: str) -> str:
    """x (1 + erf(x / sqrt(2))) / 2."""
    erf = graph.node("Erf", graph.cast(graph.node("Mul", x, graph.number(math.sqrt(0.5))), np.float32))
    share = graph.node("Add", graph.cast(erf, graph.dtype), graph.number(1.0))
    return graph.node("Mul", graph.node("Mul", x, graph.number(0.5)), share)


ACTIVATIONS: dict[str, Callable[[Graph, str], str]] = {
    "linear": lambda graph, x: x,
    "sigmoid": lambda graph, x: graph.node("Sigmoid", x),
    "tanh": lambda graph, x: graph.node("Tanh", x),
    "relu": lambda graph, x: graph.node("Relu", x),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": _selu,
    "softplus": _softplus,
    "gelu": _gelu,
    "silu": lambda graph, x: graph.node("Mul", x, graph.node("Sigmoid", x)),
    "exponential": lambda graph, x: graph.node("Exp", x),
    "softmax": lambda graph, x: graph.node("Softmax", x, axis=-1),
}


def _arrays(graph: Graph, part: Part) -> dict[str, str]:
    """Names of the layer's arrays by their short names."""
    return {key: graph.array(f"{part.name}.{key}", array) for key, array in part.arrays.items()}


def _dense(graph: Graph, part: Part, x: str) -> str:
    return graph.node("Gemm", x, *_arrays(graph, part).values())


def _batch_norm(graph: Graph, part: Part, x: str) -> str:
    """ONNX has the features in the second axis, nbbp in the last."""
    names, shape = _arrays(graph, part), part.input_shape
    if len(shape) > 1:
        x = graph.node("Reshape", x, graph.array(f"{part.name}.rows", np.array([-1, shape[-1]])))
    y = graph.node("BatchNormalization", x, *names.values(), epsilon=part.layer.epsilon)
    return y if len(shape) == 1 else graph.node("Reshape", y, graph.array(f"{part.name}.shape", np.array([-1, *shape])))


def _layer_norm(graph: Graph, part: Part, x: str) -> str:
    return graph.node("LayerNormalization", x, *_arrays(graph, part).values(), epsilon=part.layer.epsilon)


def _embedding(graph: Graph, part: Part, x: str) -> str:
    names, categories = _arrays(graph, part), part.layer.categories
    others = [column for column in range(part.input_shape[0]) if column not in categories]
    pieces = [graph.node("Gather", x, graph.array(f"{part.name}.others", np.array(others)), axis=1)] if others else []
    for (column, count), table in zip(categories.items(), names.values(), strict=True):
        codes = graph.node("Gather", x, graph.array(f"{part.name}.column_{column}", np.array(column)), axis=1)
        limits = (graph.array(f"{table}.{value}", np.array(value)) for value in (0, count - 1))
        codes = graph.node("Clip", graph.cast(codes, np.int64), *limits)
        pieces.append(graph.node("Gather", table, codes, axis=0))
    return graph.node("Concat", *pieces, axis=1)


def _residual(graph: Graph, part: Part, x: str) -> str:
    within, projection = part.inside()
    y = _through(graph, within, x)
    if projection is not None:
        x = graph.node("MatMul", x, graph.array(f"{part.name}.projection.w", projection))
    return graph.node("Add", x, y)


LAYERS: dict[type[Layer], Callable[[Graph, Part, str], str]] = {
    Activation: lambda graph, part, x: _activate(graph, part.layer.name, x),
    BatchNorm: _batch_norm,
    Dense: _dense,
    Dropout: lambda graph, part, x: x,
    Embedding: _embedding,
    GaussianNoise: lambda graph, part, x: x,
    LayerNorm: _layer_norm,
    Residual: _residual,
}
