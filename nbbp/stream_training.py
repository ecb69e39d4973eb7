"""Training steps on data that do not fit into memory: a buffer after the other goes through a bound `Trainer`."""

import contextlib
import math
from collections.abc import Callable, Generator

import numpy as np

from nbbp import program as prog
from nbbp.kernels import random
from nbbp.losses import Loss
from nbbp.network import Network
from nbbp.streams import BUFFER_BYTES, Piece, Stream, read_ahead
from nbbp.training import Data, Trainer
from nbbp.updating import Update

CHUNKS = 4  # the stream of random numbers that orders chunks


class StreamTrainer:
    """What `Trainer` is for data in memory, as far as a fit asks; metrics of what it trains on are not recorded.

    Parameters
    ----------
    check : callable
        Makes `Data` of a piece of the stream.
    """

    epochs_together = 1
    outputs = None

    def __init__(
        self,
        network: Network,
        loss: Loss,
        update: Update,
        stream: Stream,
        check: Callable[[Piece], Data],
        batch_size: int,
        backend: str,
        *,
        parts: int = 1,
        shuffle: bool = True,
        mean_weight: float | None = None,
        progress: Callable = iter,
    ) -> None:
        self._stream, self._check, self._shuffle, self._seed = stream, check, shuffle, network.seed
        self.rows = stream.rows
        self.batch_size = min(parts * min(batch_size, self.rows), self.rows)
        self.steps_per_epoch = -(-self.rows // self.batch_size)
        row_bytes = math.prod(network.layout.input_shape) * network.params.itemsize
        wanted = stream.buffer_rows or max(1, BUFFER_BYTES // row_bytes)
        self._buffer_rows = min(self.rows, max(1, wanted // self.batch_size) * self.batch_size)
        with contextlib.closing(self._buffers(range(stream.chunks), 0)) as buffers:
            self.data = next(buffers)
        self.steps_done, self.diverged = 0, False
        self.step_loss = np.zeros(self.steps_per_epoch)
        rest = self.rows % self._buffer_rows
        self._whole, self._rest = (
            Trainer(
                network, loss, update, self.data.part(slice(rows)), batch_size, backend,
                parts=parts, shuffle=shuffle, rest_of_more=rows < self._buffer_rows, mean_weight=mean_weight,
                progress=progress,
            )
            for rows in (self._buffer_rows, rest or self._buffer_rows)
        )  # fmt: skip

    def _buffers(self, order, begin: int) -> Generator[Data]:
        """The chunks in this order, from buffer number `begin` on, all of one length but the last."""
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
        if seen != self.rows:
            raise ValueError(f"the stream gave {seen} rows in an epoch, and was to give {self.rows}")
        if pieces:
            yield self._joined(pieces)

    def _joined(self, pieces: list) -> Data:
        columns = zip(*pieces, strict=True)
        X, y, weights = (None if parts[0] is None else np.concatenate(parts) for parts in columns)
        return self._check((X, y, weights))

    def train(
        self,
        epochs: int,
        epochs_done: int,
        steps_done: int = 0,
        after: Callable[[int], None] = lambda steps: None,
        pause_in: Callable[[int], float] = lambda step: math.inf,
    ) -> int:
        """Train for an epoch, or the rest of one; see `Trainer.train`."""
        buffers, steps = -(-self.rows // self._buffer_rows), self._whole.steps_per_epoch
        self.steps_done, first = steps_done, steps_done // steps
        if steps_done:
            after(0)
        order = np.arange(self._stream.chunks)
        if self._shuffle:
            key = random.bits(random.stream(self._seed, CHUNKS), np.array([epochs_done], np.uint64))
            order = np.argsort(random.bits(key, order.astype(np.uint64)), kind="stable")
        reading = read_ahead(self._buffers(order.tolist(), first))
        with contextlib.closing(reading):
            for k in range(first, buffers):
                if self.steps_done == self.steps_per_epoch or self.diverged:
                    break
                self.data.overwrite(next(reading))
                trainer = self._whole if (k + 1) * self._buffer_rows <= self.rows else self._rest
                self._train(trainer, k * steps, epochs_done * buffers + k, after, pause_in)
        return self.steps_done

    def _train(self, trainer: Trainer, before: int, number: int, after, pause_in) -> None:
        """Train on the buffer, whose first step comes after so many of the epoch."""
        within = self.steps_done - before
        trainer.step_loss[:within] = self.step_loss[before : self.steps_done]

        def count() -> None:
            done = int(trainer.clock[prog.STEP])
            self.diverged = trainer.diverged
            self.step_loss[before : before + done + self.diverged] = trainer.step_loss[: done + self.diverged]
            self.steps_done = before + done

        def counted(steps: int) -> None:
            count()
            after(steps)

        try:
            trainer.train(1, number, within, counted, pause_in)
        finally:
            count()

    def epoch_losses(self, epochs: int) -> list[float]:
        """Mean over the rows of the epoch."""
        rows = np.minimum(self.batch_size, self.rows - np.arange(self.steps_per_epoch) * self.batch_size)
        return [float(self.step_loss @ (rows / self.rows))]
