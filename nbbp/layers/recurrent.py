"""What recurrent layers share: settings, states, and what happens before and after the steps."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import INITIALIZERS, Initializer, named, zeros
from nbbp.kernels import threads
from nbbp.kernels.arrays import while_used
from nbbp.kernels.batches import accumulate, clear, copy
from nbbp.kernels.bfloat16 import pairs_of
from nbbp.kernels.gemm import MULTIPLIED_ROWS
from nbbp.kernels.masks import clear_masked
from nbbp.kernels.panels import pack_transposed, pair_rows, panels
from nbbp.kernels.recurrent import (
    from_steps,
    groups,
    mask_of_steps,
    product_of_steps,
    put_state,
    shared_width,
    stack_columns,
    take_state,
    to_steps,
)
from nbbp.layers.reshape import Reshape


@while_used
def integers(*values: int) -> np.ndarray:
    """Integers of a kernel, the same array for equal ones."""
    return np.array(values, np.int64)


@while_used
def counted(most: int) -> np.ndarray:
    """The offsets 0, 1, 2 ..."""
    return np.arange(most, dtype=np.int32)


@while_used
def _all_there(rows: int) -> np.ndarray:
    """The mask of each step if there is none."""
    return np.ones((1, rows), bool)


@while_used
def _groups(rows: int, cores: int) -> np.ndarray:
    return groups(rows, cores)


@dataclasses.dataclass(frozen=True)
class Recurrent(Layer):
    """The base of `SimpleRNN`, `GRU` and `LSTM`: a state that goes through the steps of a sequence.

    An input (time, features) is followed, if the layer is called with more, by the initial states (units,), which are
    0 otherwise. At masked steps the state stays as it was and the output is 0.
    """

    units: int
    return_sequences: bool = False
    return_state: bool = False
    stateful: bool = False
    backwards: bool = False
    use_bias: bool = True
    initializer: str | Initializer = "glorot_uniform"
    recurrent_initializer: str | Initializer = "orthogonal"

    reads = ()
    recurrent = True
    gates: ClassVar[int] = 1
    """The number of sums of each unit."""
    states: ClassVar[tuple[str, ...]] = ("h",)

    def __post_init__(self) -> None:
        name = type(self).__name__
        object.__setattr__(self, "units", checks.positive_integer(f"{name}: units", self.units))
        for flag in ("return_sequences", "return_state", "stateful", "backwards", "use_bias"):
            checks.boolean(f"{name}: {flag}", getattr(self, flag))
        for setting in (self.initializer, self.recurrent_initializer):
            if not callable(setting):
                checks.choose("initializer", setting, INITIALIZERS)
        if self.stateful and self.backwards:
            raise ValueError(f"{name}: a state that goes backwards has no next mini-batch: leave out stateful")

    @classmethod
    def example(cls, x):
        return cls(5)(Reshape((-1, 1))(x))

    def spec(self, shape, *states):
        name = type(self).__name__
        if len(shape) != 2:
            raise ValueError(f"{name} takes samples (time, features), got {shape}")
        if states and (self.stateful or states != ((self.units,),) * len(self.states)):
            fits = "no initial state if it is stateful" if self.stateful else f"{len(self.states)} of ({self.units},)"
            raise ValueError(
                f"{name} takes an initial state for each of {', '.join(self.states)}: {fits}; got {states}"
            )
        outputs = ((shape[0], self.units) if self.return_sequences else (self.units,),)
        if self.return_state:
            outputs += ((self.units,),) * len(self.states)
        return Spec(outputs, self.parameters(shape[1]))

    def parameters(self, features: int) -> dict[str, Parameter]:
        """The weights of the input, w, and of the state before, u, and the bias b."""
        chosen = [named(given) for given in (self.initializer, self.recurrent_initializer)]
        of_gates = self.gates * self.units
        found = {
            "w": Parameter((features, of_gates), chosen[0]),
            "u": Parameter((self.units, of_gates), chosen[1]),
        }
        return found | ({"b": Parameter((of_gates,), self.initial_bias)} if self.use_bias else {})

    def initial_bias(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return zeros(shape, rng)

    def elements(self, features: int) -> int:
        """The length of a row of a step: its input, the output before, and what else products read."""
        return features + self.units

    def bind_steps(self, b: Any) -> None:
        """Bind the steps forward; they read b.sequence[0] and the first of b.states, and fill the rest."""
        raise NotImplementedError

    def bind_steps_back(self, b: Any, dx: np.ndarray, gradients: list[np.ndarray], dy: np.ndarray) -> None:
        """Bind the steps back, and the gradients of parameters.

        `gradients`, of the last states, become those of the first; dy is (time, rows, units) or (1, rows, units).
        """
        raise NotImplementedError

    def forward(self, b):
        rows, steps, features = b.x.shape
        b.features, b.steps, b.turned = features, steps, integers(int(self.backwards))
        b.groups, b.there = _groups(rows, threads.count()), _all_there(rows)
        if b.inputs[0].mask is not None:
            b.there = b.buffer(steps, rows, dtype=bool)
            b.call(mask_of_steps, b.there, b.inputs[0].mask, b.turned)
        b.bias = b.p.b if self.use_bias else b.buffer(self.gates * self.units)
        b.behind = integers(features)
        b.sequence = b.buffer(steps + 1, rows, self.elements(features))
        b.states = [b.buffer(steps + 1, rows, self.units) for _ in self.states[1:]]
        b.call(to_steps, b.sequence, b.x, b.turned)
        carried = [b.carry(name, self.units) for name in self.states] if self.stateful else []
        self._put_states(b, carried or [given.array for given in b.inputs[1:]])
        self.bind_steps(b)
        self._take_states(b, carried)
        self._take_states(b, [output.array for output in b.outputs[1:]])
        if self.return_sequences:
            b.call(from_steps, b.y, b.sequence, b.turned, b.behind)
            if b.inputs[0].mask is not None:
                b.call(clear_masked, b.y.reshape(-1, self.units), b.inputs[0].mask.reshape(-1))
        else:
            b.call(take_state, b.y, b.sequence[-1], b.behind)

    def _put_states(self, b: Any, given: list[np.ndarray]) -> None:
        if given:
            b.call(put_state, b.sequence[0], given[0], b.behind)
            for state, own in zip(b.states, given[1:], strict=True):
                b.call(copy, state[0].reshape(-1), own.reshape(-1))

    def _take_states(self, b: Any, targets: list[np.ndarray]) -> None:
        if targets:
            b.call(take_state, targets[0], b.sequence[-1], b.behind)
            for state, own in zip(b.states, targets[1:], strict=True):
                b.call(copy, own.reshape(-1), state[-1].reshape(-1))

    def backward(self, b):
        gradients = [b.buffer(b.rows, self.units) for _ in self.states]
        given = [output.gradient for output in b.outputs[1:]] or [None] * len(self.states)
        if not self.return_sequences:
            given[0], added = b.dy, given[0]
        for gradient, own in zip(gradients, given, strict=True):
            if own is None:
                b.call(clear, gradient.reshape(-1))
            else:
                b.call(copy, gradient.reshape(-1), own.reshape(-1))
        if self.return_sequences:
            dy = b.buffer(b.steps + 1, b.rows, self.units)
            b.call(to_steps, dy, b.dy, b.turned)
            dy = dy[: b.steps]
        else:
            if added is not None:
                b.call(accumulate, gradients[0].reshape(-1), added.reshape(-1))
            dy = b.buffer(1, b.rows, self.units)
        dx = b.x if b.dx is None else b.dx  # nothing is written there if it is not wanted
        self.bind_steps_back(b, dx, gradients, dy)
        for source, gradient in zip(b.inputs[1:], gradients, strict=False):
            if source.gradient is not None:
                b.call(copy, source.gradient.reshape(-1), gradient.reshape(-1))

    def stacked(self, b: Any, columns: int) -> np.ndarray:
        """The first columns of w above those of u, packed."""
        count, width = panels(columns, b.p.w.itemsize)
        shape = count, b.features + self.units, width
        return self.paired(b, b.derived(stack_columns, shape, b.p.w, b.p.u, integers(0)))

    def transposed(self, b: Any, w: np.ndarray) -> np.ndarray:
        """A matrix of weights transposed, packed."""
        count, width = panels(len(w), w.itemsize)
        return self.paired(b, b.derived(pack_transposed, (count, w.shape[1], width), w))

    @staticmethod
    def paired(b: Any, packed: np.ndarray) -> np.ndarray:
        """Packed weights as the kernels of steps take them: in pairs of rows if products round."""
        if not b.rounds:
            return packed
        count, rows, width = packed.shape
        return b.derived(pair_rows, (count, pairs_of(rows), width), packed, dtype=np.uint32)

    def how_back(self, b: Any) -> np.ndarray:
        """Whether dx is computed, and whether it begins with the last step."""
        return integers(int(b.dx is not None), int(self.backwards))

    def bind_weights(self, b: Any, d: np.ndarray, *parts: tuple[int, int, int, int, int, int]) -> None:
        """Bind the gradients of w and u from those of the sums, part by part: see `product_of_steps`."""
        length, width = b.sequence.shape[2], shared_width(self.gates * self.units, threads.count(), d.itemsize)
        totals, packed = b.scratch(length, width, dtype=np.float64), b.scratch(MULTIPLIED_ROWS, width)
        for part in parts:
            b.call(
                product_of_steps, b.g.w, b.g.u, b.sequence, d, b.there, integers(*part), counted(length), totals, packed
            )  # fmt: skip
