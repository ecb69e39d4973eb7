"""The clock of a run: its position. In Python it is an object with names, in kernels a record, ``clock[0].step``."""

import numpy as np

from nbbp.kernels import arrays

FIELDS = {
    "step": "step of this run, counted from 0",
    "end": "the step before which the run stops",
    "row": "position in the order of rows at which the mini-batch begins",
    "batch": "number of mini-batches done in this epoch",
    "batches": "number of mini-batches in an epoch",
    "stop": "set by a kernel that ends the run at once",
    "before": "number of steps that the model had done before this run",
    "spare": "fills the cache line",
}
RECORD = np.dtype([(name, np.int64) for name in FIELDS])


class Clock:
    """Eight integers that the calls of a program and its runner share, by name.

    Parameters
    ----------
    record : ndarray (1,) of RECORD, optional
        One of several records side by side.
    """

    step: int
    end: int
    row: int
    batch: int
    batches: int
    stop: int
    before: int

    def __init__(self, record: np.ndarray | None = None) -> None:
        self.record = arrays.zeros(1, RECORD) if record is None else record
        self._words = self.record.view(np.int64)

    def __repr__(self) -> str:
        return f"<Clock {', '.join(f'{name}={int(self.record[name][0])}' for name in FIELDS)}>"

    def set(self, **values: int) -> None:
        """Set some fields, and all others to 0."""
        self._words[:] = 0
        for name, value in values.items():
            self.record[name] = value


def _field(index: int, meaning: str) -> property:
    def get(clock: Clock) -> int:
        return int(clock._words[index])

    def set_(clock: Clock, value: int) -> None:
        clock._words[index] = value

    return property(get, set_, doc=meaning)


for _index, (_name, _meaning) in enumerate(FIELDS.items()):
    setattr(Clock, _name, _field(_index, _meaning))


def side_by_side(count: int) -> tuple[np.ndarray, list[Clock]]:
    """Records (count, 2), two cache lines for each thread, which writes to its own in every step, and their clocks."""
    records = arrays.zeros((count, 2), RECORD)
    return records, [Clock(pair[:1]) for pair in records]
