"""A network as an ONNX file, opset 17: https://onnx.ai/onnx/operators/.

To support a layer of one's own, add a function to `LAYERS`; for an activation, add one to `ACTIVATIONS`.
"""

import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbbp._version import __version__
from nbbp.engine.node import Node
from nbbp.exchange import (
    onnx_dense,
    onnx_estimators,
    onnx_images,
    onnx_realmlp,
    onnx_recurrent,
    onnx_tables,
    onnx_tokens,
    walk,
)
from nbbp.exchange.onnx_arrays import Arrays
from nbbp.exchange.onnx_writer import Output, Parameters, Writer
from nbbp.layers import (
    GRU,
    LSTM,
    Activation,
    Add,
    AveragePool1D,
    AveragePool2D,
    BatchNorm,
    Clamp,
    ColumnEmbedding,
    Concatenate,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Crop2D,
    Dense,
    Dropout,
    Embedding,
    FeatureTokens,
    Flatten,
    GaussianNoise,
    GlobalAveragePool,
    GlobalMaxPool,
    GroupNorm,
    Layer,
    LayerNorm,
    MaxPool1D,
    MaxPool2D,
    Multiply,
    ParametricActivation,
    PeriodicEmbedding,
    PositionalEmbedding,
    RandomCrop,
    RandomFlip,
    RandomShift,
    Rescale,
    Reshape,
    Scale,
    SimpleRNN,
    SpatialDropout,
    TakeFirst,
    TiedDense,
    UpSample2D,
    ZeroPad2D,
)
from nbbp.layers.convolution import Convolution
from nbbp.layers.recurrent import Recurrent
from nbbp.model import Model
from nbbp.recipes.tabular import TableModel
from nbbp.storage import files

if TYPE_CHECKING:
    from nbbp.sklearn import MLPClassifier, MLPRegressor, TabularClassifier, TabularRegressor

OPSET, IR_VERSION = 17, 8  # the first with LayerNormalization, of ONNX 1.12: older runtimes read it too
LIMIT = 2**31 - 2**20  # bytes of arrays; protobuf writes no more than 2 GiB


def to_onnx(
    model: "Model | TableModel | MLPClassifier | MLPRegressor | TabularClassifier | TabularRegressor",
    path: str | os.PathLike,
) -> None:
    """Write a model as ONNX: inputs (rows, *input_shape) to predictions (rows, *positions, outputs), for any rows.

    A single input is named ``X`` and a single output ``predictions``; several have the names by which `Model.fit` takes
    them, and a named `Input` keeps its name. Predictions are those of `Model.predict` without a mask. What acts in
    training alone is left out, and batch normalization uses its running statistics. Rows of a stateful layer begin with
    0, as in `Model.predict`. Arrays have the model's dtype, and integer inputs stay integers; in a float64 model, gelu,
    convolutions, average pools, recurrent layers and GroupNorm have float32's precision, since onnxruntime has no
    other, and so has epsilon, which ONNX stores as float32. A ColumnEmbedding takes the nearest category for a number
    out of range, and so does an Embedding.

    Inputs and outputs have features last, as in nbbp. Convolutions and pools have channels first in ONNX: there is a
    Transpose where the order changes, such as before the first convolution and before a Flatten, and none between.

    A `TableModel`, or a fitted TabularClassifier or TabularRegressor, takes the columns of a table as they are, each as
    an input (rows,) with its name: numbers as float64, missing ones nan; text as strings, missing ones empty; dates as
    int64 microseconds since 1970, ``column.astype("datetime64[us]").astype(np.int64)``. Text has no spaces at its ends,
    and categories that are numbers are text as in ``str(7)``.

    The outputs of a fitted estimator of `nbbp.sklearn` are what its methods return: ``label`` and ``probabilities`` of
    a classifier, ``predictions`` (rows,) of a regressor of one value.

    Raises
    ------
    ValueError
        If a layer or an activation, such as one of one's own, is not in `LAYERS` or `ACTIVATIONS`, if two inputs or
        outputs have the same name, or if the arrays exceed 2 GiB.
    ImportError
        If ONNX is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise ImportError('to_onnx needs ONNX: pip install "nbbp[onnx]"') from None
    trained: Model | TableModel = getattr(model, "model_", model)
    if trained is model and hasattr(model, "get_params"):
        raise TypeError(f"{model!r} is not fitted, or no estimator of nbbp.sklearn: of a pipeline, give the last step")
    if isinstance(trained, TableModel):
        _write(path, *_table(trained))
        return
    walk.check(trained)
    _check_size([trained])
    graph = trained.network.graph
    inputs: dict[str, Output] = {
        name: (name, edge.dtype or trained.dtype, edge.shape)
        for name, edge in zip(walk.input_names(trained), graph.inputs, strict=True)
    }
    names = [*walk.input_names(trained), *walk.output_names(trained)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two inputs or outputs have the name {twice[0]!r}; in an ONNX file each has one of its own")
    writer = Writer(trained.dtype, names)
    outputs = _write_nodes(writer, trained)
    if trained is not model:
        [(y, *_)] = outputs.values()
        outputs = onnx_estimators.answers(writer, model, y)
    _write(path, writer, inputs, outputs)


def _table(model: TableModel) -> tuple[Writer, dict[str, Output], dict[str, Output]]:
    """The operators from the columns of a table to its predictions, the inputs and the outputs."""
    _check_size(model.members)
    inputs = onnx_tables.inputs(model)
    writer = Writer(model.members[0].dtype, [*inputs, "label", "probabilities", "predictions"])
    sources = onnx_tables.encoded(writer, model)
    members = []
    for member in model.members:
        [(y, *_)] = _write_nodes(writer, member, sources).values()
        members.append(y)
    return writer, inputs, onnx_tables.answers(writer, model, members)


def _check_size(models: Sequence[Model]) -> None:
    """ValueError if the arrays do not fit into a file."""
    if (size := sum(model.params.nbytes + model.network.state.nbytes for model in models)) > LIMIT:
        raise ValueError(f"the model has {size:,} bytes of arrays; an ONNX file holds at most {LIMIT:,}")


def _write(path, writer: Writer, inputs: dict[str, Output], outputs: dict[str, Output]) -> None:
    """Write the file."""
    import onnx
    from onnx import helper

    for name, (array, *_) in outputs.items():
        writer.result(name, array)
    written = helper.make_model(
        helper.make_graph(
            writer.operators,
            "nbbp",
            _described(inputs),
            _described(outputs),
            list(writer.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(*onnx_tables.OF_TEXT)],
        ir_version=IR_VERSION,
        producer_name="nbbp",
        producer_version=__version__,
    )
    with files.writing(path, files.INCOMPLETE):
        onnx.save_model(written, os.fspath(path))


def _described(ends: dict[str, Output]) -> list:
    """ONNX descriptions of inputs or outputs."""
    from onnx import helper

    return [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["rows", *axes])
        for name, (_, dtype, axes) in ends.items()
    ]


def _write_nodes(writer: Writer, model: Model, sources: dict[str, str] | None = None) -> dict[str, Output]:
    """Add the operators of each node, then the output activations; returns the predictions by the outputs' names.

    The arrays of the inputs are `sources`, or have the inputs' names.
    """
    network, graph = model.network, model.network.graph
    constants = {
        f"{place.name}.{key}": writer.array(f"{place.name}.{key}", _stored(place.layer, array))
        for place in network.layout.places
        for key, array in vars(place.views(network.params, network.state)).items()
    }
    arrays = Arrays(writer)
    for source, name in zip(graph.inputs, walk.input_names(model), strict=True):
        arrays.hold(source, name if sources is None else sources[name])
    for node in graph.nodes:
        write = walk.of_layer(LAYERS, model, node, "ONNX", "nbbp.exchange.onnx_file.LAYERS")
        writer.scope = f"{graph.names[node]}/"
        first = _come_first(arrays, node)
        writer.axis = 1 if first else -1
        p = {key: constants[name] for key, name in walk.parameters(model, node).items()}
        given = [arrays.given(e) if type(node.layer) in OF_INTEGERS else arrays.read(e, first) for e in node.inputs]
        made = write(writer, node, p, *given)
        for edge, name in zip(node.outputs, [made] if isinstance(made, str) else made, strict=True):
            arrays.hold(edge, name, first)
    writer.axis = -1
    predictions: dict[str, Output] = {}
    activations = walk.output_activations(model)
    for name, edge, activation in zip(walk.output_names(model), graph.outputs, activations, strict=True):
        writer.scope = f"{name}/"
        predictions[name] = (_activate(writer, activation, arrays.read(edge)), model.dtype, edge.shape)
    writer.scope = ""
    return predictions


def _stored(layer: Layer, array: np.ndarray) -> np.ndarray:
    """A parameter as the file holds it."""
    if isinstance(layer, Recurrent):
        return onnx_recurrent.stored(layer, array)
    return walk.outputs_first(array).astype(np.float32) if isinstance(layer, Convolution) else array


def _come_first(arrays: Arrays, node: Node) -> bool:
    """Whether a node takes and returns arrays with channels first."""
    if type(node.layer) in IN_ANY_ORDER:
        return any(map(arrays.held_first, node.inputs))
    return type(node.layer) in IN_CHANNELS_FIRST


def _activate(writer: Writer, name: str, x: str) -> str:
    return walk.of_activation(ACTIVATIONS, name, "ONNX", "nbbp.exchange.onnx_file.ACTIVATIONS")(writer, x)


def _leaky_relu(writer: Writer, x: str) -> str:
    return writer.operator("Max", x, writer.operator("Mul", x, writer.number(0.01)))


# onnxruntime has Elu, Selu and Softplus for float32 only.
def _elu(writer: Writer, x: str, scale: float = 1.0, alpha: float = 1.0) -> str:
    """scale max(x, 0) + scale alpha (exp(min(x, 0)) - 1)."""
    above, below = writer.operator("Relu", x), writer.operator("Exp", writer.operator("Min", x, writer.number(0.0)))
    below = writer.operator("Sub", below, writer.number(1.0))
    if (scale, alpha) != (1.0, 1.0):
        above = writer.operator("Mul", above, writer.number(scale))
        below = writer.operator("Mul", below, writer.number(scale * alpha))
    return writer.operator("Add", above, below)


def _selu(writer: Writer, x: str) -> str:
    return _elu(writer, x, 1.0507009873554805, 1.6732632423543772)


def _softplus(writer: Writer, x: str) -> str:
    """max(x, 0) + log(1 + exp(-|x|))."""
    small = writer.operator("Exp", writer.operator("Neg", writer.operator("Abs", x)))
    rest = writer.operator("Log", writer.operator("Add", small, writer.number(1.0)))
    return writer.operator("Add", writer.operator("Relu", x), rest)


def _gelu(writer: Writer, x: str) -> str:
    """x (1 + erf(x / sqrt(2))) / 2."""
    erf = writer.operator("Erf", writer.cast(writer.operator("Mul", x, writer.number(math.sqrt(0.5))), np.float32))
    share = writer.operator("Add", writer.cast(erf, writer.dtype), writer.number(1.0))
    return writer.operator("Mul", writer.operator("Mul", x, writer.number(0.5)), share)


ACTIVATIONS: dict[str, Callable[[Writer, str], str]] = {
    "linear": lambda writer, x: x,
    "sigmoid": lambda writer, x: writer.operator("Sigmoid", x),
    "tanh": lambda writer, x: writer.operator("Tanh", x),
    "relu": lambda writer, x: writer.operator("Relu", x),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": _selu,
    "softplus": _softplus,
    "gelu": _gelu,
    "silu": lambda writer, x: writer.operator("Mul", x, writer.operator("Sigmoid", x)),
    "mish": lambda writer, x: writer.operator("Mul", x, writer.operator("Tanh", _softplus(writer, x))),
    "exponential": lambda writer, x: writer.operator("Exp", x),
    "softmax": lambda writer, x: writer.operator("Softmax", x, axis=writer.axis),
}


def _rescale(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    y = writer.operator("Mul", x, writer.number(node.layer.scale))  # type: ignore[attr-defined]
    return writer.operator("Add", y, writer.number(node.layer.offset))  # type: ignore[attr-defined]


def _reshape(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    return writer.operator("Reshape", x, writer.array("shape", np.array([0, *node.outputs[0].shape])))  # 0: the rows


LAYERS: dict[type[Layer], Callable[..., str | Sequence[str]]] = {
    Activation: lambda writer, node, p, x: _activate(writer, node.layer.name, x),
    Add: lambda writer, node, p, *xs: functools.reduce(functools.partial(writer.operator, "Add"), xs),
    AveragePool1D: onnx_images.pool,
    AveragePool2D: onnx_images.pool,
    BatchNorm: onnx_dense.batch_norm,
    Clamp: onnx_realmlp.clamp,
    ColumnEmbedding: onnx_tokens.column_embedding,
    Concatenate: lambda writer, node, p, *xs: writer.operator("Concat", *xs, axis=writer.axis),
    Conv1D: onnx_images.convolution,
    Conv1DTranspose: onnx_images.transposed_convolution,
    Conv2D: onnx_images.convolution,
    Conv2DTranspose: onnx_images.transposed_convolution,
    Crop2D: onnx_images.cropped,
    Dense: onnx_dense.dense,
    Dropout: lambda writer, node, p, x: x,
    Embedding: onnx_tokens.embedding,
    FeatureTokens: onnx_tokens.feature_tokens,
    Flatten: _reshape,
    GRU: onnx_recurrent.recurrent,
    GaussianNoise: lambda writer, node, p, x: x,
    GlobalAveragePool: onnx_images.global_average,
    GlobalMaxPool: onnx_images.global_max,
    GroupNorm: onnx_images.group_norm,
    LSTM: onnx_recurrent.recurrent,
    LayerNorm: onnx_dense.layer_norm,
    MaxPool1D: onnx_images.pool,
    MaxPool2D: onnx_images.pool,
    Multiply: lambda writer, node, p, x, other: writer.operator("Mul", x, other),
    ParametricActivation: functools.partial(onnx_realmlp.parametric, _activate),
    PeriodicEmbedding: onnx_realmlp.periodic_embedding,
    PositionalEmbedding: onnx_tokens.positional_embedding,
    RandomCrop: onnx_images.cropped,
    RandomFlip: lambda writer, node, p, x: x,
    RandomShift: lambda writer, node, p, x: x,
    Rescale: _rescale,
    Reshape: _reshape,
    Scale: onnx_realmlp.scale,
    SimpleRNN: onnx_recurrent.recurrent,
    SpatialDropout: lambda writer, node, p, x: x,
    TakeFirst: onnx_tokens.take_first,
    TiedDense: onnx_tokens.tied_dense,
    UpSample2D: onnx_images.enlarged,
    ZeroPad2D: onnx_images.padded,
}
"""Functions of the writer, the node, the names of its parameters and of its inputs, that add operators and return the
name of the output, or names of several."""

OF_INTEGERS = {ColumnEmbedding, Embedding, Flatten, Reshape}
"""Layers that take integer inputs as they are; others take them in the model's dtype."""

IN_CHANNELS_FIRST = {
    AveragePool1D,
    AveragePool2D,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    GroupNorm,
    MaxPool1D,
    MaxPool2D,
    UpSample2D,
}
"""Layers whose functions take and return arrays (rows, channels, *positions); those of others have features last."""

IN_ANY_ORDER = {
    Activation,
    Add,
    BatchNorm,
    Concatenate,
    Crop2D,
    Dropout,
    GaussianNoise,
    GlobalAveragePool,
    GlobalMaxPool,
    Multiply,
    RandomCrop,
    RandomFlip,
    RandomShift,
    Rescale,
    SpatialDropout,
    ZeroPad2D,
}
"""Layers whose functions take arrays in either order, all in the same, and return them in it: see `Writer.axis`."""
