"""ONNX operators of the layers of images and series, for arrays with channels first, as ONNX has them."""

import itertools
from typing import TYPE_CHECKING

import numpy as np

from nbbp.engine.node import Node
from nbbp.layers.windows import Windows

if TYPE_CHECKING:
    from nbbp.exchange.onnx_file import Parameters, Writer


def in_float32(writer: "Writer", kind: str, x: str, *more: str, **attributes) -> str:
    """Add an operator that onnxruntime has for float32 only; returns the name of its output, in the model's dtype."""
    if writer.dtype == np.float32:
        return writer.operator(kind, x, *more, **attributes)
    return writer.cast(writer.operator(kind, writer.cast(x, np.float32), *more, **attributes), writer.dtype)


def _pads(windows: Windows) -> list[int]:
    """The padding before the positions of each axis, then that behind."""
    return list(itertools.chain(*zip(*windows.padding, strict=True)))


def convolution(writer: "Writer", node: Node, p: "Parameters", x: str) -> str:
    layer = node.layer
    windows: Windows = layer.windows(node.inputs[0].shape)  # type: ignore[attr-defined]
    return in_float32(
        writer, "Conv", x, *p.values(), strides=windows.strides, pads=_pads(windows),
        dilations=windows.dilation, group=layer.groups,  # type: ignore[attr-defined]
    )  # fmt: skip


def transposed_convolution(writer: "Writer", node: Node, p: "Parameters", x: str) -> str:
    layer = node.layer
    windows: Windows = layer.windows(node.inputs[0].shape)  # type: ignore[attr-defined]
    met = [(n - 1) * s + r for n, s, r in zip(windows.outputs, windows.strides, windows.reach, strict=True)]
    return in_float32(
        writer, "ConvTranspose", x, *p.values(), strides=windows.strides, pads=_pads(windows),
        output_padding=[n - m for n, m in zip(windows.padded, met, strict=True)],  # which no window meets
        dilations=windows.dilation, group=layer.groups,  # type: ignore[attr-defined]
    )  # fmt: skip
