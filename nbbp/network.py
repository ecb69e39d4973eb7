"""A network: a layout with its parameters and gradients, bound to programs."""

import dataclasses

import numpy as np

from nbbp.layout import Layout
from nbbp.losses import Loss
from nbbp.program import Program


@dataclasses.dataclass(frozen=True)
class Pass:
    """Arrays of a bound forward pass: the input and what each layer put out, (batch, *shape)."""

    x: np.ndarray
    outputs: tuple[np.ndarray, ...]

    @property
    def z(self) -> np.ndarray:
        """Outputs of the network, (batch, outputs)."""
        last = self.outputs[-1] if self.outputs else self.x
        return last.reshape(len(last), -1)


class Network:
    """Flat `params` and `grads`, and how a mini-batch goes forward and backward through the layers."""

    def __init__(self, layout: Layout, dtype, seed: int) -> None:
        self.layout = layout
        self.params = layout.initial(seed).astype(dtype)
        self.grads = np.zeros_like(self.params)

    def input(self, program: Program) -> np.ndarray:
        """A buffer for the rows that go in."""
        return program.buffer(program.rows, *self.layout.input_shape)

    def forward(self, program: Program, x: np.ndarray) -> Pass:
        """Bind the forward pass of x (rows, *input_shape)."""
        outputs: list[np.ndarray] = []
        reads_its_output = True  # of the layer before: the input itself is never overwritten
        for place in self.layout.places:
            source = outputs[-1] if outputs else x
            layer, same_shape = place.layer, place.input_shape == place.output_shape
            in_place = same_shape and not (layer.needs_input or reads_its_output)
            y = source if in_place else program.buffer(program.rows, *place.output_shape)
            layer.forward(program, y, source, place.views(self.params))
            outputs.append(y)
            reads_its_output = layer.needs_output
        return Pass(x, tuple(outputs))

    def backward(self, program: Program, bound: Pass, dz: np.ndarray, grads: np.ndarray) -> None:
        """Bind the backward pass from dz (rows, outputs), which it may spoil; overwrites the flat `grads`."""
        places = self.layout.places
        first = next((i for i, place in enumerate(places) if place.parameters), len(places))
        dy: np.ndarray | None = dz.reshape(program.rows, *self.layout.output_shape)
        for i in range(len(places) - 1, first - 1, -1):
            place = places[i]
            x = bound.outputs[i - 1] if i else bound.x
            if i == first:
                dx = None
            elif place.input_shape == place.output_shape and not place.parameters:
                dx = dy
            else:
                dx = program.buffer(program.rows, *place.input_shape)
            assert dy is not None
            views = place.views(self.params), place.views(grads)
            place.layer.backward(program, dx, dy, x, bound.outputs[i], *views)
            dy = dx

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
        dz = program.buffer(*bound.z.shape)
        program.call(loss.kernel(target), row_loss, dz, bound.z, target, scale)
        self.backward(program, bound, dz, grads)
        return bound.z
