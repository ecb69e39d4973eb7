"""Presets: how a table becomes the input of a network, and which network is trained on it."""

import dataclasses

from nbbp import checks
from nbbp.layers import Dense, Dropout, Layer
from nbbp.optimizers import OPTIMIZERS, AdamW, Optimizer
from nbbp.schedules import Cosine
from nbbp.sequential import Sequential
from nbbp.tables import ClassTarget, TableEncoder, ValueTarget
from nbbp.tables.encoding import BINS, ONE_HOT

Target = ClassTarget | ValueTarget


@dataclasses.dataclass(frozen=True)
class Preset:
    """The base of presets: the encoding of the columns, and the length of the training.

    Parameters
    ----------
    epochs : int
    batch_size : int
        The largest number of rows in a mini-batch.
    bins : int
        The number of quantile bins beside each number.
    one_hot : int
        Up to which number of categories each has a column of its own.
    """

    epochs: int = 64
    batch_size: int = 256
    bins: int = BINS
    one_hot: int = ONE_HOT

    def network(self, encoder: TableEncoder, target: Target, steps: int, seed: int) -> Sequential:
        """A network that is not trained yet; `steps` is the number of its updates."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Plain(Preset):
    """Dense layers with dropout, trained by AdamW at a rate that falls as a cosine.

    Parameters
    ----------
    epochs, batch_size, bins, one_hot
        As for `Preset`.
    hidden : tuple of int
        The units of the hidden layers.
    activation : str
    dropout : float
        After each hidden layer.
    optimizer : str
        One of `nbbp.OPTIMIZERS`.
    learning_rate : float or None
        The first learning rate; None for 0.003, or the default of an optimizer other than AdamW.
    weight_decay : float
        Of AdamW.
    """

    hidden: tuple[int, ...] = (256, 256, 256)
    activation: str = "silu"
    dropout: float = 0.15
    optimizer: str = "adamw"
    learning_rate: float | None = None
    weight_decay: float = 0.02

    def network(self, encoder, target, steps, seed):
        layers: list[Layer] = encoder.layers()
        for units in self.hidden:
            layers += [Dense(units, self.activation), *[Dropout(self.dropout)] * (self.dropout > 0)]
        outputs, loss = (
            (len(target.classes), "softmax_cross_entropy") if isinstance(target, ClassTarget) else (1, "mse")
        )
        return Sequential([*layers, Dense(outputs)], loss, self._optimizer(steps), [metric(target)], seed)

    def _optimizer(self, steps: int) -> Optimizer:
        kind = checks.choose("optimizer", self.optimizer, OPTIMIZERS)
        if kind is AdamW:
            return AdamW(Cosine(self.learning_rate or 0.003, steps), beta2=0.95, weight_decay=self.weight_decay)
        return kind(Cosine(self.learning_rate or kind().learning_rate, steps))


def metric(target: Target) -> str:
    """The metric that is recorded after each epoch."""
    return "accuracy" if isinstance(target, ClassTarget) else "r2"


PRESETS: dict[str, Preset] = {"plain": Plain()}
