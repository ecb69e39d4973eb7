"""A network as one Python file that needs nothing but NumPy: a forward pass to read, and the arrays below it.

To support a layer of one's own, add a function to `LAYERS`; for an activation, add its lines to `ACTIVATIONS`.
"""

import base64
import collections
import functools
import inspect
import itertools
import json
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from nbbp._version import __version__
from nbbp.engine.forms import Form
from nbbp.engine.graph import Graph
from nbbp.engine.node import Edge, Node
from nbbp.exchange import numpy_functions, numpy_images, numpy_realmlp, numpy_recurrent, numpy_tables, walk
from nbbp.insight import summary
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
from nbbp.model import Model
from nbbp.recipes.tabular import TableModel
from nbbp.storage.files import replace

FILE = '''"""A network written by nbbp {version}; predict(X) is all that it takes, and NumPy all that it needs.

{summary}
"""

import base64
{math}
import numpy as np


def predict(X):
    """Predictions {outputs} for X {inputs}."""
{lines}
{functions}{array}

weights = {{
{weights}
}}
'''

ARRAY = '''

def _array(shape, text):
    """Little-endian {dtype} numbers in base64."""
    return np.frombuffer(base64.b64decode(text), "<f{bytes}").reshape(shape)
'''


def to_numpy_file(model: Model | TableModel, path: str | os.PathLike) -> None:
    """Write a model as a Python file with a function ``predict(X)``, made to be read.

    The function has a line or two of NumPy for each layer, takes and returns what `Model.predict` does without a mask,
    in the model's dtype, and leaves out what acts in training alone. Below it are the functions that it calls, such as
    a convolution, and the arrays as base64 text, a third longer than their bytes; for networks beyond a few million
    parameters `to_onnx` is better. A ColumnEmbedding takes the nearest category for a number out of range,
    and so does an Embedding.

    The file of a `TableModel`, or of a fitted TabularClassifier or TabularRegressor, has ``predict(table)``, which
    takes the columns as they are, in a dict of lists or a table of pandas, and returns classes or values;
    ``outputs(table)`` returns probabilities.

    Raises
    ------
    ValueError
        For a layer or an activation that is not in `LAYERS` or `ACTIVATIONS`, such as one of one's own.
    """
    trained = getattr(model, "model_", model)
    if isinstance(trained, TableModel):
        replace(path, _of_table(trained).encode())
    else:
        walk.check(trained)
        replace(path, _of_model(trained).encode())


def _of_model(model: Model) -> str:
    """The file of a network."""
    network, graph = model.network, model.network.graph
    lines = list(_forward(model))
    return FILE.format(
        version=__version__,
        summary=_summary(model),
        math="import math\n" if any("math." in line for line in lines) else "",
        outputs=_within_quotes(_shapes(model.outputs, graph.outputs)),
        inputs=_within_quotes(_shapes(model.inputs, graph.inputs)),
        array=ARRAY.format(dtype=model.dtype.name, bytes=model.dtype.itemsize),
        lines=textwrap.indent("\n".join(lines), " " * 4),
        functions=_functions("\n".join(lines)),
        weights="\n".join(itertools.starmap(_literal, network.layout.named(network.params, network.state).items())),
    )


def _of_table(model: TableModel) -> str:
    """The file of a model of a table: a function for each member."""
    networks = []
    for k, member in enumerate(model.members, 1):
        lines = [f"weights = weights_{k}", *_forward(member)]
        literals = itertools.starmap(_literal, member.network.layout.named(member.params, member.network.state).items())
        source = f"def network_{k}(X):\n" + textwrap.indent("\n".join(lines), " " * 4)
        networks.append((source, f"weights_{k} = {{\n" + "\n".join(literals) + "\n}\n"))
    first = model.members[0]
    reader = ARRAY.format(dtype=first.dtype.name, bytes=first.dtype.itemsize)
    functions = _functions("\n".join(source for source, _ in networks)) + reader
    networks[-1] = (networks[-1][0] + functions, networks[-1][1])
    return numpy_tables.text(model, _summary(first), networks)


def _summary(model: Model) -> str:
    """The layers, for a docstring."""
    return _within_quotes("\n".join(line.rstrip() for line in summary.text(model.network.layout).splitlines()))


def _quoted(name: str) -> str:
    """A string as a Python literal."""
    return json.dumps(name, ensure_ascii=False)


def _within_quotes(text: str) -> str:
    """A text escaped for a docstring."""
    return text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')


def _shapes(form: Form, edges: Sequence[Edge]) -> str:
    """Shapes in the form in which arrays are given: ``(rows, 3)``, or ``{policy: (rows, 3), value: (rows, 1)}``."""
    shapes = [f"(rows, {', '.join(map(str, edge.shape))})" for edge in edges]
    packed = form.packed(shapes)
    if isinstance(packed, dict):
        return "{" + ", ".join(f"{name}: {shape}" for name, shape in packed.items()) + "}"
    return f"[{', '.join(packed)}]" if isinstance(packed, list) else packed


def _functions(text: str) -> str:
    """The functions of `numpy_functions` that a text calls, and those that they call."""
    sources = []
    for function in numpy_functions.FUNCTIONS:
        if re.search(rf"\b{function.__name__}\(", text):
            sources.append(f"\n\n{inspect.getsource(function)}")
            text += sources[-1]
    return "".join(sources)


def _literal(name: str, array: np.ndarray) -> str:
    text = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    rows = "\n".join(text[i : i + 116] for i in range(0, len(text), 116))
    return f'    {_quoted(name)}: _array({array.shape}, """\n{rows}"""),'


def _forward(model: Model) -> Iterator[str]:
    """The lines from X to the returned value."""
    graph = model.network.graph
    variables = _Variables(graph)
    yield from _inputs(model, variables)
    for node in graph.nodes:
        write = walk.of_layer(LAYERS, model, node, "NumPy", "nbbp.exchange.numpy_file.LAYERS")
        p = {key: f"weights[{_quoted(name)}]" for key, name in walk.parameters(model, node).items()}
        given = [variables.read(edge) for edge in node.inputs]
        made = variables.free(given, len(node.outputs))
        lines = write(node, p, ", ".join(made), *given)
        yield from lines
        for edge, name in zip(node.outputs, made if lines else given, strict=False):
            variables.hold(edge, name)
    results = []
    for edge, activation in zip(graph.outputs, walk.output_activations(model), strict=True):
        given = [variables.read(edge)]
        (name,) = variables.free(given, 1)
        lines = _activation(activation, name, *given)
        yield from lines
        results.append(name if lines else given[0])
        variables.keep(results[-1])
    packed = model.outputs.packed(results)
    if isinstance(packed, dict):
        yield "return {" + ", ".join(f"{_quoted(key)}: {name}" for key, name in packed.items()) + "}"
    else:
        yield f"return [{', '.join(packed)}]" if isinstance(packed, list) else f"return {packed}"


def _inputs(model: Model, variables: "_Variables") -> Iterator[str]:
    edges = model.network.graph.inputs
    if model.inputs.packed(list(edges)) is edges[0]:
        sources, names = ["X"], ["x"]
    else:
        keys = model.inputs.packed(model.inputs.names)
        sources = [f"X[{_quoted(key) if isinstance(keys, dict) else k}]" for k, key in enumerate(keys)]
        names = [f"x{k}" for k in range(1, len(edges) + 1)]
    for edge, name, source in zip(edges, names, sources, strict=True):
        variables.hold(edge, name)
        yield f"{name} = np.asarray({source}, np.{model.dtype})"


class _Variables:
    """The variables of the edges; a variable is reused once nothing reads its edges any more."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._held: dict[Edge, str] = {}
        self._reads: collections.Counter[str] = collections.Counter()  # reads that are still to come

    def hold(self, edge: Edge, name: str) -> None:
        """Assign an edge to a variable."""
        self._held[edge] = name
        self._reads[name] += len(self._graph.consumers.get(edge, ())) + self._graph.outputs.count(edge)

    def read(self, edge: Edge) -> str:
        """The variable of an edge; counts one read."""
        name = self._held[edge]
        self._reads[name] -= 1
        return name

    def keep(self, name: str) -> None:
        """Mark a variable as read at the end."""
        self._reads[name] += 1

    def free(self, given: Sequence[str], count: int) -> list[str]:
        """As many variables that may be overwritten: from those that are given, then from h, h2, ..."""
        others = (name for k in itertools.count(1) if (name := f"h{k}" if k > 1 else "h") not in given)
        names = itertools.chain(dict.fromkeys(given), others)
        return list(itertools.islice((name for name in names if not self._reads[name]), count))


def _activation(name: str, y: str, x: str) -> list[str]:
    lines = walk.of_activation(ACTIVATIONS, name, "NumPy", "nbbp.exchange.numpy_file.ACTIVATIONS")
    return [f"{line.format(x=x, y=y)}  # {name}" for line in lines]


ACTIVATIONS: dict[str, list[str]] = {
    "linear": [],
    "sigmoid": ["{y} = 0.5 * (1 + np.tanh(0.5 * {x}))"],
    "tanh": ["{y} = np.tanh({x})"],
    "relu": ["{y} = np.maximum({x}, 0)"],
    "leaky_relu": ["{y} = np.where({x} < 0, 0.01 * {x}, {x})"],
    "elu": ["{y} = np.where({x} < 0, np.expm1(np.minimum({x}, 0)), {x})"],
    "selu": ["{y} = 1.0507009873554805 * np.where({x} < 0, 1.6732632423543772 * np.expm1(np.minimum({x}, 0)), {x})"],
    "softplus": ["{y} = np.logaddexp({x}, 0)"],
    "gelu": ["{y} = 0.5 * {x} * np.vectorize(math.erfc, otypes=[{x}.dtype])(-{x}.astype(float) / math.sqrt(2))"],
    "silu": ["{y} = {x} * 0.5 * (1 + np.tanh(0.5 * {x}))"],
    "mish": ["{y} = {x} * np.tanh(np.logaddexp({x}, np.zeros_like({x})))"],
    "exponential": ["{y} = np.exp({x})"],
    "softmax": ["{y} = np.exp({x} - {x}.max(axis=-1, keepdims=True))", "{y} = {y} / {y}.sum(axis=-1, keepdims=True)"],
}
"""Lines that compute y from x; after the first, x may be overwritten."""

Parameters = dict[str, str]
"""Expressions for a layer's parameters and state, such as ``weights["dense_0.w"]``, by their short names."""


def _dense(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    bias = f" + {p['b']}" if "b" in p else ""
    return [f"{y} = {x} @ {p['w']}{bias}"]


def _batch_norm(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    epsilon = node.layer.epsilon  # type: ignore[attr-defined]
    return [
        f"{y} = ({x} - {p['mean']}) / np.sqrt({p['variance']} + {epsilon})",
        f"{y} = {y} * {p['gamma']} + {p['beta']}",
    ]


def _layer_norm(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    epsilon = node.layer.epsilon  # type: ignore[attr-defined]
    return [
        f"{y} = {x} - {x}.mean(axis=-1, keepdims=True)  # layer norm",
        f"{y} = {y} / np.sqrt(np.square({y}).mean(axis=-1, keepdims=True) + {epsilon})",
        f"{y} = {y} * {p['gamma']} + {p['beta']}",
    ]


def _column_embedding(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    categories: dict[int, int] = node.layer.categories  # type: ignore[attr-defined]
    others = [column for column in range(node.inputs[0].shape[-1]) if column not in categories]
    pieces = [f"{x}[..., {others}]"] if others else []
    for column, count in categories.items():
        pieces.append(f"{p[f'table_{column}']}[{x}[..., {column}].astype(int).clip(0, {count - 1})]")
    return ["pieces = [", *(f"    {piece}," for piece in pieces), "]", f"{y} = np.concatenate(pieces, axis=-1)"]


def _embedding(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    last = node.layer.tokens - 1  # type: ignore[attr-defined]
    return [f"{y} = {p['table']}[{x}.astype(int).clip(0, {last})]"]


def _positional_embedding(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    positions, features = node.inputs[0].shape
    return [f"{y} = {x} + {p.get('table', f'sinusoids({positions}, {features}).astype({x}.dtype)')}"]


def _feature_tokens(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    return [
        f"{y} = np.pad({x}, [(0, 0), (1, 0)])  # a class token, which has no feature",
        f"{y} = {y}[:, :, np.newaxis] * np.pad({p['w']}, [(1, 0), (0, 0)]) + {p['b']}",
    ]


def _reshape(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    return [f"{y} = {x}.reshape(len({x}), {', '.join(map(str, node.outputs[0].shape))})"]


LAYERS: dict[type[Layer], Callable[..., list[str]]] = {
    Activation: lambda node, p, y, x: _activation(node.layer.name, y, x),
    Add: lambda node, p, y, *xs: [f"{y} = {' + '.join(xs)}"],
    AveragePool1D: numpy_images.average_pool,
    AveragePool2D: numpy_images.average_pool,
    BatchNorm: _batch_norm,
    Clamp: numpy_realmlp.clamp,
    ColumnEmbedding: _column_embedding,
    Concatenate: lambda node, p, y, *xs: [f"{y} = np.concatenate([{', '.join(xs)}], axis=-1)"],
    Conv1D: numpy_images.convolution,
    Conv1DTranspose: numpy_images.transposed_convolution,
    Conv2D: numpy_images.convolution,
    Conv2DTranspose: numpy_images.transposed_convolution,
    Crop2D: numpy_images.cropped,
    Dense: _dense,
    Dropout: lambda node, p, y, x: [],
    Embedding: _embedding,
    FeatureTokens: _feature_tokens,
    Flatten: _reshape,
    GRU: numpy_recurrent.recurrent,
    GaussianNoise: lambda node, p, y, x: [],
    GlobalAveragePool: numpy_images.global_average,
    GlobalMaxPool: numpy_images.global_max,
    GroupNorm: numpy_images.group_norm,
    LSTM: numpy_recurrent.recurrent,
    LayerNorm: _layer_norm,
    MaxPool1D: numpy_images.max_pool,
    MaxPool2D: numpy_images.max_pool,
    Multiply: lambda node, p, y, x, other: [f"{y} = {x} * {other}"],
    ParametricActivation: functools.partial(numpy_realmlp.parametric, _activation),
    PeriodicEmbedding: numpy_realmlp.periodic_embedding,
    PositionalEmbedding: _positional_embedding,
    RandomCrop: numpy_images.cropped,
    RandomFlip: lambda node, p, y, x: [],
    RandomShift: lambda node, p, y, x: [],
    Rescale: lambda node, p, y, x: [f"{y} = {x} * {node.layer.scale} + {node.layer.offset}"],
    Reshape: _reshape,
    Scale: numpy_realmlp.scale,
    SimpleRNN: numpy_recurrent.recurrent,
    SpatialDropout: lambda node, p, y, x: [],
    TakeFirst: lambda node, p, y, x: [f"{y} = {x}[:, 0]"],
    TiedDense: lambda node, p, y, x: [f"{y} = {x} @ {p['table']}.T"],
    UpSample2D: numpy_images.enlarged,
    ZeroPad2D: numpy_images.padded,
}
"""Functions of the node, the expressions of its parameters, the output's variable and the inputs', that return lines;
after the first line the inputs may be overwritten; there are none if the output is the first input."""
