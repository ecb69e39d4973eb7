"""The update of the parameters: an optimizer with its arrays, and the parameters' average."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from nbbp.engine import owners
from nbbp.engine.layer import Parameter
from nbbp.engine.network import Network
from nbbp.engine.program import Program
from nbbp.kernels import arrays
from nbbp.kernels.regularization import mask
from nbbp.kernels.sums import add_shards
from nbbp.optimizers import Optimizer
from nbbp.training.averaging import average
from nbbp.training.settings import Settings

Factors = tuple[float, float, float]  # of learning rate and weight decay, and a parameter's scale


class Update:
    """The update of a network's parameters from their gradient.

    Attributes
    ----------
    moments : list of ndarray
        The optimizer's flat arrays.
    mean : ndarray or None
        The averaged parameters.
    steps : int
        The number of updates made.
    """

    def __init__(self, network: Network, settings: Settings) -> None:
        self.network, self._settings, self.averaging = network, settings, settings.averaging
        self.moments = [arrays.zeros(network.params.shape, network.dtype) for _ in range(self.optimizer.moments)]
        self.mean = None if self.averaging is None else arrays.copied(network.params)
        self.steps = 0
        self._groups, self._frozen = _groups(network, self.optimizer.decay_vectors)

    @property
    def optimizer(self) -> Optimizer:
        """The model's optimizer, whose learning rate may change."""
        return self._settings.optimizer

    def _numbers(self, rate: float, decay: float, scale: float) -> Callable[[int, int], np.ndarray]:
        """The coefficients of the optimizer's kernel in each step: see `Optimizer.scaled`."""

        def values(before: int, count: int) -> np.ndarray:
            return self.optimizer.scaled(rate, decay, scale).numbers(np.arange(before + 1, before + count + 1))

        return values

    def kind(self) -> tuple:
        """The properties besides the arrays on which bound programs depend."""
        optimizer = self.optimizer
        return optimizer.kernel.name, optimizer.clip_value, optimizer.clip_norm, optimizer.gradient_noise

    @property
    def reads_gradient(self) -> bool:
        """Whether the whole gradient has to be known before the first parameter is updated."""
        optimizer = self.optimizer
        return bool(optimizer.gradient_noise or optimizer.clip_value is not None or optimizer.clip_norm is not None)

    def bind(self, program: Program, shard_grads: np.ndarray | None = None) -> None:
        """Bind an update of all parameters, from the flat gradient or from those of shards (shards, parameters)."""
        network = self.network
        self.optimizer.bind_gradient(program, network.grads, self._frozen)
        distinct = dict.fromkeys(factors for _, factors in self._groups)
        numbers = {factors: program.scheduled(self._numbers(*factors)) for factors in distinct}
        whole = slice(0, len(network.params))
        owned = [whole] if shard_grads is None else owners.ranges(whole.stop, network.params.itemsize)
        programs = [program.part(slice(0, program.rows)) for _ in owned]
        for own, part in zip(owned, programs, strict=True):
            if shard_grads is not None:
                part.call(add_shards, network.grads[own], shard_grads, np.array([own.start]))
            for group, factors in self._groups:
                for elements in arrays.split_at_line(owners.common(group, own), network.params.itemsize):
                    arrays_of = (array[elements] for array in (network.params, network.grads, *self.moments))
                    part.call(self.optimizer.kernel, *arrays_of, numbers[factors])
        program.call_shards(programs, awake=True)
        network.constrain(program)
        if network.mask is not None:
            program.call(mask, network.params, network.mask)
        if self.mean is not None:
            averaging = self.averaging
            assert averaging is not None
            weight = program.scheduled(
                lambda before, count: np.asarray(averaging.weights(np.arange(before + 1, before + count + 1)), float)[
                    :, np.newaxis
                ]
            )
            program.call(average, self.mean, network.params, weight)
            if network.mask is not None:
                program.call(mask, self.mean, network.mask)


def _groups(network: Network, decay_vectors: bool) -> tuple[list[tuple[slice, Factors]], list[slice]]:
    """Ranges of the flat arrays with equal factors of rate and decay and scale, with these; and frozen ranges."""

    def alike_if(entry: tuple[str, int, Parameter]) -> tuple[bool, Factors]:
        parameter = entry[2]
        decays = decay_vectors or len(parameter.shape) > 1
        return parameter.trained, (parameter.rate, parameter.decay if decays else 0.0, parameter.scale)

    found, frozen = [], []
    for (trained, factors), entries in itertools.groupby(network.layout.slices(), alike_if):
        parts = [(offset, offset + math.prod(parameter.shape)) for _, offset, parameter in entries]
        whole = slice(parts[0][0], parts[-1][1])
        if trained:
            found.append((whole, factors))
        else:
            frozen.append(whole)
    return found, frozen
