"""Loss functions: value and gradient in one kernel, compiled and in NumPy.

For a mini-batch of b rows with c outputs each, a loss kernel writes

    row_loss (b)      the loss of each row
    dz (b, c)         scale[i] times the gradient of row i's loss with respect to its outputs z

and the mini-batch's loss is sum_i scale[i] row_loss[i], with scale 1/b: **the mean over the batch**. Whether a row's
loss is a mean or a sum over its c outputs differs from loss to loss and is stated in each description.

To add a loss that works output by output, write its value and slope as scalar functions and enter them in
`nbbp/losses/elementwise.py` with their NumPy twins; any other loss has a file with its kernels.
"""

from nbbp.losses.base import LOSSES, Loss, restored
from nbbp.losses.cross_entropy import cross_entropy, softmax_cross_entropy
from nbbp.losses.distillation import distillation
from nbbp.losses.elementwise import binary_cross_entropy, define, half_mse, huber, mae, mse, poisson
from nbbp.losses.gaussian_nll import gaussian_nll
from nbbp.losses.pinball import Pinball, pinball

__all__ = [
    "LOSSES", "Loss", "Pinball", "binary_cross_entropy", "cross_entropy", "define", "distillation", "gaussian_nll",
    "half_mse", "huber", "mae", "mse", "pinball", "poisson", "restored", "softmax_cross_entropy",
]  # fmt: skip
