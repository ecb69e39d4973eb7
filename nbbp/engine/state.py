"""A model without its bound programs, which hold addresses: what is copied, pickled and written into files."""

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
        Of the first input.
    params, state : ndarray
        See `nbbp.engine.network.Network`.
    moments : list of ndarray
        The optimizer's.
    mean : ndarray or None
        Averaged parameters.
    mask : ndarray or None
        0 where a parameter is pruned.
    steps : int
        Updates that were made.
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
        Arguments that make the model.
    epochs : int
        That were begun.
    feature_names : tuple of str or None
        Columns of the table it learned from.
    numbers : Numbers or None
        None for a model that is not built.
    """

    settings: dict[str, Any]
    epochs: int = 0
    feature_names: tuple[str, ...] | None = None
    numbers: Numbers | None = None

    def __getstate__(self) -> tuple[tuple, dict[str, Any]]:
        """Nodes come one by one before the edges that lead to them, so that pickling a deep graph does not recurse."""
        outputs = self.settings.get("outputs")
        return () if outputs is None else ordered(Form("output", outputs).things), vars(self)

    def __setstate__(self, state: tuple[tuple, dict[str, Any]]) -> None:
        vars(self).update(state[1])
