"""Optimizers: one loop over the flat parameter array.

An optimizer specifies the number of its moment arrays and, for any step, the coefficients that its kernel takes: step
size, decay rates, bias corrections. They are computed in float64 from the step number only, so that a schedule costs
the kernel nothing. g is the gradient of the mini-batch's loss; all arrays are flat and of the same length. Where
gradients are 0, moments would decay to denormals within a thousand steps, and stay there: kernels flush them to 0, and
add a SPECK to averages of squares, which costs no instruction.

To add one, write a file with its kernel pair and a dataclass, and enter it below.
"""

from nbbp.optimizers.adadelta import Adadelta
from nbbp.optimizers.adagrad import Adagrad
from nbbp.optimizers.adam import Adam, AdamW
from nbbp.optimizers.base import Optimizer
from nbbp.optimizers.lion import Lion
from nbbp.optimizers.nadam import Nadam
from nbbp.optimizers.rmsprop import RMSprop
from nbbp.optimizers.sgd import SGD

OPTIMIZERS = {
    optimizer.__name__.lower(): optimizer for optimizer in (SGD, Adagrad, RMSprop, Adadelta, Adam, AdamW, Nadam, Lion)
}

__all__ = [
    "OPTIMIZERS", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Lion", "Nadam", "Optimizer", "RMSprop",
]  # fmt: skip
