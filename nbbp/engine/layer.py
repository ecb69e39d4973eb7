"""The layer, and its view of a program when it is bound."""

import dataclasses
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbp.engine.node import Edge, Shape, connect
from nbbp.initializers import Initializer
from nbbp.kernels.gemm import ADDED_ROWS, column_sums, row_blocks, sum_parts, total_of_parts
from nbbp.kernels.jit import Kernel
from nbbp.schedules import Schedule

if TYPE_CHECKING:
    from nbbp.engine.program import Call, Program

Views = types.SimpleNamespace  # a layer's arrays by their names: p.w, p.b


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter: its shape, how its initial values are drawn, and what happens to it in training.

    Parameters
    ----------
    shape : tuple of int
    initializer : callable
        A function of (shape, generator), see `nbbp.INITIALIZERS`.
    l1, l2 : float
        l1 sum |w| + l2 sum w^2 is added to the loss.
    max_norm : float, optional
        After each update, the columns of a matrix whose norm is larger are scaled down to this norm.
    rate, decay : float
        Factors of the optimizer's learning rate and weight decay.
    scale : float
        What the optimizer trains is the parameter divided by this, as if the layer multiplied it: see `nbbp.Dense`. Its
        penalties, its bound, and clipping remain those of the parameter, and so does the optimizer's epsilon.
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
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Spec:
    """A layer's outputs, parameters and state for inputs of given shapes.

    Parameters
    ----------
    outputs : tuple of int, or tuple of such tuples
        The shape of a sample's output, or of several.
    parameters, state : dict of str to Parameter
        Trained arrays, and arrays that persist from step to step but are not trained, such as running means.
    view : bool
        Whether the output is the first input's memory in another shape; `forward` and `backward` are not called then.
    in_place : bool
        Whether the first output may overwrite the first input if nothing reads that later; the gradient of the first
        input then always shares memory with the first output's.
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
        False at masked elements.
    gradient : ndarray (rows, *shape) or None
        The loss's gradient with respect to `array`; None if it is not needed.
    """

    array: np.ndarray
    mask: np.ndarray | None = None
    gradient: np.ndarray | None = None


class Binding:
    """A layer's view when its passes are bound: its arrays, and the program to which it appends calls.

    `forward` and then `backward` receive the same binding: an attribute that one sets is available to the other.

    Attributes
    ----------
    inputs, outputs : list of Array
    p, g : namespace
        Parameters and state, and the gradients of the parameters, by name: ``b.p.w``. `backward` overwrites ``b.g``.
    rows : int
    training : bool
        Whether layers behave as in training.
    in_place : bool
        Whether y shares the memory of x.
    first_row : int
        The index in the mini-batch of the first row, if the mini-batch is cut into shards.
    clock : ndarray (1,)
        The run's clock, as kernels take it: see `nbbp.kernels.clock`.
    rounds : bool
        Whether products round their operands to bfloat16: see `nbbp.Model`.
    """

    def __init__(
        self, program: "Program", name: str, inputs: list[Array], outputs: list[Array], p: Views, rounds: bool = False
    ) -> None:
        self.program, self.name, self.inputs, self.outputs, self.p = program, name, inputs, outputs, p
        self.rounds = rounds
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
        """The first output (rows, *shape), which `forward` overwrites; it may share the memory of x."""
        return self.outputs[0].array

    @property
    def dx(self) -> np.ndarray | None:
        """The gradient of x, which `backward` overwrites; None if it is not needed; it may share the memory of dy."""
        return self.inputs[0].gradient

    @property
    def dy(self) -> np.ndarray:
        """The gradient of y, which may be overwritten."""
        gradient = self.outputs[0].gradient
        assert gradient is not None
        return gradient

    def call(self, kernel: Kernel, *arrays: np.ndarray) -> "Call":
        """Append a call."""
        return self.program.call(kernel, *arrays)

    def sum_rows(self, sums: np.ndarray, x: np.ndarray) -> None:
        """Append the sum of x (rows, n) over its rows: threads share the columns of few rows, the blocks of many."""
        if len(x) <= ADDED_ROWS:
            self.call(column_sums, sums, x)
            return
        parts = self.buffer(row_blocks(len(x)), len(sums))
        self.call(sum_parts, parts, x)
        self.call(total_of_parts, sums, parts)

    def buffer(self, *shape: int, dtype=None) -> np.ndarray:
        """An array, 0 at first, through which one call passes values to a later one; None is the model's dtype.

        Shards and micro-batches that run one after the other share it.
        """
        return self.program.buffer(*shape, dtype=dtype)

    def scratch(self, *shape: int, dtype=None) -> np.ndarray:
        """An array (threads, *shape) whose content has no meaning before and after a call: layers share it."""
        return self.program.scratch(*shape, dtype=dtype)

    def workspace(self, *shape: int, dtype) -> np.ndarray:
        """An array whose content has no meaning before and after a call, for all threads that share the call's work."""
        return self.program.workspace(*shape, dtype=dtype)

    def constant(self, *values: float) -> np.ndarray:
        """Constants of a kernel, as an array of the model's dtype."""
        return np.array(values, self.program.dtype)

    def derived(self, kernel: Kernel, shape: Shape, *sources: np.ndarray, dtype=None) -> np.ndarray:
        """An array that ``kernel(array, *sources)`` computes from parameters once per update, such as w transposed.

        Shards, micro-batches and blocks of rows share it.
        """
        return self.program.derived(kernel, shape, *sources, dtype=dtype)

    def carry(self, name: str, *shape: int) -> np.ndarray:
        """An array (rows, *shape) that `forward` reads and overwrites: what it passes to the next step.

        It is 0 when an epoch begins, and persists from step to step and in checkpoints; row i of a mini-batch continues
        from row i of the one before. Predictions and evaluations start each row from 0.
        """
        return self.program.carry(f"{self.name}.{name}", shape)

    def scheduled(self, value: float | Schedule) -> np.ndarray:
        """A number that may change from step to step, as an array (1,) of the model's dtype."""
        if not isinstance(value, Schedule):
            return self.constant(value)
        schedule = value
        return self.program.scheduled(lambda before, count: schedule(before + np.arange(count))[:, np.newaxis])

    def stream(self) -> np.uint64:
        """The key of a stream of random numbers that no other layer draws from."""
        return self.program.stream()


class Layer:
    """A function of a mini-batch, with parameters.

    A sample's features come last: (features,), (time, features), (height, width, channels); arrays have the batch
    first. A layer is immutable; calling it on edges, see `nbbp.Input`, adds a node to a graph. Binding appends kernel
    calls to a program and computes nothing.
    """

    reads: tuple[str, ...] = ("x", "y")
    """What `backward` reads: "x" for the inputs, "y" for the outputs; determines what may be overwritten."""
    takes_integers: bool = False
    """Whether inputs may be integers, see `nbbp.Input`."""
    gathers: bool = False
    """Whether `gather` takes the place of `forward` where only this layer reads an input of integers without a mask."""
    stateful: bool = False
    """Whether row i of a mini-batch continues from row i of the one before, see `Binding.carry`."""
    of_members: bool = False
    """Whether the first axis of its output are members of an ensemble, see `nbbp.Members`."""
    recurrent: bool = False
    """Whether a row goes through the layer step by step, so that products have the rows of one step alone."""

    def __call__(self, *inputs: Edge) -> Any:
        """The output of this layer for these inputs, in a graph."""
        return connect(self, inputs)

    def expand(self, *inputs: Edge) -> Any:
        """The output of the layers that this one is a shorthand for; NotImplemented if it is none."""
        return NotImplemented

    @property
    def owner(self) -> "Layer":
        """The layer whose parameters it has: itself, or another, which comes before it in the network."""
        return self

    def spec(self, *input_shapes: Shape) -> Spec:
        """Outputs, parameters and state for inputs of these shapes; ValueError, which says what fits, if they do not.

        By default, one input gives one output of its shape, without parameters.
        """
        (shape,) = input_shapes
        return Spec(shape)

    @classmethod
    def example(cls, x: Edge) -> Any:
        """The output of such a layer for an edge, for tests; overridden if it needs settings or more inputs."""
        return cls()(x)

    def input_dtype(self, dtype: np.dtype) -> str | None:
        """The dtype of integers in which a `Sequential` that begins with this layer takes X of a dtype; None for none.

        "uint8" or "int32", see `nbbp.Input`; by default the data become floats.
        """
        return None

    def check_input(self, name: str, x: np.ndarray) -> None:
        """ValueError if this layer, the first of a network, cannot take the rows of x."""

    def gather(self, b: Binding, bind: Callable[..., None]) -> None:
        """Bind what `forward` does, from rows anywhere in the data: for layers with `gathers` alone.

        ``bind(kernel, y, *arrays)`` binds ``kernel(y, data, *arrays, order, clock)``, with data (all rows, elements).
        The indices of the mini-batch's rows are in `order` from clock[0].row on.
        """
        raise NotImplementedError

    def forward(self, b: Binding) -> None:
        """Bind the calls that overwrite the outputs from the inputs."""
        raise NotImplementedError

    def backward(self, b: Binding) -> None:
        """Bind the calls that overwrite the gradients of the parameters, and of the inputs that are not None."""
        raise NotImplementedError
