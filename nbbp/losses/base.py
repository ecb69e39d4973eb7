"""The loss function, and the table of all losses."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from nbbp import checks
from nbbp.engine.program import Program
from nbbp.kernels.jit import Kernel


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss function.

    Attributes
    ----------
    description : str
        The equation, which mean is taken, and how PyTorch's and Keras's versions differ.
    dense : Kernel
        ``(row_loss, dz, z, target, scale)`` for targets of the outputs' shape.
    labels : Kernel or None
        The same for integer class labels (b, 1); None if the loss takes no labels.
    link : str
        The output activation, which turns outputs into predictions.
    valid_targets : tuple of float
        The smallest and the largest valid target.
    from_probabilities : bool
        Whether the outputs must be probabilities already.
    target_columns : callable
        The number of columns of targets, given the number of outputs.
    numbers : tuple of float
        Settings that the kernel takes in an additional array.
    number_per_output : bool
        Whether there is one of these numbers for each output of an element.
    outputs_per_target : int
        The outputs are a multiple of this; the first of its parts are values for the targets, as metrics take them.
    """

    name: str
    description: str
    dense: Kernel
    labels: Kernel | None = None
    link: str = "linear"
    valid_targets: tuple[float, float] = (-np.inf, np.inf)
    from_probabilities: bool = False
    target_columns: Callable[[int], int] = int
    numbers: tuple[float, ...] = ()
    number_per_output: bool = False
    outputs_per_target: int = 1

    @property
    def of_classes(self) -> bool:
        """Whether targets are classes or answers to yes/no questions, or their probabilities."""
        return self.labels is not None or self.link in ("softmax", "sigmoid")

    def __reduce__(self):
        return restored, (self.name, self.numbers)

    def check_outputs(self, outputs: int) -> None:
        """ValueError unless the loss takes so many outputs of an element."""
        if self.number_per_output and outputs != len(self.numbers):
            each = ", ".join(f"{number:g}" for number in self.numbers)
            raise ValueError(f"{self.name} takes an output for each of {each}, and the model's last axis has {outputs}")
        if outputs % self.outputs_per_target:
            raise ValueError(
                f"{self.name} takes {self.outputs_per_target} outputs for each target, and the model's last axis has "
                f"{outputs}"
            )

    def bind(self, program: Program, row_loss, dz, z, target, scale) -> None:
        """Bind the kernel for targets of this kind; dz (rows, outputs) is overwritten, as is row_loss (rows,)."""
        chosen = self.labels if self.labels and target.dtype.kind == "i" else self.dense
        numbers = [np.array(self.numbers, z.dtype)] if self.numbers else []
        program.call(chosen, row_loss, dz, z, target, scale, *numbers)


LOSSES: dict[str, Loss] = {}


def restored(name: str, numbers: Sequence[float]) -> Loss:
    """The loss with this name and these settings; ValueError if there is none."""
    loss = checks.choose("loss", name, LOSSES)
    if len(numbers) != len(loss.numbers) and not loss.number_per_output:
        raise ValueError(f"{name} has {len(loss.numbers)} numbers, got {len(numbers)}")
    return dataclasses.replace(loss, numbers=tuple(float(number) for number in numbers))


DENSE, LABELS = "(b) (b,c) (b,c) (b,c) (b)", "(b) (b,c) (b,c) (b,1) (b)"
"""Shapes of the kernels' arguments."""
