"""Residual: layers around which their input is carried."""

import dataclasses
import functools
from collections.abc import Sequence

from nbbp import network
from nbbp.layers.base import Layer, Shape, Views
from nbbp.layers.dense import Dense
from nbbp.layout import Layout, lay_out, named
from nbbp.program import accumulate, copy


@dataclasses.dataclass(frozen=True)
class Residual(Layer):
    """y = x + f(x), f being layers in a row; y = x . w + f(x) where their output has another shape than x.

    He et al., "Deep residual learning for image recognition", 2016.

    Parameters
    ----------
    layers : sequence of Layer
    """

    layers: Sequence[Layer]

    needs_output = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"Residual: layers must be nbbp layers, such as nbbp.Dense(10); got {layer!r}")
        if not self.layers:
            raise ValueError("Residual needs at least one layer")

    @property
    def couples_rows(self):
        return any(part.couples_rows for layer in self.layers for part in layer.expand())

    def _inside(self, input_shape: Shape) -> tuple[Layout, Dense | None]:
        """The inner layers laid out, and the projection where there is one."""
        if input_shape not in self._known:
            layout = lay_out(self.layers, input_shape)
            same = layout.output_shape == input_shape
            self._known[input_shape] = layout, None if same else Dense(layout.output_shape[0], use_bias=False)
        return self._known[input_shape]

    @functools.cached_property
    def _known(self) -> dict[Shape, tuple[Layout, Dense | None]]:
        """What `_inside` gave before: laid out each time anew, nested layers would take time exponential in depth."""
        return {}

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "_known"}  # closures cannot be pickled

    def output_shape(self, input_shape):
        layout, projection = self._inside(input_shape)
        return layout.output_shape if projection is None else projection.output_shape(input_shape)

    def parameters(self, input_shape):
        layout, projection = self._inside(input_shape)
        carried = {} if projection is None else projection.parameters(input_shape)
        inner = {f"{place.name}.{k}": v for place in layout.places for k, (_, v) in place.parameters.items()}
        return inner | {f"projection.{k}": v for k, v in carried.items()}

    def state(self, input_shape):
        places = self._inside(input_shape)[0].places
        return {f"{place.name}.{k}": v for place in places for k, (_, v) in place.state.items()}

    def check_input(self, name, x):
        self.layers[0].expand()[0].check_input(name, x)

    def penalize(self, program, total, p, g):
        strengths = []
        for name, layer in named(self.layers):
            strengths += layer.penalize(program, total, _under(name, p), _under(name, g)) or ()
        return strengths

    def constrain(self, program, p):
        for name, layer in named(self.layers):
            layer.constrain(program, _under(name, p))

    def forward(self, program, y, x, p):
        layout, projection = self._inside(x.shape[1:])
        bound = network.forward(program, layout.places, x, _inner(layout, p))
        if projection is None:
            program.call(copy, y.reshape(-1), x.reshape(-1))
        else:
            projection.forward(program, y, x, _under("projection", p))
        program.call(accumulate, y.reshape(-1), bound.y.reshape(-1))
        return layout, projection, bound

    def backward(self, program, dx, dy, x, y, p, g, kept):
        layout, projection, bound = kept
        inner_dy = program.buffer(*dy.shape)
        program.call(copy, inner_dy.reshape(-1), dy.reshape(-1))
        inner_dx = network.backward(
            program, layout.places, bound, inner_dy, _inner(layout, p), _inner(layout, g), to_input=dx is not None
        )
        if projection is not None:
            parameters, gradients = _under("projection", p), _under("projection", g)
            projection.backward(program, dx, dy, x, y, parameters, gradients, None)
        elif dx is not None:
            program.call(copy, dx.reshape(-1), dy.reshape(-1))
        if inner_dx is not None:
            program.call(accumulate, dx.reshape(-1), inner_dx.reshape(-1))


def _under(prefix: str, views: Views) -> Views:
    """The arrays whose names begin with `prefix` and a dot, without them."""
    return Views(**{k.removeprefix(f"{prefix}."): v for k, v in vars(views).items() if k.startswith(f"{prefix}.")})


def _inner(layout: Layout, views: Views) -> list[Views]:
    return [_under(place.name, views) for place in layout.places]
