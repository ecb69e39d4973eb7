"""The arrays of a network's edges in an ONNX file."""

from nbbp.engine.node import Edge
from nbbp.exchange.onnx_writer import Writer


class Arrays:
    """The names of the edges' arrays, each with channels last or first, or both; of flat ones the two are the same."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._known: dict[tuple[Edge, bool], str] = {}
        self._integers: dict[Edge, str] = {}

    def hold(self, edge: Edge, name: str, first: bool = False) -> None:
        """Name an edge's array."""
        if edge.dtype is None:
            self._known[edge, first and len(edge.shape) > 1] = name
        else:
            self._integers[edge] = name

    def given(self, edge: Edge) -> str:
        """Integers as they are; an array of the model's dtype with channels last."""
        return self.read(edge) if edge.dtype is None else self._integers[edge]

    def read(self, edge: Edge, first: bool = False) -> str:
        """An array in the model's dtype, with channels first or last."""
        axes = len(edge.shape)
        first = first and axes > 1
        if (edge, first) not in self._known:
            if first:
                name = self._writer.operator("Transpose", self.read(edge), perm=[0, axes, *range(1, axes)])
            elif edge in self._integers:
                name = self._writer.cast(self._integers[edge], self._writer.dtype)
            else:
                name = self._writer.operator("Transpose", self._known[edge, True], perm=[0, *range(2, axes + 1), 1])
            self._known[edge, first] = name
        return self._known[edge, first]

    def held_first(self, edge: Edge) -> bool:
        """Whether there is an array of an edge with channels first."""
        return (edge, True) in self._known
