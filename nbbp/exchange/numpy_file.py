"""A network as one Python file that needs nothing but NumPy: a forward pass to read, and the arrays below it.

A layer of one's own enters a function in `LAYERS`, an activation its lines in `ACTIVATIONS`.
"""

import base64
import math
import os
import textwrap
from collections.abc import Callable, Iterator

import numpy as np

from nbbp._version import __version__
from nbbp.exchange.parts import Part, parts_of, writer
from nbbp.layers import Activation, BatchNorm, Dense, Dropout, Embedding, GaussianNoise, Layer, LayerNorm, Residual
from nbbp.sequential import Sequential
from nbbp.storage.files import replace

FILE = '''"""A network written by nbbp {version}; predict(X) is all that it takes, and NumPy all that it needs.

{summary}
"""

import base64
{math}
import numpy as np


def predict(X):
    """Predictions (rows, {outputs}) for X (rows, {features})."""
    x = np.asarray(X, np.{dtype})
{lines}
    return x


def _array(shape, text):
    """Little-endian {dtype} numbers in base64."""
    return np.frombuffer(base64.b64decode(text), "<f{bytes}").reshape(shape)


weights = {{
{weights}
}}
'''


def to_numpy_file(model: Sequential, path: str | os.PathLike) -> None:
    """Write a model as a Python file with a function ``predict(X)``, made to be read.

    The function has a line or two of NumPy for each layer, gives what `predict` gives, in the model's dtype, and
    leaves out dropout and noise. The arrays stand below it as base64 text, a third longer than their bytes; for
    networks beyond a few million parameters `to_onnx` is better. An Embedding takes the nearest category for a number
    outside of its range.

    Raises
    ------
    ValueError
        For a layer or an activation of one's own.
    """
    found = parts_of(model)
    layout, lines = model.network.layout, list(_through(found))
    if len(layout.graph.outputs[0].shape) > 1:
        lines.append("x = x.reshape(len(x), -1)")
    if model.loss.link != "linear":
        lines += _activation(model.loss.link)
    text = FILE.format(
        version=__version__,
        summary="\n".join(line.rstrip() for line in model.summary().splitlines()),
        math="import math\n" if any("math." in line for line in lines) else "",
        outputs=math.prod(layout.graph.outputs[0].shape),
        features=", ".join(map(str, layout.graph.inputs[0].shape)),
        dtype=model.dtype.name,
        bytes=model.dtype.itemsize,
        lines=textwrap.indent("\n".join(lines), " " * 4),
        weights="\n".join(
            _literal(f"{part.name}.{key}", array) for part in found for key, array in part.arrays.items()
        ),
    )
    replace(path, text.encode())


def _literal(name: str, array: np.ndarray) -> str:
    text = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    rows = "\n".join(text[i : i + 116] for i in range(0, len(text), 116))
    return f'    "{name}": _array({array.shape}, """\n{rows}"""),'


def _through(found: list[Part]) -> Iterator[str]:
    for part in found:
        yield from writer(LAYERS, part, "NumPy", "nbbp.exchange.numpy_file.LAYERS")(part)


def _activation(name: str) -> list[str]:
    if name not in ACTIVATIONS:
        place = f"nbbp.exchange.numpy_file.ACTIVATIONS[{name!r}]"
        raise ValueError(f"how the activation {name} is written as NumPy is not known; enter its lines in {place}")
    return [f"{line}  # {name}" for line in ACTIVATIONS[name]]


ACTIVATIONS: dict[str, list[str]] = {
    "linear": [],
    "sigmoid": ["x = 0.5 * (1 + np.tanh(0.5 * x))"],
    "tanh": ["x = np.tanh(x)"],
    "relu": ["x = np.maximum(x, 0)"],
    "leaky_relu": ["x = np.where(x < 0, 0.01 * x, x)"],
    "elu": ["x = np.where(x < 0, np.expm1(np.minimum(x, 0)), x)"],
    "selu": ["x = 1.0507009873554805 * np.where(x < 0, 1.6732632423543772 * np.expm1(np.minimum(x, 0)), x)"],
    "softplus": ["x = np.logaddexp(x, 0)"],
    "gelu": ["x = 0.5 * x * np.vectorize(math.erfc, otypes=[x.dtype])(-x.astype(float) / math.sqrt(2))"],
    "silu": ["x = x * 0.5 * (1 + np.tanh(0.5 * x))"],
    "exponential": ["x = np.exp(x)"],
    "softmax": ["x = np.exp(x - x.max(axis=-1, keepdims=True))", "x = x / x.sum(axis=-1, keepdims=True)"],
}


def _weight(part: Part, key: str) -> str:
    return f'weights["{part.name}.{key}"]'


def _dense(part: Part) -> list[str]:
    bias = f" + {_weight(part, 'b')}" if "b" in part.arrays else ""
    return [f"x = x @ {_weight(part, 'w')}{bias}"]


def _scaled(part: Part) -> str:
    return f"x = x * {_weight(part, 'gamma')} + {_weight(part, 'beta')}"


def _batch_norm(part: Part) -> list[str]:
    mean, variance = _weight(part, "mean"), _weight(part, "variance")
    return [f"x = (x - {mean}) / np.sqrt({variance} + {part.layer.epsilon})", _scaled(part)]


def _layer_norm(part: Part) -> list[str]:
    variance = "np.square(x).mean(axis=-1, keepdims=True)"
    return [
        f"x = x - x.mean(axis=-1, keepdims=True)  # {part.name}",
        f"x = x / np.sqrt({variance} + {part.layer.epsilon})",
        _scaled(part),
    ]


def _embedding(part: Part) -> list[str]:
    others = [column for column in range(part.input_shape[0]) if column not in part.layer.categories]
    pieces = [f"x[:, {others}]"] if others else []
    for column, count in part.layer.categories.items():
        pieces.append(f"{_weight(part, f'table_{column}')}[x[:, {column}].astype(int).clip(0, {count - 1})]")
    return ["pieces = [", *(f"    {piece}," for piece in pieces), "]", "x = np.hstack(pieces)"]


def _residual(part: Part) -> list[str]:
    within, projection = part.inside()
    name = part.name.replace(".", "_")
    carried = name if projection is None else f"{name} @ {_weight(part, 'projection.w')}"
    return [f"{name} = x", *_through(within), f"x = {carried} + x"]


LAYERS: dict[type[Layer], Callable[[Part], list[str]]] = {
    Activation: lambda part: _activation(part.layer.name),
    BatchNorm: _batch_norm,
    Dense: _dense,
    Dropout: lambda part: [],
    Embedding: _embedding,
    GaussianNoise: lambda part: [],
    LayerNorm: _layer_norm,
    Residual: _residual,
}
