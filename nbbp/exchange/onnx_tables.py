"""The layers of tables as operators of ONNX: see `nbbp.exchange.onnx_file`."""

import math
from collections.abc import Callable

import numpy as np

from nbbp.engine.node import Node
from nbbp.exchange.onnx_writer import Parameters, Writer


def scale(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    return writer.operator("Mul", x, p["s"])


def mixture(writer: Writer, p: Parameters, x: str, activation: Callable[[Writer, str], str]) -> str:
    """x + alpha (f(x) - x)."""
    difference = writer.operator("Sub", activation(writer, x), x)
    return writer.operator("Add", x, writer.operator("Mul", p["alpha"], difference))


def clamp(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    low, high = (
        writer.array(name, np.array(getattr(node.layer, name), writer.dtype).reshape(-1)) for name in ("low", "high")
    )
    return writer.operator("Min", writer.operator("Max", x, low), high)


def periodic_embedding(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    (n,) = node.inputs[0].shape
    x = writer.operator("Unsqueeze", x, writer.array("last_axis", np.array([-1])))
    turns = writer.operator("Add", writer.operator("Mul", x, p["frequencies"]), p["phases"])
    turns = writer.operator("Sub", turns, writer.operator("Round", turns))
    cosines = writer.operator("Cos", writer.operator("Mul", turns, writer.number(2 * math.pi)))
    mixtures = writer.operator("Einsum", cosines, p["w"], equation="rnk,nek->rne")
    y = writer.operator("Concat", x, writer.operator("Add", mixtures, p["b"]), axis=-1)
    return writer.operator("Reshape", y, writer.array("features", np.array([-1, 4 * n])))
