"""ONNX operators of the layers of images and series.

Those with windows are for arrays with channels first, as ONNX has them, the others for either order.
"""

import itertools

import numpy as np

from nbbp.engine.node import Node
from nbbp.exchange import walk
from nbbp.exchange.onnx_writer import Parameters, Writer
from nbbp.layers import MaxPool2D
from nbbp.layers.windows import Windows


def in_float32(writer: Writer, kind: str, x: str, *more: str, **attributes) -> str:
    """Add an operator that onnxruntime has for float32 only; returns the name of its output, in the model's dtype."""
    if writer.dtype == np.float32:
        return writer.operator(kind, x, *more, **attributes)
    return writer.cast(writer.operator(kind, writer.cast(x, np.float32), *more, **attributes), writer.dtype)


def _pads(windows: Windows) -> list[int]:
    """The padding before the positions of each axis, then that behind."""
    return list(itertools.chain(*zip(*windows.padding, strict=True)))


def _positions(writer: Writer, node: Node) -> list[int]:
    """The axes of positions of the input."""
    axes = len(node.inputs[0].shape)
    return list(range(2, axes + 1) if writer.axis == 1 else range(1, axes))


def convolution(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    layer = node.layer
    windows: Windows = layer.windows(node.inputs[0].shape)  # type: ignore[attr-defined]
    return in_float32(
        writer, "Conv", x, *p.values(), strides=windows.strides, pads=_pads(windows),
        dilations=windows.dilation, group=layer.groups,  # type: ignore[attr-defined]
    )  # fmt: skip


def transposed_convolution(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    layer = node.layer
    windows: Windows = layer.windows(node.inputs[0].shape)  # type: ignore[attr-defined]
    met = [(n - 1) * s + r for n, s, r in zip(windows.outputs, windows.strides, windows.reach, strict=True)]
    return in_float32(
        writer, "ConvTranspose", x, *p.values(), strides=windows.strides, pads=_pads(windows),
        output_padding=[n - m for n, m in zip(windows.padded, met, strict=True)],  # which no window meets
        dilations=windows.dilation, group=layer.groups,  # type: ignore[attr-defined]
    )  # fmt: skip


def pool(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    windows: Windows = node.layer.windows(node.inputs[0].shape)  # type: ignore[attr-defined]
    settings = {"kernel_shape": windows.size, "strides": windows.strides, "pads": _pads(windows)}
    if isinstance(node.layer, MaxPool2D):
        return writer.operator("MaxPool", x, **settings)
    return in_float32(writer, "AveragePool", x, **settings, count_include_pad=0)


def global_max(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    return writer.operator("ReduceMax", x, axes=_positions(writer, node), keepdims=0)


def global_average(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    return writer.operator("ReduceMean", x, axes=_positions(writer, node), keepdims=0)


def enlarged(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    scales = writer.array("scales", np.array([1, 1, *node.layer.size], np.float32))  # type: ignore[attr-defined]
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return in_float32(writer, "Resize", x, "", scales, **nearest)


def padded(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    pads = np.zeros((2, len(node.inputs[0].shape) + 1), np.int64)  # before and after, along each axis
    pads[:, _positions(writer, node)] = np.transpose(node.layer.padding)  # type: ignore[attr-defined]
    return writer.operator("Pad", x, writer.array("pads", pads.ravel()))


def cropped(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    starts = walk.margins(node)
    ends = [start + n for start, n in zip(starts, node.outputs[0].shape, strict=False)]
    settings = {"starts": starts, "ends": ends, "axes": _positions(writer, node)}
    return writer.operator("Slice", x, *(writer.array(name, np.array(values)) for name, values in settings.items()))


def group_norm(writer: Writer, node: Node, p: Parameters, x: str) -> str:
    """A group is a channel of InstanceNormalization; GroupNormalization is of a later opset."""
    groups, epsilon = node.layer.groups, node.layer.epsilon  # type: ignore[attr-defined]
    *positions, channels = node.inputs[0].shape
    unchanged = (writer.array(name, np.full(groups, n, np.float32)) for name, n in (("ones", 1), ("zeros", 0)))
    y = writer.operator("Reshape", x, writer.array("groups", np.array([0, groups, -1])))
    y = in_float32(writer, "InstanceNormalization", y, *unchanged, epsilon=epsilon)
    y = writer.operator("Reshape", y, writer.array("shape", np.array([0, channels, *positions])))
    by_channel = writer.array("channels", np.array([channels, *(1 for _ in positions)]))
    gamma, beta = (writer.operator("Reshape", p[key], by_channel) for key in ("gamma", "beta"))
    return writer.operator("Add", writer.operator("Mul", y, gamma), beta)
