"""The layers of RealMLP as lines of NumPy."""

from collections.abc import Callable

from nbbp.engine.node import Node

Parameters = dict[str, str]


def scale(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    return [f"{y} = {x} * {p['s']}"]


def clamp(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    layer = node.layer
    return [f"{y} = np.clip({x}, {layer.low}, {layer.high}).astype({x}.dtype)"]  # type: ignore[attr-defined]


def parametric(activate: Callable[[str, str, str], list[str]], node: Node, p: Parameters, y: str, x: str) -> list[str]:
    """x + alpha (f(x) - x)."""
    lines = activate(node.layer.name, "bent", x)  # type: ignore[attr-defined]
    return [*lines, f"{y} = {x} + {p['alpha']} * (bent - {x})"]


def periodic(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    """Each number, and w cos(2 pi (f x + p)) + b beside it."""
    return [
        f"waves = np.cos(2 * np.pi * ({x}[:, :, np.newaxis] * {p['frequencies']} + {p['phases']}))  # of each number",
        f"waves = np.einsum('rnk,nek->rne', waves, {p['w']}) + {p['b']}",
        f"{y} = np.concatenate([{x}[:, :, np.newaxis], waves], axis=2).reshape(len({x}), -1)",
    ]
