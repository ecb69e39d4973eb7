"""Training on data that do not fit into memory: buffer after buffer goes through a bound `Trainer`."""

import contextlib
import math
from collections.abc import Callable, Generator

import numpy as np

from nbbp.distributed import ALONE, Ranks
from nbbp.engine.data import Data
from nbbp.engine.ragged import joined
from nbbp.kernels import random
from nbbp.streams import BUFFER_BYTES, Stream, read_ahead
from nbbp.training.built import Built
from nbbp.training.division import Division
from nbbp.training.epoch_loss import epoch_losses, shares_of_rows
from nbbp.training.trainer import Trainer


class StreamTrainer:
    """The counterpart of `Trainer` for streams, as far as a fit needs it; it records no metrics of training rows.

    Parameters
    ----------
    check : callable
        Makes `Data` from a piece of the stream.
    """

    epochs_together = 1
    outputs = None

    def __init__(
        self, built: Built, stream: Stream, check: Callable[..., Data], batch_size: int, parts: int,
        shuffle: bool | str, mean_weight: float | None = None, progress: Callable = iter, shards: int | None = None,
        ranks: Ranks = ALONE, apart: bool = False,
    ) -> None:  # fmt: skip
        network = built.network
        if any(node.layer.stateful for node in network.graph.nodes):
            raise ValueError(
                "a stateful layer continues from the mini-batch before, and the buffers of a stream do not follow one "
                "another: give X and y as arrays"
            )
        self._stream, self._check, self._shuffle, self._seed = stream, check, shuffle, network.seed
        division = Division(stream.rows, parts * batch_size, ranks, apart)
        self.rows, self.batch_size, self.steps_per_epoch = division.rows, division.batch_size, division.steps
        self._path = (ranks.rank,) if apart else ()
        entry = network.graph.inputs[0]
        row_bytes = math.prod(entry.shape) * (entry.dtype or network.dtype).itemsize
        wanted = stream.buffer_rows or max(1, BUFFER_BYTES // row_bytes)
        own = division.size_of_own()
        steps = min(ranks.gather("buffers", max(1, wanted // own))) if apart else max(1, wanted // own)
        self._buffer_rows = min(stream.rows, steps * own)
        with contextlib.closing(self._buffers(range(stream.chunks), 0)) as buffers:
            data = next(buffers)
        built.adapt(data, ranks)
        self.steps_done, self.diverged = 0, False
        self.step_loss = np.zeros(self.steps_per_epoch)
        self._heads = built.objective.heads
        self._part_losses = np.zeros((len(self._heads), self.steps_per_epoch))
        self._unmasked = np.zeros_like(self._part_losses, np.int64) if data.masks else None
        rest = stream.rows % self._buffer_rows
        self._whole, self._rest = (
            Trainer(
                network, built.objective, built.update, data.part(slice(rows)), batch_size, built.backend,
                parts=parts, shards=shards, shuffle=shuffle, rest_of_more=rows < self._buffer_rows,
                mean_weight=mean_weight, progress=progress, ranks=ranks, apart=apart,
            )
            for rows in (self._buffer_rows, rest or self._buffer_rows)
        )  # fmt: skip
        self.source = self._whole.source  # its data are the buffer, of which the rest is a part
        self._buffer = data

    def _buffers(self, order, begin: int) -> Generator[Data]:
        """The chunks in this order as buffers, from number `begin` on, all of the same length but the last."""
        skipped, held, seen = begin * self._buffer_rows, 0, 0
        pieces: list = []
        for piece in self._stream.pieces(order):
            rows = len(piece[0])
            seen += rows
            offset = min(skipped, rows)
            skipped -= offset
            while offset < rows:
                end = min(rows, offset + self._buffer_rows - held)
                pieces.append([None if array is None else array[offset:end] for array in piece])
                held, offset = held + end - offset, end
                if held == self._buffer_rows:
                    yield self._joined(pieces)
                    held, pieces = 0, []
        if seen != self._stream.rows:
            raise ValueError(f"the stream gave {seen} rows in an epoch, and was to give {self._stream.rows}")
        if pieces:
            yield self._joined(pieces)

    def _joined(self, pieces: list) -> Data:
        columns = zip(*pieces, strict=True)
        X, y, weights = (None if parts[0] is None else joined(parts) for parts in columns)
        return self._check(X, y, weights).padded()  # a buffer's arrays are overwritten by the next one's

    def begin(self, epochs: int, epochs_done: int, steps_done: int = 0) -> None:
        """Go to the beginning of an epoch, or to a step of it; see `Trainer.begin`."""
        self._epoch, self.steps_done = epochs_done, steps_done

    def run(
        self,
        after: Callable[[int], None] = lambda steps: None,
        pause_in: Callable[[int], float] = lambda step: math.inf,
    ) -> None:
        """Train to the end of the epoch; see `Trainer.run`."""
        rows = self._stream.rows
        buffers, steps = -(-rows // self._buffer_rows), self._whole.steps_per_epoch
        first = self.steps_done // steps
        order = np.arange(self._stream.chunks)
        if self._shuffle:
            key = random.bits(random.stream(self._seed, random.CHUNKS, *self._path), np.array([self._epoch], np.uint64))
            order = np.argsort(random.bits(key, order.astype(np.uint64)), kind="stable")
        reading = read_ahead(self._buffers(order.tolist(), first))
        with contextlib.closing(reading):
            for k in range(first, buffers):
                if self.steps_done == self.steps_per_epoch or self.diverged:
                    break
                self._buffer.overwrite(next(reading))
                trainer = self._whole if (k + 1) * self._buffer_rows <= rows else self._rest
                trainer.forget()
                self._train(trainer, k * steps, self._epoch * buffers + k, after, pause_in)

    def _train(self, trainer: Trainer, before: int, number: int, after, pause_in) -> None:
        """Train on the buffer, whose first step follows `before` steps of the epoch."""
        within = self.steps_done - before
        trainer.begin(1, number, within)
        if self._unmasked is not None:
            for own, elements in zip(self._unmasked, trainer.unmasked(1), strict=True):
                if elements is not None:
                    own[before : before + elements.shape[1]] = elements[0]

        def count() -> None:
            done = trainer.steps_done
            self.diverged = trainer.diverged
            noted = slice(within, done + self.diverged)
            self.step_loss[before + noted.start : before + noted.stop] = trainer.step_loss[noted]
            if trainer.part_losses is not None:
                self._part_losses[:, before + noted.start : before + noted.stop] = trainer.part_losses[:, noted]
            self.steps_done = before + done

        def counted(steps: int) -> None:
            count()
            after(steps)

        try:
            trainer.run(counted, pause_in)
        finally:
            count()

    def start_anew(self) -> None:
        """See `Trainer.start_anew`; a stream's rows have no order, so nothing is carried from row to row."""

    def unfinished(self, steps: int) -> dict[str, np.ndarray]:
        """See `Trainer.unfinished`."""
        arrays: dict[str, np.ndarray] = {"part_losses": self._part_losses} if len(self._heads) > 1 else {}
        if self._unmasked is not None:
            arrays["unmasked"] = self._unmasked
        return {name: array[:, :steps] for name, array in arrays.items()}

    def put_back(self, unfinished: dict[str, np.ndarray]) -> None:
        """See `Trainer.put_back`."""
        mine = self.unfinished(self.steps_per_epoch)
        for name, array in unfinished.items():
            if name in mine:
                mine[name][:, : array.shape[1]] = array

    def epoch_losses(self, epochs: int) -> list[tuple[float, list[float]]]:
        """The loss of the epoch, and that of each output if there are several."""
        parts = self._part_losses[:, np.newaxis] if len(self._heads) > 1 else None
        counts: list = [None] * len(self._heads)
        if self._unmasked is not None:
            counts = [own[np.newaxis] if own.any() else None for own in self._unmasked]
        shares = shares_of_rows(self.rows, self.batch_size)
        return epoch_losses(self._heads, self.step_loss[np.newaxis], parts, shares, counts)
