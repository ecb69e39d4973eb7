"""A model without its bound programs, which hold addresses: the form that is copied, pickled and saved."""

import dataclasses
from typing import Any

import numpy as np

from nbbp.engine.forms import Form
from nbbp.engine.graph import ordered
from nbbp.engine.node import Shape


@dataclasses.dataclass
class Numbers:
    """The arrays of a model that is built.

    Attributes
    ----------
    input_shape : tuple of int
        The shape of the first input.
    params, state : ndarray
        See `nbbp.engine.network.Network`.
    moments : list of ndarray
        The optimizer's arrays.
    mean : ndarray or None
        The averaged parameters.
    mask : ndarray or None
        0 where a parameter is pruned.
    steps : int
        The number of updates made.
    """

    input_shape: Shape
    params: np.ndarray
    state: np.ndarray
    moments: list[np.ndarray]
    mean: np.ndarray | None
    mask: np.ndarray | None
    steps: int


@dataclasses.dataclass
class State:
    """Settings and arrays of a model.

    Attributes
    ----------
    settings : dict
        The arguments that make the model.
    epochs : int
        The number of epochs begun.
    feature_names : tuple of str or None
        The columns of the table it was trained on.
    numbers : Numbers or None
        None for a model that is not built.
    """

    settings: dict[str, Any]
    epochs: int = 0
    feature_names: tuple[str, ...] | None = None
    numbers: Numbers | None = None

    def __getstate__(self) -> tuple[tuple, dict[str, Any]]:
        """Nodes are listed before the edges that lead to them, so that pickling a deep graph does not recurse."""
        outputs = self.settings.get("outputs")
        return () if outputs is None else ordered(Form("output", outputs).things), vars(self)

    def __setstate__(self, state: tuple[tuple, dict[str, Any]]) -> None:
        vars(self).update(state[1])
