"""Import of arrays into a model."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from nbbp.engine.graph import chain
from nbbp.engine.layout import Layout
from nbbp.engine.node import Input
from nbbp.engine.state import Numbers
from nbbp.layers import Bidirectional, ColumnEmbedding, Embedding
from nbbp.layers.recurrent import Recurrent
from nbbp.model import Model
from nbbp.sequential import Sequential

AnyModel = TypeVar("AnyModel", bound=Model)


def fill(model: AnyModel, features: int | None, assign: Callable[[Layout, np.ndarray, np.ndarray], None]) -> AnyModel:
    """The model with what `assign` writes into flat parameters and state; if that raises, it stays as it was.

    `features` builds a `Sequential` that is not built yet. Optimizer, averages and pruning are reset.
    """
    layout = model.network.layout if model.is_built else Layout(_graph(model, features))
    params, state = np.zeros(layout.size, model.dtype), np.zeros(layout.state_size, model.dtype)
    with np.errstate(over="ignore"):
        assign(layout, params, state)
    if not (np.isfinite(params).all() and np.isfinite(state).all()):
        raise ValueError(f"weights must be finite, in {model.dtype} too")
    moments = [np.zeros(layout.size, model.dtype)] * model.optimizer.moments
    numbers = Numbers(layout.graph.inputs[0].shape, params, state, moments, None, None, 0)
    model.restore(dataclasses.replace(model.state, numbers=numbers))
    return model


def _graph(model: Model, features: int | None):
    assert isinstance(model, Sequential)
    hidden = ColumnEmbedding | Embedding | Recurrent | Bidirectional
    if features is None or any(isinstance(layer, hidden) for layer in model.layers):
        raise RuntimeError("the number of features does not show in the weights: call model.build(features) first")
    return chain(Input(features), model.layers)
