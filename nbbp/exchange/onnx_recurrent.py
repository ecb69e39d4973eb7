"""Recurrent layers as ONNX operators, which take arrays (time, rows, features) and sum two biases.

onnxruntime has them for float32 only.
"""

import numpy as np

from nbbp.engine.node import Node
from nbbp.exchange.onnx_writer import Parameters, Writer
from nbbp.layers.gru import GRU
from nbbp.layers.lstm import LSTM
from nbbp.layers.recurrent import Recurrent
from nbbp.layers.simple_rnn import SimpleRNN

KINDS: dict[type[Recurrent], str] = {SimpleRNN: "RNN", GRU: "GRU", LSTM: "LSTM"}


def stored(layer: Recurrent, array: np.ndarray) -> np.ndarray:
    """A parameter as the file holds it, for one direction: (1, outputs, inputs), in ONNX's order of gates."""
    if isinstance(layer, LSTM):
        i, f, g, o = np.split(array, 4, axis=-1)
        array = np.concatenate([i, o, f, g], axis=-1)
    return array.T[np.newaxis].astype(np.float32)


def recurrent(writer: Writer, node: Node, p: Parameters, x: str, *states: str) -> list[str]:
    """Rows begin with the states given, or with 0, in a stateful layer too."""
    layer: Recurrent = node.layer  # type: ignore[assignment]
    settings: dict = {"hidden_size": layer.units, "direction": "reverse" if layer.backwards else "forward"}
    if isinstance(layer, SimpleRNN):
        settings["activations"] = [layer.activation.capitalize()]
    if isinstance(layer, GRU):
        settings["linear_before_reset"] = int(layer.reset_after)
    first = [writer.operator("Unsqueeze", _cast(writer, h, np.float32), _axis(writer, 0)) for h in states]
    x = writer.operator("Transpose", _cast(writer, x, np.float32), perm=[1, 0, 2])
    given = [x, p["w"], p["u"], _biases(writer, layer, p), "", *first]
    y, *last = writer.operator_of_several(KINDS[type(layer)], 1 + len(layer.states), *given, **settings)
    read = last if layer.return_state else last[: not layer.return_sequences]
    made = [writer.operator("Squeeze", h, _axis(writer, 0)) for h in read]
    if layer.return_sequences:
        y = writer.operator("Squeeze", y, _axis(writer, 1))
        made.insert(0, writer.operator("Transpose", y, perm=[1, 0, 2]))
    elif layer.return_state:
        made.insert(0, made[0])
    return [_cast(writer, h, writer.dtype) for h in made]


def _cast(writer: Writer, x: str, dtype: np.dtype | type) -> str:
    return x if writer.dtype == np.float32 else writer.cast(x, dtype)


def _axis(writer: Writer, k: int) -> str:
    """The axis of directions, of which there is one, as a constant."""
    return writer.array("directions", np.array([k]))


def _biases(writer: Writer, layer: Recurrent, p: Parameters) -> str:
    """Both biases, one behind the other: the second is 0 up to that on which a GRU's reset gate acts."""
    if not layer.use_bias:
        return ""
    zeros = layer.units * (layer.gates - ("c" in p))
    rest = writer.array("zeros", np.zeros((1, zeros), np.float32))
    return writer.operator("Concat", *filter(None, [p["b"], rest, p.get("c")]), axis=1)
