"""The order in which epochs take the rows: a function of the seed and the number of the epoch."""

import numpy as np

from nbbp.engine.data import Data
from nbbp.engine.program import Program
from nbbp.engine.runner import Runner
from nbbp.kernels import arrays, random
from nbbp.training.division import Division

BY_LENGTH = "by length"  # in place of True for shuffle: in mini-batches of similar lengths
WINDOW = 50  # mini-batches whose rows are sorted by length together


class Order:
    """The order of the rows in some epochs, which are prepared together.

    Ranks with the same data have the same order, and each rank with data of its own an order of its own.

    Parameters
    ----------
    division : Division
    own : int
        The number of rows that this rank has.
    epochs : int
    shuffle : bool or BY_LENGTH

    Attributes
    ----------
    rows : ndarray (epochs x rows,)
        The indices of the rows in the data; 0 where another rank has rows of its own.
    runners : list of Runner
        What draws it, not compiled before it is used.
    """

    def __init__(self, division: Division, own: int, epochs: int, shuffle: bool | str, seed: int, backend: str) -> None:
        rank = division.ranks.rank
        self._orders = arrays.copied(np.tile(np.arange(own), (epochs, 1)))
        self._all = arrays.zeros((epochs, division.rows), np.int64) if division.apart else self._orders
        self._positions = division.positions(rank) if division.apart else slice(None)
        self._path = (rank,) if division.apart else ()
        self.rows = self._all.reshape(-1)
        self._all[:, self._positions] = self._orders
        self._batch_size, self._shuffle, self._seed = division.size_of_own(), shuffle, seed
        self._keys, self._count = arrays.zeros(epochs, np.uint64), np.zeros(1, np.int64)
        program = Program(backend, np.float32, own * epochs)
        program.call(random.shuffle, self._orders, self._keys, self._count)
        self._runner = Runner(program, later=True)
        self.runners = [self._runner] if shuffle else []

    def draw(self, first: int, epochs: int, data: Data) -> None:
        """Draw the order of each of `epochs` epochs, from the one of number `first` on."""
        if not self._shuffle:
            return
        numbers = np.arange(first, first + epochs, dtype=np.uint64)
        self._keys[:epochs] = random.bits(random.stream(self._seed, random.SHUFFLING, *self._path), numbers)
        self._count[0] = epochs
        self._runner.once()
        if self._shuffle == BY_LENGTH:
            lengths = data.lengths()
            keys = random.bits(random.stream(self._seed, random.BATCHES, *self._path), numbers)
            for order, key in zip(self._orders, keys, strict=False):
                order[:] = grouped(order, lengths, self._batch_size, key)
        if self._all is not self._orders:
            self._all[:, self._positions] = self._orders


def grouped(order: np.ndarray, lengths: np.ndarray, batch_size: int, key: np.uint64) -> np.ndarray:
    """The rows sorted by length within windows of an order, then its mini-batches in an order drawn from the key.

    A last mini-batch of fewer rows stays the last.
    """
    window = WINDOW * batch_size
    windows = [order[begin : begin + window] for begin in range(0, len(order), window)]
    order = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in windows])
    whole = len(order) // batch_size
    batches = order[: whole * batch_size].reshape(whole, batch_size)
    shuffled = batches[np.argsort(random.bits(key, np.arange(whole, dtype=np.uint64)), kind="stable")]
    return np.concatenate([shuffled.reshape(-1), order[whole * batch_size :]])


def check_continued(rows: int, batch_size: int, shuffle: bool) -> None:
    """ValueError if rows of a mini-batch do not continue from those of the one before."""
    if shuffle:
        raise ValueError("a stateful layer continues from the mini-batch before: take shuffle=False")
    if rows % batch_size:
        raise ValueError(
            f"a stateful layer continues from each row of the mini-batch before, and of {rows} rows the last "
            f"mini-batch has {rows % batch_size} instead of {batch_size}: take a batch_size that divides the rows"
        )
