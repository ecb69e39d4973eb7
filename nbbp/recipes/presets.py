"""Presets: how a table becomes the input of a network, and which network is trained on it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbbp import checks
from nbbp.callbacks import EarlyStopping
from nbbp.layers import Dense, Dropout, Layer, Scale
from nbbp.model import Model
from nbbp.optimizers import OPTIMIZERS, AdamW, Optimizer
from nbbp.recipes.realmlp import BATCH_SIZE, EPOCHS, realmlp
from nbbp.schedules import CosLog
from nbbp.sequential import Sequential
from nbbp.tables import ClassTarget, TableEncoder, ValueTarget
from nbbp.tables.categorical import Categories
from nbbp.tables.cells import Cells
from nbbp.tables.encoding import BINS, ONE_HOT

Target = ClassTarget | ValueTarget

FEWEST_EPOCHS, MOST_EPOCHS, LEAST_UPDATES = 64, 256, 1000  # of a preset that leaves its length to the table's
OF_SEVERAL = 0.75  # of that length: the mean of several networks needs less training of each
LABEL_SMOOTHING = 0.02  # without it, probabilities go to 0 and 1 where all rows to train on are right
BINNED = 512  # features that are bins, about, of all columns together


@dataclasses.dataclass(frozen=True)
class Preset:
    """The base of presets: the encoding of the columns, and the length of the training.

    Parameters
    ----------
    epochs : int or None
        None for 64, or, where these are not 1,000 updates, as many as are, up to 256; of several networks three
        quarters of that.
    batch_size : int
        The largest number of rows in a mini-batch.
    bins : int
        The largest number of quantile bins beside each number, see `bins_of`; 0 for none.
    one_hot : int
        Up to which number of categories each has a column of its own.
    steps : bool
        Whether there are steps beside each number where the target changes, see `nbbp.tables.steps`; for classes, the
        bins are those between them.
    scaled : bool
        Whether the columns of categories are scaled as numbers are, see `TableEncoder.fit`.
    """

    epochs: int | None = None
    batch_size: int = 256
    bins: int = 32
    one_hot: int = ONE_HOT
    steps: bool = True
    scaled: bool = False

    def length(self, updates: int, networks: int = 1) -> int:
        """The number of epochs, each of so many updates, of each of so many networks."""
        if self.epochs is not None:
            return self.epochs
        alone = min(MOST_EPOCHS, max(FEWEST_EPOCHS, -(-LEAST_UPDATES // updates)))
        return alone if networks == 1 else round(OF_SEVERAL * alone)

    def bins_of(self, columns: Sequence[Cells]) -> int:
        """The number of quantile bins of each number: fewer where so many columns would make the network wide."""
        numbers = sum(column.kind != "text" for column in columns)
        return min(self.bins, max(BINS, BINNED // max(1, numbers)))

    def encoding(self, columns: Sequence[Cells], labels: np.ndarray) -> dict[str, Any]:
        """How columns are encoded, for an encoded target (rows,): arguments of `TableEncoder.fit_cells`."""
        target = labels if self.steps else None
        return {"bins": self.bins_of(columns), "one_hot": self.one_hot, "target": target, "scaled": self.scaled}

    def rows_of_batch(self, rows: int) -> int:
        """How many rows a mini-batch has, if so many are trained on."""
        return min(self.batch_size, rows)

    def network(self, encoder: TableEncoder, target: Target, steps: int, seed: int) -> Model:
        """A network that is not trained yet; `steps` is the number of its updates.

        A `Sequential` takes encoded rows as they are, any other model `TableEncoder.grouped` ones. For classes, the
        last layer is a `Dense` of logits, see `nbbp.recipes.calibration`.
        """
        raise NotImplementedError

    def best_epoch(self, target: Target, patience: int) -> EarlyStopping:
        """A callback that restores the parameters of the best epoch."""
        return EarlyStopping("val_loss", patience)


@dataclasses.dataclass(frozen=True)
class Plain(Preset):
    """Dense layers with dropout, trained by AdamW at a rate that rises and falls in cycles (`nbbp.schedules.CosLog`).

    The end of each cycle is a network that has settled, after twice the training of the one before; the best of them is
    taken. For classes, factors of the inputs come before the layers (`nbbp.Scale`), which learn faster than weights and
    so find out early which inputs matter, and labels are smoothed by 0.02.

    Parameters
    ----------
    epochs, batch_size, bins, one_hot, steps, scaled
        As for `Preset`.
    hidden : tuple of int
        The units of the hidden layers.
    activation : str
    dropout : float or None
        After each hidden layer; None for 0.3 for classes and 0.15 for values.
    optimizer : str
        One of `nbbp.OPTIMIZERS`.
    learning_rate : float or None
        The largest learning rate; None for 0.006 for classes and 0.003 for values, or the default of an optimizer other
        than AdamW.
    weight_decay : float
        Of AdamW.
    """

    hidden: tuple[int, ...] = (128, 128, 128)
    activation: str = "silu"
    dropout: float | None = None
    optimizer: str = "adamw"
    learning_rate: float | None = None
    weight_decay: float = 0.02

    def network(self, encoder, target, steps, seed):
        layers: list[Layer] = encoder.layers()
        classes, dropout = isinstance(target, ClassTarget), self.dropout_for(target)
        if classes:
            layers.append(Scale(rate=6.0, decay=6.0))
        for units in self.hidden:
            layers += [Dense(units, self.activation), *[Dropout(dropout)] * (dropout > 0)]
        outputs, loss = (len(target.classes), "softmax_cross_entropy") if classes else (1, "mse")
        optimizer = self._optimizer(steps, 0.006 if classes else 0.003)
        smoothing = LABEL_SMOOTHING if classes else 0.0
        return Sequential([*layers, Dense(outputs)], loss, optimizer, [metric(target)], seed, label_smoothing=smoothing)

    def dropout_for(self, target: Target) -> float:
        """The share of the units that dropout leaves out."""
        if self.dropout is not None:
            return self.dropout
        return 0.3 if isinstance(target, ClassTarget) else 0.15

    def _optimizer(self, steps: int, rate: float) -> Optimizer:
        kind = checks.choose("optimizer", self.optimizer, OPTIMIZERS)
        if kind is AdamW:
            return AdamW(CosLog(self.learning_rate or rate, steps), beta2=0.95, weight_decay=self.weight_decay)
        return kind(CosLog(self.learning_rate or kind().learning_rate, steps))


@dataclasses.dataclass(frozen=True)
class RealMLP(Preset):
    """`nbbp.recipes.realmlp`: the best epoch has the best accuracy, or the smallest mean squared error.

    TD has embeddings of columns with more than 8 categories; TD-S, which has none in the paper, here of more than 50.

    Parameters
    ----------
    epochs, batch_size, bins, one_hot, steps, scaled
        As for `Preset`. Rows that would not fill the last mini-batch of an epoch are divided among the others, which
        have some more than `batch_size` then, unless there are more than batch_size^2 rows; the authors' code leaves
        them out.
    variant : {"TD", "TD-S"}
    """

    epochs: int | None = EPOCHS
    batch_size: int = BATCH_SIZE
    bins: int = 0
    one_hot: int = 8
    steps: bool = False
    scaled: bool = True
    variant: str = "TD"

    def rows_of_batch(self, rows):
        return math.ceil(rows / max(1, rows // self.batch_size))

    def network(self, encoder, target, steps, seed):
        groups = [group for column in encoder.columns for group in column.groups]
        kinds = (c for c in encoder.columns if isinstance(c, Categories) and not c.one_hot)
        classes = isinstance(target, ClassTarget)
        return realmlp(
            len(target.classes) if classes else 1, steps, groups.count("numbers"), groups.count("one_hot"),
            [len(column.categories) + 1 for column in kinds], classes, self.variant,
            None if classes else tuple(target.encode([target.low, target.high])), metrics=[metric(target)], seed=seed,
        )  # fmt: skip

    def best_epoch(self, target, patience):
        monitor = "val_accuracy" if isinstance(target, ClassTarget) else "val_loss"
        return EarlyStopping(monitor, patience, ties="last")


def metric(target: Target) -> str:
    """The metric that is recorded after each epoch."""
    return "accuracy" if isinstance(target, ClassTarget) else "r2"


PRESETS: dict[str, Preset] = {"plain": Plain(), "td-s": RealMLP(one_hot=ONE_HOT, variant="TD-S"), "td": RealMLP()}
