"""First values of parameters that depend on data: see `nbbp.initializers.Adaptive`."""

import numpy as np

from nbbp.engine.data import Data
from nbbp.engine.evaluator import values
from nbbp.engine.network import Network
from nbbp.initializers import Adaptive

ROWS = 2048  # that are looked at, evenly spaced: the data may be sorted


def adapt(network: Network, backend: str, data: Data) -> None:
    """Adapt the parameters whose initializers ask for it to some rows of the data, in the order of the layout."""
    some = None
    for k, (place, name, parameter) in enumerate(_parameters(network)):
        if isinstance(parameter.initializer, Adaptive):
            if some is None:
                some = data.part(np.linspace(0, data.rows - 1, min(ROWS, data.rows)).astype(np.int64)).padded()
            (z,) = values(network, backend, place.node.outputs[:1], some)
            own = getattr(place.views(network.params), name)
            rng = np.random.default_rng([network.seed, 1, k])  # a layer's first values have the stream [seed, k]
            if own.shape[-1] != z.shape[-1]:
                raise ValueError(
                    f"{place.name}.{name}: its initializer adapts one of its columns to each of the layer's outputs, "
                    f"and there are {own.shape[-1]} and {z.shape[-1]}"
                )
            own[...] = parameter.initializer.adapted(own, z.reshape(-1, z.shape[-1]), rng)


def _parameters(network: Network) -> list:
    """Each parameter with its place and its short name."""
    return [
        (place, name, parameter) for place in network.layout.places for name, (_, parameter) in place.parameters.items()
    ]
