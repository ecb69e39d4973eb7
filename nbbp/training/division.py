"""How the rows of mini-batches are divided: among ranks, and those of a rank into shards."""

import itertools

import numpy as np

from nbbp.distributed import ALONE, Ranks
from nbbp.engine import planner
from nbbp.engine.data import Data, joined
from nbbp.engine.network import Network


class Division:
    """The mini-batches of an epoch, and which of their rows each rank has.

    Ranks either have the same data and take parts of each mini-batch, or each has data of its own; then a mini-batch
    has first rows of rank 0, next rows of rank 1, and so on.

    Parameters
    ----------
    rows : int
        The number of rows that this rank has.
    batch_size : int
        The rows of a mini-batch, of all ranks together.
    ranks : Ranks
    apart : bool
        Whether each rank has data of its own.

    Attributes
    ----------
    rows : int
        The number of rows in an epoch, of all ranks together.
    batch_size, steps : int
        The rows of a mini-batch, all of them if there are fewer, and the number of mini-batches.

    Raises
    ------
    ValueError
        If data of their own would give ranks different numbers of steps.
    """

    def __init__(self, rows: int, batch_size: int, ranks: Ranks = ALONE, apart: bool = False) -> None:
        self.ranks, self.apart = ranks, apart
        if not apart:
            self.rows, self.batch_size = rows, min(batch_size, rows)
            self.steps = -(-self.rows // self.batch_size)
            self._last = _evenly(self.rows - (self.steps - 1) * self.batch_size, ranks.size)
            return
        if batch_size < ranks.size:
            raise ValueError(f"a mini-batch of {batch_size} rows has none for some of {ranks.size} ranks")
        each = np.diff(_evenly(batch_size, ranks.size))
        numbers = np.array(ranks.gather("number of rows", rows))
        steps = -(-numbers // each)
        if len(set(steps)) > 1:
            raise ValueError(
                f"each rank has rows of its own, {' and '.join(map(str, numbers))}, which in mini-batches of "
                f"{batch_size} for all ranks are {' and '.join(map(str, steps))} steps: the ranks need equal numbers"
            )
        self.rows, self.steps = int(numbers.sum()), int(steps[0])
        self._last = [0, *np.cumsum(numbers - (self.steps - 1) * each).tolist()]
        self.batch_size = batch_size if self.steps > 1 else self._last[-1]

    @property
    def rest(self) -> int:
        """The rows of the last mini-batch if there are fewer, else 0."""
        return self._last[-1] % self.batch_size

    def edges(self, rows: int) -> list[int]:
        """The first row of each rank in a mini-batch of so many rows, and the end."""
        return self._last if rows == self._last[-1] else _evenly(rows, self.ranks.size)

    def shards(self, network: Network, rows: int, count: int | None) -> list[slice]:
        """All shards of a mini-batch: see `nbbp.engine.planner.shards`."""
        shards, edges, size = planner.shards(network, rows, count), self.edges(rows), self.ranks.size
        if edges == _evenly(rows, size):
            return shards
        parts = [planner.cut(b - a, len(shards) // size) for a, b in itertools.pairwise(edges)]
        return [slice(a + s.start, a + s.stop) for a, part in zip(edges, parts, strict=False) for s in part]

    def own(self, rows: int) -> slice:
        """This rank's rows of a mini-batch of so many rows."""
        return self._of(self.ranks.rank, rows)

    def size_of_own(self) -> int:
        """The rows of a mini-batch that are drawn from this rank's data."""
        rows = self.seen(self.batch_size)
        return rows.stop - rows.start

    def seen(self, rows: int) -> slice:
        """The rows of a mini-batch of so many rows that are among this rank's data."""
        return self.own(rows) if self.apart else slice(0, rows)

    def _of(self, rank: int, rows: int) -> slice:
        return slice(*self.edges(rows)[rank : rank + 2])

    def positions(self, rank: int, steps: int | None = None) -> np.ndarray:
        """The positions of a rank's rows among those of the first `steps` mini-batches, or of the epoch."""
        steps = self.steps if steps is None else steps
        part, whole = self._of(rank, self.batch_size), min(steps, self.steps - 1)
        found = self.batch_size * np.arange(whole)[:, np.newaxis] + np.arange(part.start, part.stop)
        last = self._of(rank, self._last[-1]) if steps == self.steps else slice(0, 0)
        return np.concatenate([found.reshape(-1), self.batch_size * whole + np.arange(last.start, last.stop)])

    def everyone(self, data: Data) -> tuple[int, Data]:
        """The targets of all ranks' data, and the number of the first of them that is this rank's."""
        parts = self.ranks.gather("targets", data.padded().without_inputs(np.arange(data.rows)))
        before = [part.rows for part in parts[: self.ranks.rank]]
        return sum(before), joined(parts)

    def joined(self, array: np.ndarray, steps: int | None = None) -> np.ndarray:
        """An array (rows, ...) of the rows of an epoch or of its first steps, each as its rank has it."""
        if self.ranks.size == 1:
            return array
        parts = self.ranks.gather("rows", array[self.positions(self.ranks.rank, steps)])
        whole = np.empty_like(array)
        for rank, part in enumerate(parts):
            whole[self.positions(rank, steps)] = part
        return whole


def _evenly(rows: int, parts: int) -> list[int]:
    return [rows * k // parts for k in range(parts + 1)]
