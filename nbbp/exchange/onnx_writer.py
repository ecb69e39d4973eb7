"""The operators and constants of an ONNX file, as they are added."""

import itertools
from collections.abc import Sequence

import numpy as np

Output = tuple[str, np.dtype | type, Sequence[int]]
"""The name of an array, its dtype, and its axes after the rows."""

Parameters = dict[str, str]
"""Names of the constants of a layer's parameters and state, by their short names."""


class Writer:
    """The operators and constants of a file, as they are added.

    Parameters
    ----------
    dtype : numpy.dtype
        The dtype of the model.
    taken : sequence of str
        The names of inputs and outputs.

    Attributes
    ----------
    operators : list of onnx.NodeProto
    constants : dict of str to onnx.TensorProto
    scope : str
        The prefix of new names, such as ``dense_0/``.
    axis : int
        The axis of features of the arrays that the current layer takes and returns: -1, or 1 for channels first.
    """

    def __init__(self, dtype: np.dtype, taken: Sequence[str]) -> None:
        self.operators: list = []
        self.constants: dict = {}
        self.dtype, self.scope, self.axis = dtype, "", -1
        self._taken, self._numbers = set(taken), {}  # type: set[str], dict[float, str]

    def operator(self, kind: str, *inputs: str, **attributes) -> str:
        """Add an operator; returns the name of its output."""
        return self.operator_of_several(kind, 1, *inputs, **attributes)[0]

    def operator_of_several(self, kind: str, count: int, *inputs: str, **attributes) -> list[str]:
        """Add an operator; returns the names of its outputs."""
        from onnx import helper

        outputs = [self._name(kind) for _ in range(count)]
        self.operators.append(helper.make_node(kind, inputs, outputs, outputs[0], **attributes))
        return outputs

    def result(self, name: str, x: str) -> None:
        """Make x an output of the network."""
        from onnx import helper

        self.operators.append(helper.make_node("Identity", [x], [name], self._name("Identity")))

    def array(self, name: str, values) -> str:
        """Add a constant; returns its name."""
        from onnx import numpy_helper

        name = self._name(name)
        self.constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def number(self, value: float) -> str:
        """Add a number in the model's dtype, once; returns its name."""
        if value not in self._numbers:
            self._numbers[value] = self.array(f"{value!r}", np.array(value, self.dtype))
        return self._numbers[value]

    def cast(self, x: str, dtype) -> str:
        """Add a cast to a dtype; returns the name of its output."""
        from onnx import helper

        return self.operator("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _name(self, name: str) -> str:
        """The name in the scope, with a number if it is taken."""
        names = (f"{self.scope}{name}{f'_{k}' if k else ''}" for k in itertools.count())
        name = next(name for name in names if name not in self._taken)
        self._taken.add(name)
        return name
