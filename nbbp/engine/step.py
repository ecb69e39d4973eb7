"""A step for loops of the user's own: forward, backward and update of a mini-batch, bound once."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nbbp.engine.forms import Form
from nbbp.engine.network import Network
from nbbp.engine.passes import Passes
from nbbp.engine.program import Program, Tables
from nbbp.engine.runner import Runner
from nbbp.kernels.clock import Clock

TABLE_STEPS = 256  # steps whose coefficients are computed in advance


class Step:
    """Forward, backward and update of mini-batches, made by `Model.step`.

    ``z = step.forward(X)``, a loss and its gradient of one's own, ``dX = step.backward(dz)``, ``step.update()``.
    Returned arrays are views, valid until the next call. Steps of one model share its parameters and gradients; a step
    belongs to one thread.

    Parameters
    ----------
    network : Network
    update : Update
        See `nbbp.training.update`.
    check : callable
        Converts the user's X, mask and lengths to arrays for the inputs, and masks for all of them or none.
    inputs, outputs : Form
        The form of the inputs, of the outputs and of their gradients.

    Attributes
    ----------
    carried : dict of str to ndarray (batch_size, ...)
        Arrays that layers pass from one forward to the next, by name, such as ``gru_0.h``; zeros in a row reset it.
    """

    def __init__(
        self, network: Network, update: Any, backend: str, batch_size: int, training: bool,
        check: Callable[..., tuple[tuple, tuple]], inputs: Form, outputs: Form,
    ) -> None:  # fmt: skip
        self.batch_size, self.training = batch_size, training
        self._network, self._update, self._backend = network, update, backend
        self._check, self._inputs, self._outputs = check, inputs, outputs
        self._clock, self._tables = Clock(), Tables(TABLE_STEPS, network.dtype)
        self._forwards = 0
        self.carried: dict[str, np.ndarray] = {}
        self._bound: dict[tuple, Passes] = {}
        self._last: Passes | None = None  # passes whose backward is due
        self._last_update = 0  # number of updates before its forward
        self._updating = _Updating(network, update, backend, batch_size)
        self._bind(batch_size, ())

    def _bind(self, rows: int, masked: tuple[bool, ...]) -> Passes:
        if rows > self.batch_size:
            raise ValueError(
                f"X has {rows} rows and the step takes {self.batch_size} at most: give it fewer, or make a step of more"
            )
        passes = self._bound[rows, masked] = Passes(
            self._network, self._network.grads, self._backend, rows, self.training, masked, self._clock, self._tables,
            self.carried,
        )  # fmt: skip
        return passes

    def forward(self, X, mask=None, lengths=None) -> Any:
        """Outputs before the output activation, (rows, *shape), for as many rows as the step has, or fewer.

        Parameters
        ----------
        X : array_like (rows, *input_shape); a list or a dict of arrays if there are several inputs
        mask : ndarray (rows, *positions), bool, optional
            False at masked elements of the input.
        lengths : array_like (rows,), int, optional
            In place of a mask: the number of positions of each row that are not masked, along the first axis.

        Returns
        -------
        ndarray, or a list or a dict of arrays if the model has several outputs
        """
        inputs, masks = self._check(X, mask, lengths)
        key = len(inputs[0]), tuple(m is not None for m in masks) if masks else ()
        passes = self._bound.get(key) or self._bind(*key)
        for mine, given in zip(passes.inputs + passes.masks, inputs + masks, strict=True):
            if mine is not None:
                mine[:] = given
        number = self._forwards % TABLE_STEPS
        if number == 0:
            self._clock.before = self._forwards
            self._tables.fill(self._forwards, TABLE_STEPS)
        self._clock.step = number
        self._forwards += 1
        passes.forward.once()
        self._last, self._last_update = passes, self._update.steps
        return self._outputs.packed(passes.outputs)

    def backward(self, dz, add: bool = False) -> Any:
        """The gradients of the inputs, from those of the last forward's outputs; fills the model's `grads`.

        Parameters
        ----------
        dz : array_like (rows, *shape), or a list or a dict of them
            The gradients of the outputs, in the shape and the form that `forward` returned.
        add : bool
            Whether gradients of parameters are added to those in `grads`.

        Returns
        -------
        ndarray (rows, *input_shape), or a list or a dict of them; None for an input of integers

        Raises
        ------
        RuntimeError
            If no forward was called, its backward was called already, or an update came in between.
        """
        passes = self._last
        if passes is None:
            raise RuntimeError("backward belongs to one forward, and none is waiting for it: call forward(X) before")
        if self._last_update != self._update.steps:
            raise RuntimeError("the parameters have changed since forward: call update after backward")
        for slope, given in zip(passes.slopes, self._outputs.unpacked("dz", dz), strict=True):
            given = np.asarray(given)
            if given.shape != slope.shape or given.dtype.kind not in "fiu":
                raise ValueError(
                    f"dz must be numbers in the shape of the outputs {slope.shape}, got {given.dtype} {given.shape}"
                )
            slope[:] = given
        self._last = None
        passes.backward(add).once()
        return self._inputs.packed(passes.input_slopes)

    def reset_states(self) -> None:
        """Let each row begin anew: what layers carry from one forward to the next becomes 0."""
        for array in self.carried.values():
            array[:] = 0

    def update(self) -> None:
        """Update the parameters from the gradient in `grads`: penalties, clipping, optimizer, constraints, average."""
        self._updating.run()


class _Updating:
    """The update of a step, bound on first use."""

    def __init__(self, network: Network, update: Any, backend: str, rows: int) -> None:
        self._network, self._update, self._given = network, update, (backend, network.dtype, rows)
        self._optimizer: Any = None
        self._mask: np.ndarray | None = None
        self._runner: Runner | None = None
        self._clock, self._tables = Clock(), Tables(TABLE_STEPS, network.dtype)

    def run(self) -> None:
        update, clock = self._update, self._clock
        runner = self._runner
        if runner is None or self._mask is not self._network.mask:
            runner = self._bind()
        number = update.steps - clock.before
        if self._optimizer is not update.optimizer or not 0 <= number < TABLE_STEPS:
            self._optimizer, clock.before, number = update.optimizer, update.steps, 0
            self._tables.fill(update.steps, TABLE_STEPS)
        clock.step = number
        runner.once()
        update.steps += 1

    def _bind(self) -> Runner:
        network = self._network
        self._mask = network.mask
        program = Program(*self._given, clock=self._clock, seed=network.seed, tables=self._tables)
        network.penalize(program, program.buffer(1), network.grads)
        self._update.bind(program)
        runner = self._runner = Runner(program)
        return runner
