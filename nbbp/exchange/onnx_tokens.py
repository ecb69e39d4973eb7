"""Layers of tokens and of the features of tables as ONNX operators."""

import numpy as np

from nbbp.engine.node import Node
from nbbp.exchange.onnx_writer import Parameters, Writer
from nbbp.layers.positional_embedding import sinusoids


def _looked_up(writer: Writer, table: str, codes: str, count: int) -> str:
    """The rows of a table, the nearest one for a code out of range."""
    limits = (writer.array(name, np.array(value)) for name, value in (("first", 0), ("last", count - 1)))
    return writer.operator("Gather", table, writer.operator("Clip", writer.cast(codes, np.int64), *limits), axis=0)


def column_embedding(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    categories: dict[int, int] = node.layer.categories  # type: ignore[attr-defined]
    others = [column for column in range(node.inputs[0].shape[-1]) if column not in categories]
    pieces = []
    if others:
        kept = writer.operator("Gather", x, writer.array("others", np.array(others)), axis=-1)
        pieces.append(writer.cast(kept, writer.dtype))
    for column, count in categories.items():
        codes = writer.operator("Gather", x, writer.array(f"column_{column}", np.array(column)), axis=-1)
        pieces.append(_looked_up(writer, p[f"table_{column}"], codes, count))
    return writer.operator("Concat", *pieces, axis=-1)


def embedding(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    return _looked_up(writer, p["table"], x, node.layer.tokens)  # type: ignore[attr-defined]


def tied_dense(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    return writer.operator("MatMul", x, writer.operator("Transpose", p["table"], perm=[1, 0]))


def positional_embedding(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    table = p.get("table") or writer.array("positions", sinusoids(*node.inputs[0].shape).astype(writer.dtype))
    return writer.operator("Add", x, table)


def feature_tokens(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    """The class token is a feature that is 0, whose weights are 0."""
    x = writer.operator("Pad", x, writer.array("before_features", np.array([0, 1, 0, 0])))
    w = writer.operator("Pad", p["w"], writer.array("before_weights", np.array([1, 0, 0, 0])))
    x = writer.operator("Unsqueeze", x, writer.array("last_axis", np.array([-1])))
    return writer.operator("Add", writer.operator("Mul", x, w), p["b"])


def take_first(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    return writer.operator("Gather", x, writer.array("first_position", np.array(0)), axis=1)
