"""The update of the parameters: an optimizer with the arrays that it keeps, and their average."""

import numpy as np

from nbbp.averaging import Averaging, average
from nbbp.kernels import arrays
from nbbp.network import Network
from nbbp.optimizers import Optimizer
from nbbp.program import Program
from nbbp.regularization import mask


class Update:
    """What happens to the parameters of a network once their gradient is there.

    Attributes
    ----------
    moments : list of ndarray
        The optimizer's flat arrays.
    mean : ndarray or None
        Averaged parameters.
    steps : int
        Updates that were made.
    """

    def __init__(self, network: Network, optimizer: Optimizer, averaging: Averaging | None) -> None:
        self.network, self.optimizer, self.averaging = network, optimizer, averaging
        self.moments = [arrays.zeros(network.params.shape, network.params.dtype) for _ in range(optimizer.moments)]
        self.mean = None if averaging is None else arrays.copied(network.params)
        self.steps = 0

    def numbers(self, before: int, count: int) -> np.ndarray:
        """What the `count` updates after the first `before` need to know, a row for each."""
        steps = np.arange(before + 1, before + count + 1)
        columns = [self.optimizer.numbers(steps)]
        if self.averaging is not None:
            columns.append(np.asarray(self.averaging.weights(steps), float)[:, np.newaxis])
        return np.hstack(columns)

    def bind(self, program: Program, row: np.ndarray) -> None:
        """Bind an update of all parameters; `row` holds the step's row of `numbers`."""
        network, own = self.network, len(row) - (self.averaging is not None)
        self.optimizer.bind(program, network.params, network.grads, self.moments, row[:own])
        network.constrain(program)
        if network.mask is not None:
            program.call(mask, network.params, network.mask)
        if self.mean is not None:
            program.call(average, self.mean, network.params, row[own:])
            if network.mask is not None:
                program.call(mask, self.mean, network.mask)
