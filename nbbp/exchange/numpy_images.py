"""Lines of NumPy for the layers of images and series."""

from typing import Any

from nbbp.engine.node import Node
from nbbp.layers.windows import Windows


def convolution(node: Node, p: dict[str, str], y: str, x: str) -> list[str]:
    return [f"{y} = _convolution({x}, {p['w']}{_settings(node)})", *_bias(p, y)]


def transposed_convolution(node: Node, p: dict[str, str], y: str, x: str) -> list[str]:
    lengths = node.outputs[0].shape[:-1]
    return [f"{y} = _transposed_convolution({x}, {p['w']}, {lengths}{_settings(node)})", *_bias(p, y)]


def _bias(p: dict[str, str], y: str) -> list[str]:
    return [f"{y} = {y} + {p['b']}"] if "b" in p else []


def _settings(node: Node) -> str:
    """Arguments of a function over windows, without those that are as they are by default."""
    windows: Windows = node.layer.windows(node.inputs[0].shape)  # type: ignore[attr-defined]
    settings = {
        "strides": (windows.strides, 1),
        "padding": (windows.padding, 0),
        "dilation": (windows.dilation, 1),
        "groups": (getattr(node.layer, "groups", 1), 1),
    }
    short = {name: (_short(numbers), default) for name, (numbers, default) in settings.items()}
    return "".join(f", {name}={numbers}" for name, (numbers, default) in short.items() if numbers != default)


def _short(numbers: Any) -> Any:
    """Equal numbers as one."""
    return _short(numbers[0]) if isinstance(numbers, tuple) and len(set(numbers)) == 1 else numbers
