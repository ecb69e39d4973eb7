"""What a layer is, and what it sees of a program when it is bound."""

import dataclasses
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbp.engine.node import Edge, Shape, connect
from nbbp.initializers import Initializer
from nbbp.kernels import threads
from nbbp.kernels.jit import Kernel
from nbbp.schedules import Schedule

if TYPE_CHECKING:
    from nbbp.engine.program import Call, Program

Views = types.SimpleNamespace  # a layer's arrays by their names: p.w, p.b


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter: its shape, how its first values are drawn, and what happens to it in training.

    Parameters
    ----------
    shape : tuple of int
    initializer : callable
        A function of (shape, generator), see `nbbp.INITIALIZERS`.
    l1, l2 : float
        l1 sum |w| + l2 sum w^2 is added to the loss.
    max_norm : float, optional
        After each update, the columns of a matrix are scaled down to this norm where theirs is larger.
    rate, decay : float
        Factors of the optimizer's learning rate and weight decay.
    trained : bool
        Whether updates change it; if not, its gradient is 0, and it has no penalty and no bound.
    """

    shape: Shape
    initializer: Initializer
    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None
    rate: float = 1.0
    decay: float = 1.0
    trained: bool = True


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a layer makes of inputs of given shapes.

    Parameters
    ----------
    outputs : tuple of int, or tuple of such tuples
        Shape of a sample's output, or of several.
    parameters, state : dict of str to Parameter
        Trained arrays, and arrays that are kept from step to step but not trained, such as running means.
    view : bool
        Whether the output is the first input's memory in another shape; `forward` and `backward` are not called then.
    in_place : bool
        Whether the first output may overwrite the first input if nobody reads that later; the gradient of the first
        input then is the memory of the first output's in any case.
    couples_rows : bool
        Whether, in training, a row's output depends on the other rows of its mini-batch.
    """

    outputs: tuple
    parameters: dict[str, Parameter] = dataclasses.field(default_factory=dict)
    state: dict[str, Parameter] = dataclasses.field(default_factory=dict)
    view: bool = False
    in_place: bool = False
    couples_rows: bool = False

    def __post_init__(self) -> None:
        if not self.outputs or not isinstance(self.outputs[0], tuple):
            object.__setattr__(self, "outputs", (self.outputs,))


@dataclasses.dataclass
class Array:
    """An input or an output of a bound layer.

    Attributes
    ----------
    array : ndarray (rows, *shape)
    mask : ndarray (rows, *positions), bool, or None
        False where an element is not there.
    gradient : ndarray (rows, *shape) or None
        The loss's gradient with respect to `array`; None where nobody asks for it.
    """

    array: np.ndarray
    mask: np.ndarray | None = None
    gradient: np.ndarray | None = None


class Binding:
    """What a layer sees when its passes are bound: arrays, and the program that calls are appended to.

    The same binding comes to `forward` and then to `backward`: what the one keeps as an attribute, the other finds.

    Attributes
    ----------
    inputs, outputs : list of Array
    p, g : namespace
        Parameters and state, and the gradients of the parameters, by name: ``b.p.w``. `backward` overwrites ``b.g``.
    rows : int
    training : bool
        Whether layers behave as in training.
    in_place : bool
        Whether y is the memory of x.
    first_row : int
        Of the mini-batch, where it is cut into shards.
    clock : ndarray (1,)
        The run's, as kernels take it: see `nbbp.kernels.clock`.
    """

    def __init__(self, program: "Program", name: str, inputs: list[Array], outputs: list[Array], p: Views) -> None:
        self.program, self.name, self.inputs, self.outputs, self.p = program, name, inputs, outputs, p
        self.g = Views()
        self.in_place = inputs[0].array.ctypes.data == outputs[0].array.ctypes.data
        self.rows, self.training, self.first_row = program.rows, program.training, program.first_row
        self.clock = program.clock.record

    @property
    def x(self) -> np.ndarray:
        """The first input (rows, *shape)."""
        return self.inputs[0].array

    @property
    def y(self) -> np.ndarray:
        """The first output (rows, *shape), which `forward` overwrites; it may be the memory of x."""
        return self.outputs[0].array

    @property
    def dx(self) -> np.ndarray | None:
        """The gradient of x, which `backward` overwrites; None where nobody asks for it; it may be the memory of dy."""
        return self.inputs[0].gradient

    @property
    def dy(self) -> np.ndarray:
        """The gradient of y, which may be spoilt."""
        gradient = self.outputs[0].gradient
        assert gradient is not None
        return gradient

    def call(self, kernel: Kernel, *arrays: np.ndarray) -> "Call":
        """Append a call."""
        return self.program.call(kernel, *arrays)

    def buffer(self, *shape: int, dtype=None, per_thread: bool = False) -> np.ndarray:
        """An array, 0 at first, that holds what one call hands to a later one; of the model's dtype, or another.

        With `per_thread` the first axis has an entry for each thread.
        """
        return self.program.buffer(*((threads.most(),) if per_thread else ()), *shape, dtype=dtype)

    def constant(self, *values: float) -> np.ndarray:
        """Numbers that a kernel takes, as an array of the model's dtype."""
        return np.array(values, self.program.dtype)

    def derived(self, kernel: Kernel, shape: Shape, *sources: np.ndarray) -> np.ndarray:
        """An array that ``kernel(array, *sources)`` makes of parameters once an update, such as a transposed weight.

        Shards, micro-batches and blocks of rows share it.
        """
        return self.program.derived(kernel, shape, *sources)

    def carry(self, name: str, *shape: int) -> np.ndarray:
        """An array (rows, *shape) that `forward` reads and overwrites: what it hands to the next step.

        It is 0 when a fit begins, and lives from step to step, in checkpoints too; row i of a mini-batch goes on from
        row i of the one before. Predictions and evaluations begin with 0, each row by itself.
        """
        return self.program.carry(f"{self.name}.{name}", shape)

    def scheduled(self, value: float | Schedule) -> np.ndarray:
        """A number that may change from step to step, as an array (1,) of the model's dtype."""
        if not isinstance(value, Schedule):
            return self.constant(value)
        schedule = value
        return self.program.scheduled(lambda before, count: schedule(before + np.arange(count))[:, np.newaxis])

    def stream(self) -> np.uint64:
        """Key of a stream of random numbers that no other layer draws from."""
        return self.program.stream()


class Layer:
    """A function of a mini-batch, with parameters.

    A sample's features come last: (features,), (time, features), (height, width, channels); arrays have the batch
    first. A layer is immutable; calling it on edges, see `nbbp.Input`, adds a node to a graph. Binding appends kernel
    calls to a program and computes nothing.
    """

    reads: tuple[str, ...] = ("x", "y")
    """What `backward` reads: "x" for the inputs, "y" for the outputs; decides what may be overwritten."""
    takes_integers: bool = False
    """Whether inputs may be integers, see `nbbp.Input`."""

    def __call__(self, *inputs: Edge) -> Any:
        """The output of this layer for these inputs, in a graph."""
        return connect(self, inputs)

    def expand(self, *inputs: Edge) -> Any:
        """The output as other layers make it, where this one is a shorthand for some; else NotImplemented."""
        return NotImplemented

    def spec(self, *input_shapes: Shape) -> Spec:
        """Outputs, parameters and state for inputs of these shapes; ValueError, with what fits, if they do not.

        Unless it is overridden, one input gives one output of its shape, without parameters.
        """
        (shape,) = input_shapes
        return Spec(shape)

    @classmethod
    def example(cls, x: Edge) -> Any:
        """The output of such a layer for an input, as tests try it; overridden if it needs settings or more inputs."""
        return cls()(x)

    def check_input(self, name: str, x: np.ndarray) -> None:
        """ValueError where rows of x cannot go into this layer, the first of a network."""

    def forward(self, b: Binding) -> None:
        """Bind the calls that overwrite the outputs from the inputs."""
        raise NotImplementedError

    def backward(self, b: Binding) -> None:
        """Bind the calls that overwrite the gradients of the parameters, and of the inputs that are not None."""
        raise NotImplementedError
