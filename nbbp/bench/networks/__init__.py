"""Networks of nbbp's layers, and, in a file for each peer, the same networks in the peers' layers."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from nbbp import Dense, Flatten
from nbbp.engine.layer import Layer, Spec
from nbbp.engine.node import Shape
from nbbp.exchange.walk import outputs_first

Weights = list[dict[str, np.ndarray]]
"""The parameters and the running averages of each layer, by name."""


@dataclasses.dataclass(frozen=True)
class Network:
    """Layers in sequence, for samples of a shape (*positions, channels)."""

    shape: Shape
    layers: tuple[Layer, ...]

    def specs(self) -> Iterator[tuple[Layer, Shape, Spec]]:
        """Each layer, the shape of its input, and what it makes of that."""
        shape = self.shape
        for layer in self.layers:
            spec = layer.spec(shape)
            yield layer, shape, spec
            (shape,) = spec.outputs

    @property
    def parameters(self) -> int:
        """The number of trained parameters."""
        return sum(math.prod(p.shape) for _, _, spec in self.specs() for p in spec.parameters.values())

    @property
    def products(self) -> list[int]:
        """The operations of each layer's product for a sample: every weight is multiplied at every position."""
        weighted = [spec for _, _, spec in self.specs() if "w" in spec.parameters]
        return [2 * math.prod(spec.parameters["w"].shape) * math.prod(spec.outputs[0][:-1]) for spec in weighted]

    def weights(self) -> Weights:
        """Initial values in float32."""
        rng = np.random.default_rng(0)
        return [
            {
                name: np.asarray(p.initializer(p.shape, rng), np.float32)
                for name, p in (spec.parameters | spec.state).items()
            }
            for _, _, spec in self.specs()
        ]


def channels_first(network: Network, weights: Weights) -> Weights:
    """The weights for samples (channels, *positions): w is (filters, channels, *size), or (units, inputs)."""
    found, entry = [], network.shape  # of the next layer, as it is before it is flattened
    for (layer, shape, spec), own in zip(network.specs(), weights, strict=True):
        if isinstance(layer, Dense):
            own = own | {"w": outputs_first(own["w"].reshape(*entry, layer.units)).reshape(layer.units, -1)}
        elif "w" in own:
            own = own | {"w": np.ascontiguousarray(outputs_first(own["w"]))}
        found.append(own)
        entry = shape if isinstance(layer, Flatten) else spec.outputs[0]
    return found
