"""Dense layers and normalizations as ONNX operators."""

import numpy as np

from nbbp.engine.node import Node
from nbbp.exchange.onnx_writer import Parameters, Writer


def dense(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    if len(node.inputs[0].shape) == 1:
        return writer.operator("Gemm", x, *p.values())
    y = writer.operator("MatMul", x, p["w"])
    return writer.operator("Add", y, p["b"]) if "b" in p else y


def batch_norm(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    """ONNX has the features in the second axis."""
    shape, epsilon = node.inputs[0].shape, node.layer.epsilon  # type: ignore[attr-defined]
    if len(shape) == 1 or writer.axis == 1:
        return writer.operator("BatchNormalization", x, *p.values(), epsilon=epsilon)
    x = writer.operator("Reshape", x, writer.array("rows", np.array([-1, shape[-1]])))
    y = writer.operator("BatchNormalization", x, *p.values(), epsilon=epsilon)
    return writer.operator("Reshape", y, writer.array("shape", np.array([-1, *shape])))


def layer_norm(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    epsilon = node.layer.epsilon  # type: ignore[attr-defined]
    return writer.operator("LayerNormalization", x, *p.values(), epsilon=epsilon)
