"""What convolutions share: their settings."""

import dataclasses
from typing import ClassVar

from nbbp import checks
from nbbp.engine.layer import Parameter
from nbbp.initializers import Initializer
from nbbp.layers.weighted import Weighted
from nbbp.layers.windows import Numbers, Padding, check_padding, each_axis


@dataclasses.dataclass(frozen=True)
class Convolution(Weighted):
    """The settings of a convolution; each kind says how many axes of positions it has."""

    axes: ClassVar[int] = 2

    filters: int
    kernel_size: int | Numbers
    strides: int | Numbers = 1
    padding: Padding = "valid"
    activation: str = "linear"
    use_bias: bool = True
    dilation_rate: int | Numbers = 1
    groups: int = 1
    initializer: str | Initializer = "glorot_uniform"
    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None

    def __post_init__(self) -> None:
        kind = type(self).__name__
        for name in ("filters", "groups"):
            object.__setattr__(self, name, checks.positive_integer(f"{kind}: {name}", getattr(self, name)))
        for name in ("kernel_size", "strides", "dilation_rate"):
            object.__setattr__(self, name, each_axis(f"{kind}: {name}", getattr(self, name), self.axes))
        object.__setattr__(self, "padding", check_padding(f"{kind}: padding", self.padding, self.axes))
        self.check_settings()

    def check_groups(self, channels: int, filters: int) -> None:
        """ValueError if the groups do not divide the channels and the filters."""
        for count, what in ((channels, "channels"), (filters, "filters")):
            if count % self.groups:
                raise ValueError(f"{type(self).__name__}: {self.groups} groups do not divide {count} {what}")

    def weights(self, channels: int, filters: int) -> dict[str, Parameter]:
        """The parameters: w (*kernel_size, channels of a group, filters), and b."""
        size = each_axis("kernel_size", self.kernel_size, self.axes)
        return self.parameters((*size, channels // self.groups, filters), self.filters)
