"""The layers of RealMLP as ONNX operators."""

import math
from collections.abc import Callable

import numpy as np

from nbbp.engine.node import Node
from nbbp.exchange.onnx_writer import Parameters, Writer


def scale(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    return writer.operator("Mul", x, p["s"])


def clamp(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    low, high = (
        writer.array(name, np.array(getattr(node.layer, name), writer.dtype).reshape(-1)) for name in ("low", "high")
    )
    return writer.operator("Min", writer.operator("Max", x, low), high)


def parametric(activate: Callable[[Writer, str, str], str], writer: Writer, node: Node, p: Parameters, x: str) -> str:
    """x + alpha (f(x) - x)."""
    bent = activate(writer, node.layer.name, x)  # type: ignore[attr-defined]
    return writer.operator("Add", x, writer.operator("Mul", p["alpha"], writer.operator("Sub", bent, x)))


def periodic_embedding(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    """Each number, and w cos(2 pi (f x + p)) + b beside it."""
    x = writer.operator("Unsqueeze", x, writer.array("last_axis", np.array([-1])))
    turns = writer.operator("Add", writer.operator("Mul", x, p["frequencies"]), p["phases"])
    turns = writer.operator("Sub", turns, writer.operator("Round", turns))
    waves = writer.operator("Cos", writer.operator("Mul", turns, writer.number(2 * math.pi)))
    mixed = writer.operator("Add", writer.operator("Einsum", waves, p["w"], equation="rnk,nek->rne"), p["b"])
    joined = writer.operator("Concat", x, mixed, axis=-1)
    return writer.operator("Reshape", joined, writer.array("shape", np.array([0, *node.outputs[0].shape])))
