"""Recurrent layers in a state_dict: PyTorch has two biases for each sum of gates, and several layers in one module.

Here an array of nbbp's is one array, of a module of one layer, named as in PyTorch: ``bias_ih_l0`` is the sum of both
biases, and ``bias_hh_l0`` of a GRU the one that its reset gate acts on.
"""

import re

import numpy as np

from nbbp.engine.node import Node, Scope
from nbbp.layers import GRU, LSTM, Bidirectional, SimpleRNN

Arrays = dict[str, np.ndarray]

KINDS = (SimpleRNN, GRU, LSTM)
NAMES = {"w": "weight_ih_l0", "u": "weight_hh_l0", "b": "bias_ih_l0", "c": "bias_hh_l0"}
REVERSE = "_reverse"


def own(name: str, node: Node, key: str) -> str:
    """The name of a recurrent layer's array within its module."""
    if isinstance(node.layer, GRU) and not node.layer.reset_after:
        raise ValueError(f"{name}: PyTorch's GRU has reset_after=True, and no other: this one has reset_after=False")
    return NAMES[key] + (REVERSE if _direction(node) == "backward" else "")


def module(node: Node, name: str) -> str:
    """The name of a node's module: both directions of a Bidirectional are in one."""
    return name.removesuffix(f".{_direction(node)}")


def _direction(node: Node) -> str | None:
    """Forward or backward, if the node is one of a Bidirectional's two layers."""
    *_, scope, direction = (None, None, *node.scopes)
    inner = isinstance(scope, Scope) and isinstance(scope.layer, Bidirectional)
    return direction if inner and isinstance(direction, str) else None


def rows(node: Node, count: int) -> np.ndarray:
    """The rows of a weight of gates, or of its bias, in PyTorch's order: a GRU has z and r in turn."""
    order = np.arange(count)
    if isinstance(node.layer, GRU) and count == 3 * node.layer.units:
        z, r, n = np.split(order, 3)
        return np.concatenate([r, z, n])
    return order


def joined(given: Arrays) -> Arrays:
    """PyTorch's arrays with one bias for each of nbbp's, and a module for each layer; others as they are."""
    found = {_of_one_layer(name): array for name, array in given.items()}
    for second in [name for name in found if re.search(rf"bias_hh_l0({REVERSE})?$", name)]:
        first, weight = (second.replace("bias_hh", kind) for kind in ("bias_ih", "weight_hh"))
        if first in found and weight in found:
            added, units = found.pop(second), found[weight].shape[-1]
            if len(added) == 3 * units:
                added, found[second] = np.pad(added[: 2 * units], (0, units)), added[2 * units :]
            found[first] = found[first] + added
    return found


def _of_one_layer(name: str) -> str:
    """The name of an array if each layer were a module: ``rnn[1].bias_ih_l0`` is that of ``rnn.bias_ih_l1``."""
    parts = re.fullmatch(rf"(.*?)(\.?)((?:weight|bias)_[ih]h_l)([1-9]\d*)({REVERSE})?", name)
    return f"{parts[1]}[{parts[4]}]{parts[2]}{parts[3]}0{parts[5] or ''}" if parts else name


def parted(state: Arrays) -> Arrays:
    """The arrays of `joined` with both biases, the second of which is 0 but for the one of a GRU's reset gate."""
    found: Arrays = {}
    for name, array in state.items():
        if "bias_hh_l0" in name:
            found[name][-len(array) :] = array
        else:
            found[name] = array
        if "bias_ih_l0" in name:
            found[name.replace("bias_ih", "bias_hh")] = np.zeros_like(array)
    return found
