"""Lines of NumPy for the layers of images and series."""

import math
from typing import Any

from nbbp.engine.node import Node
from nbbp.exchange import walk
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


def max_pool(node: Node, p: dict[str, str], y: str, x: str) -> list[str]:
    size, within = _pooled(node)
    return [f"{y} = _windows({x}, {size}{_settings(node)}, outside=-np.inf).max({within})"]


def average_pool(node: Node, p: dict[str, str], y: str, x: str) -> list[str]:
    size, within = _pooled(node)
    arguments = f"{size}{_settings(node)}"
    return [
        f"count = _windows(np.ones_like({x}[:1]), {arguments}).sum({within})",
        f"{y} = _windows({x}, {arguments}).sum({within}) / count",
    ]


def _pooled(node: Node) -> tuple[tuple[int, ...], str]:
    """The size of the windows, and the argument for a sum over their positions."""
    windows: Windows = node.layer.windows(node.inputs[0].shape)  # type: ignore[attr-defined]
    axes = len(windows.size)
    return windows.size, f"axis={tuple(range(1 + axes, 1 + 2 * axes))}"


def global_max(node: Node, p: dict[str, str], y: str, x: str) -> list[str]:
    return [f"{y} = {x}.max(axis={_positions(node)})"]


def global_average(node: Node, p: dict[str, str], y: str, x: str) -> list[str]:
    return [f"{y} = {x}.mean(axis={_positions(node)}, dtype=float).astype({x}.dtype)"]


def _positions(node: Node) -> tuple[int, ...]:
    """The axes of positions of the input."""
    return tuple(range(1, len(node.inputs[0].shape)))


def enlarged(node: Node, p: dict[str, str], y: str, x: str) -> list[str]:
    down, across = node.layer.size  # type: ignore[attr-defined]
    return [f"{y} = {x}.repeat({down}, axis=1).repeat({across}, axis=2)"]


def padded(node: Node, p: dict[str, str], y: str, x: str) -> list[str]:
    return [f"{y} = np.pad({x}, {((0, 0), *node.layer.padding, (0, 0))})"]  # type: ignore[attr-defined]


def cropped(node: Node, p: dict[str, str], y: str, x: str) -> list[str]:
    top, left = walk.margins(node)
    height, width, _ = node.outputs[0].shape
    return [f"{y} = {x}[:, {top}:{top + height}, {left}:{left + width}]"]


def group_norm(node: Node, p: dict[str, str], y: str, x: str) -> list[str]:
    groups, epsilon = node.layer.groups, node.layer.epsilon  # type: ignore[attr-defined]
    *positions, channels = node.inputs[0].shape
    grouped, shape = (math.prod(positions), groups, channels // groups), (*positions, channels)
    return [
        f"{y} = {x}.reshape(len({x}), {', '.join(map(str, grouped))})  # group norm",
        f"{y} = {y} - {y}.mean(axis=(1, 3), keepdims=True)",
        f"{y} = {y} / np.sqrt(np.square({y}).mean(axis=(1, 3), keepdims=True) + {epsilon})",
        f"{y} = {y}.reshape(len({y}), {', '.join(map(str, shape))}) * {p['gamma']} + {p['beta']}",
    ]
