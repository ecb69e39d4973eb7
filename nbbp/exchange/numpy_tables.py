"""The layers of tables as lines of NumPy: see `nbbp.exchange.numpy_file`."""

from nbbp.engine.node import Node

Parameters = dict[str, str]


def scale(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    return [f"{y} = {x} * {p['s']}"]


def clamp(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    low, high = node.layer.low, node.layer.high  # type: ignore[attr-defined]
    return [f"{y} = np.clip({x}, np.array({low}, {x}.dtype), np.array({high}, {x}.dtype))"]


def periodic_embedding(node: Node, p: Parameters, y: str, x: str) -> list[str]:
    return [
        f"cosines = {x}[:, :, np.newaxis] * {p['frequencies']} + {p['phases']}  # in turns",
        "cosines = np.cos(2 * np.pi * (cosines - np.round(cosines)))",
        f"mixtures = np.einsum('rnk,nek->rne', cosines, {p['w']}) + {p['b']}",
        f"{y} = np.concatenate([{x}[:, :, np.newaxis], mixtures], axis=2).reshape(len({x}), -1)",
    ]
