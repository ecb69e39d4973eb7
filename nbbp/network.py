"""A network: a layout with its parameters and gradients, bound to programs."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from nbbp.kernels import arrays
from nbbp.layers.base import Views
from nbbp.layout import Layout, Place
from nbbp.losses import Loss
from nbbp.program import Program


@dataclasses.dataclass(frozen=True)
class Pass:
    """Arrays of a bound forward pass: the input, what each layer put out, (batch, *shape), and what it kept besides."""

    x: np.ndarray
    outputs: tuple[np.ndarray, ...]
    kept: tuple

    @property
    def y(self) -> np.ndarray:
        """The last output."""
        return self.outputs[-1] if self.outputs else self.x


def forward(program: Program, places: Sequence[Place], x: np.ndarray, views: Sequence[Views]) -> Pass:
    """Bind the forward pass of x (rows, *input_shape) through layers in a row, each with its arrays."""
    outputs: list[np.ndarray] = []
    kept = []
    reads_its_output = True  # of the layer before: the input itself is never overwritten
    for place, p in zip(places, views, strict=True):
        source, layer = outputs[-1] if outputs else x, place.layer
        in_place = layer.in_place and not (layer.needs_input or reads_its_output)
        y = source if in_place else program.buffer(program.rows, *place.output_shape)
        calls = len(program.calls)
        kept.append(layer.forward(program, y, source, p))
        if y is not source and len(program.calls) == calls:
            raise TypeError(f"{place.name}: forward computed y itself, or not at all; it must bind program.call(...)")
        outputs.append(y)
        reads_its_output = layer.needs_output
    return Pass(x, tuple(outputs), tuple(kept))


def backward(
    program: Program,
    places: Sequence[Place],
    bound: Pass,
    dy: np.ndarray,
    views: Sequence[Views],
    gradients: Sequence[Views],
    to_input: bool,
) -> np.ndarray | None:
    """Bind the backward pass from dy, which it may spoil; overwrites `gradients`.

    Returns dx, or None where `to_input` is false: the layers before the first parameter have nothing to do then.
    """
    first = 0 if to_input else next((i for i, place in enumerate(places) if place.parameters), len(places))
    for i in range(len(places) - 1, first - 1, -1):
        place, x = places[i], bound.outputs[i - 1] if i else bound.x
        if i == first and not to_input:
            dx = None
        elif place.layer.in_place:
            dx = dy
        else:
            dx = program.buffer(program.rows, *place.input_shape)
        place.layer.backward(program, dx, dy, x, bound.outputs[i], views[i], gradients[i], bound.kept[i])
        if dx is None:
            return None
        dy = dx
    return dy if to_input else None


class Network:
    """Flat `params` and `grads`, and how a mini-batch goes forward and backward through the layers.

    `state` holds what layers keep from step to step without training it, such as running means. Both are drawn from the
    seed, or copied where they are given.
    """

    def __init__(self, layout: Layout, dtype, seed: int, params=None, state=None) -> None:
        self.layout, self.seed = layout, seed
        if params is None:
            params, state = layout.initial(seed)
        self.params, self.state = arrays.copied(params, dtype), arrays.copied(state, dtype)
        self.grads = arrays.zeros(self.params.shape, dtype)
        self.mask: np.ndarray | None = None  # 0 where a parameter is pruned, else 1
        self._views = [place.views(self.params, self.state) for place in layout.places]

    def input(self, program: Program) -> np.ndarray:
        """A buffer for the rows that go in."""
        return program.buffer(program.rows, *self.layout.input_shape)

    def forward(self, program: Program, x: np.ndarray) -> Pass:
        """Bind the forward pass of x (rows, *input_shape)."""
        return forward(program, self.layout.places, x, self._views)

    def gradients(
        self,
        program: Program,
        loss: Loss,
        x: np.ndarray,
        target: np.ndarray,
        row_loss: np.ndarray,
        scale: np.ndarray,
        grads: np.ndarray,
    ) -> np.ndarray:
        """Bind forward, loss and backward.

        Afterwards row_loss (rows,) holds the loss of each row, and the flat `grads` the gradient of their sum, each
        times its `scale` (rows,). Returns the outputs (rows, outputs).
        """
        bound = self.forward(program, x)
        dy = program.buffer(*bound.y.shape)
        z, dz = bound.y.reshape(program.rows, -1), dy.reshape(program.rows, -1)
        loss.bind(program, row_loss, dz, z, target, scale)
        places = self.layout.places
        backward(program, places, bound, dy, self._views, [place.views(grads) for place in places], to_input=False)
        return z

    def penalize(self, program: Program, total: np.ndarray, grads: np.ndarray) -> list[np.ndarray]:
        """Bind the layers' penalties: their sum is added to total (1,), their gradient to the flat `grads`.

        Returns the arrays of their strengths, which may change from step to step.
        """
        strengths: list[np.ndarray] = []
        for place, p in zip(self.layout.places, self._views, strict=True):
            strengths += place.layer.penalize(program, total, p, place.views(grads)) or ()
        return strengths

    def constrain(self, program: Program) -> None:
        """Bind what brings parameters back into their bounds after an update."""
        for place, p in zip(self.layout.places, self._views, strict=True):
            place.layer.constrain(program, p)
