"""Optimizers: one loop over the flat parameter array.

An optimizer says how many moment arrays it keeps and, for any step, the few numbers that its kernel takes: step size,
decay rates, bias corrections. These are computed in float64 from the step number alone, so that a schedule costs the
kernel nothing. g is the gradient of the mini-batch's loss; all arrays are flat and of one length. Kernels put 0 for
what would be denormal: where gradients are 0, moments decay to such numbers within a thousand steps, and stay there.

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
