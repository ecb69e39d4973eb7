"""The layers of RealMLP as lines of NumPy."""

from collections.abc import Callable

from nbbp.engine.node import Node

Parameters = dict[str, str]


def scale(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    return [f"{y} = {x} * {p['s']}"]


def clamp(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    low, high = node.layer.low, node.layer.high  # type: ignore[attr-defined]
    return [f"{y} = np.clip({x}, np.array({low}, {x}.dtype), np.array({high}, {x}.dtype))"]


def parametric(activate: Callable[[str, str, str], list[str]], node: Node, p: Parameters, y: str, x: str) -> list[str]:
    """x + alpha (f(x) - x)."""
    lines = activate(node.layer.name, "bent", x)  # type: ignore[attr-defined]
    return [*lines, f"{y} = {x} + {p['alpha']} * (bent - {x})"]


def periodic_embedding(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    """Each number, and w cos(2 pi (f x + p)) + b beside it."""
    return [
        f"waves = {x}[:, :, np.newaxis] * {p['frequencies']} + {p['phases']}  # in turns",
        "waves = np.cos(2 * np.pi * (waves - np.round(waves)))",
        f"waves = np.einsum('rnk,nek->rne', waves, {p['w']}) + {p['b']}",
        f"{y} = np.concatenate([{x}[:, :, np.newaxis], waves], axis=2).reshape(len({x}), -1)",
    ]
