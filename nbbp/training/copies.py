"""Copies of models, models with averaged parameters, and blending of two models' parameters."""

import dataclasses
from typing import TYPE_CHECKING, TypeVar

from nbbp import checks

if TYPE_CHECKING:
    from nbbp.model import Model

M = TypeVar("M", bound="Model")


def copy(model: M, **changed) -> M:
    """A copy of the model, with some of its arguments changed."""
    state = model.state
    return model.from_state(dataclasses.replace(state, settings=state.settings | changed))


def with_backend(model: M, backend: str) -> M:
    """A copy with the same parameters and optimizer state, computed by the other backend."""
    return model.copy(backend=backend)


def averaged(model: M) -> M:
    """A copy with the averaged parameters, see `averaging`."""
    if model.update.mean is None:
        raise RuntimeError("there is no average: give the model averaging=nbbp.EMA() or nbbp.SWA(...)")
    average = model.copy()
    average.params[:] = model.update.mean
    return average


def take(model: "Model", other: "Model") -> None:
    """Copy the arrays and the counts of another model with the same layers; the settings stay."""
    model.restore(dataclasses.replace(other.state, settings=model.state.settings))


def blend(model: "Model", other: "Model", share: float) -> None:
    """Move parameters and running statistics toward another model's by a share of the difference; moments stay.

    Parameters
    ----------
    other : Model
        A model with the same layers.
    share : float in [0, 1]
        The share of the difference; 1 copies.
    """
    checks.number("share", share)
    if share > 1:
        raise ValueError(f"share must be 1 or less, got {share!r}")
    mine, theirs = model.network, other.network
    if mine.layout.shapes() != theirs.layout.shapes():
        apart = [f"{k} {s}" for k, s in theirs.layout.shapes().items() if mine.layout.shapes().get(k) != s]
        raise ValueError(
            f"blend takes a model with the same layers; the other has {apart[0] if apart else 'fewer parameters'}"
        )
    for own, others in ((mine.params, theirs.params), (mine.state, theirs.state)):
        if share == 1:
            own[:] = others
        else:
            own += own.dtype.type(share) * (others - own)
