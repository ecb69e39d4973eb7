"""Dense: y = x . w + b, with w of shape (n_in, n_out)."""

import dataclasses
import math

from nbbp import checks
from nbbp.engine.layer import Spec
from nbbp.initializers import INITIALIZERS, Initializer, named
from nbbp.layers.products import product, product_with_rows, product_with_transposed
from nbbp.layers.weighted import Weighted


@dataclasses.dataclass(frozen=True)
class Dense(Weighted):
    """A fully connected layer, activation(x . w + b).

    Parameters
    ----------
    units : int
        The number of outputs.
    activation : str
        The name of the function that is applied to x . w + b, one of `nbbp.ACTIVATIONS`.
    use_bias : bool
        Whether the layer has a bias b.
    initializer, bias_initializer : str or callable
        The initial values of w and of b: one of `nbbp.INITIALIZERS`, or a function of (shape, generator).
    l1, l2 : float
        l1 sum |w| + l2 sum w^2 is added to the loss, as in Keras; PyTorch's weight_decay is 2 l2.
    max_norm : float, optional
        After each update, the weights into a unit are scaled down to this norm if theirs is larger, see Srivastava et
        al., "Dropout", 2014, section 5.1.
    parametrization : {"standard", "ntk"}
        "ntk": w is trained as a matrix that is multiplied by 1 / sqrt(n_in), with which "lecun_normal" is a normal
        distribution of variance 1, and b has a tenth of the learning rate and no weight decay. Jacot, Gabriel and
        Hongler, "Neural tangent kernel", 2018. It changes the steps of the optimizer and nothing else: w itself is what
        is multiplied, stored and exported.
    """

    units: int
    activation: str = "linear"
    use_bias: bool = True
    initializer: str | Initializer = "glorot_uniform"
    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None
    bias_initializer: str | Initializer = dataclasses.field(default="zeros", repr=False)
    parametrization: str = "standard"

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", checks.positive_integer("Dense: units", self.units))
        self.check_settings()
        if not callable(self.bias_initializer):
            checks.choose("initializer", self.bias_initializer, INITIALIZERS)
        checks.choose("parametrization", self.parametrization, dict.fromkeys(("standard", "ntk")))

    @classmethod
    def example(cls, x):
        return cls(7, activation="tanh", l1=0.01, l2=0.01)(x)

    def spec(self, shape):
        if not shape:
            raise ValueError("Dense takes samples whose last axis is features; got single numbers: X.reshape(-1, 1)")
        parameters = self.parameters((shape[-1], self.units), self.units)
        if self.use_bias:
            parameters["b"] = dataclasses.replace(parameters["b"], initializer=named(self.bias_initializer))
        if self.parametrization == "ntk":
            parameters["w"] = dataclasses.replace(parameters["w"], scale=1 / math.sqrt(shape[-1]))
            if self.use_bias:
                parameters["b"] = dataclasses.replace(parameters["b"], rate=0.1, decay=0.0)
        return Spec((*shape[:-1], self.units), parameters)

    def forward(self, b):
        x, y = b.x.reshape(-1, b.x.shape[-1]), b.y.reshape(-1, self.units)
        product(b, y, x, b.p.w, self.bias(b, self.units))

    def backward(self, b):
        x, dy = b.x.reshape(-1, b.x.shape[-1]), b.dy.reshape(-1, self.units)
        product_with_rows(b, b.g.w, b.g.b if self.use_bias else b.buffer(self.units), x, dy)
        if b.dx is not None:
            product_with_transposed(b, b.dx.reshape(x.shape), dy, b.p.w)
