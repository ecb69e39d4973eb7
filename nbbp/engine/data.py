"""Rows to train on or to measure, checked and in the form that kernels take."""

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from nbbp.engine.program import Call, Program
from nbbp.engine.ragged import LengthMask, Padded, Ragged
from nbbp.engine.windows import Windows
from nbbp.kernels import arrays
from nbbp.kernels.batches import gather, gather_ragged, gather_rows, gather_windows
from nbbp.kernels.forks import cached_property
from nbbp.kernels.jit import Kernel
from nbbp.kernels.masks import gather_ends


@dataclasses.dataclass(eq=False)
class Data:
    """An array for each input, and for each output the targets of its loss; its fields are never reassigned.

    Attributes
    ----------
    inputs : tuple of (ndarray, Padded or Windows) (rows, *input_shape)
    targets : tuple of (ndarray or Windows) (rows, positions x columns)
        The targets in the form of the losses: see `nbbp.checks.targets`.
    truths : tuple of (ndarray or Windows)
        The targets of metrics: those before label smoothing.
    weights : tuple of (ndarray (rows, 1) or (rows, positions), or None)
        The weight of each row, or of each element, at each output; None for 1.
    masks : tuple of (ndarray or LengthMask (rows, positions), bool, or None)
        For each input, False at masked elements; None if there are none.
    """

    inputs: tuple[Any, ...]
    targets: tuple[Any, ...] = ()
    truths: tuple[Any, ...] = ()
    weights: tuple[np.ndarray | None, ...] = ()
    masks: tuple[Any, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.inputs[0])

    @cached_property
    def form(self) -> tuple:
        """What a bound program depends on: which arrays are given, their kinds and their dtypes."""
        return tuple([tuple(map(_form, some)) for some in self._all()])

    def part(self, rows) -> "Data":
        """Some of the rows, by a slice or by their indices."""
        given: list[Any] = [tuple(None if a is None else a[rows] for a in arrays) for arrays in self._all()]
        return Data(*given)

    def lengths(self) -> np.ndarray:
        """The number of elements of each row (rows,) that are not masked, over all inputs with a mask."""
        counts = [self.unmasked(k) for k in range(len(self.masks))]
        return np.sum([count for count in counts if count is not None], axis=0)

    def mask(self, k: int | None) -> Any:
        """The mask of input k; None if nothing is masked there."""
        return self.masks[k] if self.masks and k is not None else None

    def unmasked(self, k: int | None) -> np.ndarray | None:
        """The number of elements of each row (rows,) that the mask of input k leaves; None for all."""
        mask = self.mask(k)
        return mask.ends if isinstance(mask, LengthMask) else None if mask is None else mask.sum(axis=1)

    def elements_there(self, k: int | None) -> np.ndarray | None:
        """The elements (rows x positions) that the mask of input k leaves; None for all."""
        mask = self.mask(k)
        if not isinstance(mask, LengthMask):
            return None if mask is None else mask.reshape(-1)
        if k not in self._written_out:
            self._written_out[k] = np.asarray(mask).reshape(-1)
        return self._written_out[k]

    @cached_property
    def _written_out(self) -> dict[int | None, np.ndarray]:
        """Masks that were made of lengths, each once."""
        return {}

    def padded(self) -> "Data":
        """The same with arrays in place of what is padded when it is read."""
        masks = tuple(None if mask is None else np.asarray(mask) for mask in self.masks)
        return dataclasses.replace(self, inputs=tuple(map(np.asarray, self.inputs)), masks=masks)

    def unpadded(self, k: int | None, array: np.ndarray) -> Any:
        """An array (rows, *positions, ...) at the positions of input k: a Ragged, if that input is one."""
        if k is None or not isinstance(self.inputs[k], Padded):
            return array
        rows = self.inputs[k].rows
        return Ragged.from_flat(array[np.arange(array.shape[1]) < rows.lengths[:, np.newaxis]], rows.offsets)

    def digests(self) -> dict[str, str | None]:
        """Short digests of X, y, weights and masks in the form that kernels take; about a second for each GB."""
        named = {"X": self.inputs, "y": self.truths, "weights": self.weights, "mask": self.masks}
        return {
            name if len(arrays) == 1 else f"{name}[{k}]": None if array is None else _digest(array)
            for name, arrays in named.items()
            for k, array in enumerate(arrays)
        }

    def without_inputs(self, rows: np.ndarray) -> "Data":
        """Targets, truths and weights of some rows, with their indices in place of their inputs."""
        given: list[Any] = [tuple(None if a is None else a[rows] for a in arrays) for arrays in self._all()[1:]]
        return Data((rows,), *given)

    def overwrite(self, other: "Data") -> None:
        """Overwrite the first rows with other rows, as many or fewer."""
        for mine, theirs in zip(self._all(), other._all(), strict=True):
            for array, rows in zip(mine, theirs, strict=True):
                if array is not None:
                    array[: other.rows] = rows

    def _all(self) -> tuple[tuple, ...]:
        return self.inputs, self.targets, self.truths, self.weights, self.masks


NO_DATA = Data(())


def joined(parts: Sequence[Data]) -> Data:
    """The rows of several data of the same form, all of arrays."""
    columns = [zip(*fields, strict=True) for fields in zip(*(part._all() for part in parts), strict=True)]
    given: list[Any] = [tuple(None if a[0] is None else np.concatenate(a) for a in arrays) for arrays in columns]
    return Data(*given)


def _form(array: Any) -> tuple | None:
    return None if array is None else (type(array), array.dtype, array.shape[1:])


def _digest(array: Any) -> str:
    if isinstance(array, Padded):
        return f"{_digest(array.rows.values)} in rows {_digest(array.rows.offsets)}"
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    for part in (array.flat, array.starts) if isinstance(array, Windows) else (array,):
        digest.update(np.ascontiguousarray(part).data)
    return f"SHA-256 {digest.hexdigest()[:16]}"


class Source:
    """Data that programs read from; it can be exchanged for other data of the same form with as many rows.

    Parameters
    ----------
    data : Data
    """

    def __init__(self, data: Data) -> None:
        self.data = data
        self._calls: list[tuple[Call, Callable[[Data], Sequence[Any]]]] = []

    def call(self, program: Program, kernel: Kernel, arrays_of: Callable[[Data], Sequence[Any]]) -> None:
        """Append a call on arrays, some of which are the data's."""
        self._calls.append((program.call(kernel, *arrays_of(self.data)), arrays_of))

    def exchange(self, data: Data) -> None:
        """Read from other data."""
        if data is not self.data:
            for call, arrays_of in self._calls:
                call.rebind(*arrays_of(data))
            self.data = data

    def release(self) -> None:
        """Keep no data alive until other data are exchanged for them."""
        for call, _ in self._calls:
            call.release()
        self.data = NO_DATA

    def gather(
        self, program: Program, inputs: Sequence[np.ndarray], order: np.ndarray, left: Collection[int] = ()
    ) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        """Bind the gathering of a mini-batch's rows: overwrites `inputs`; returns the targets and the inputs' masks.

        Inputs whose numbers are in `left` are left to their layers.
        """
        data, clock, rows = self.data, program.clock.record, program.rows
        targets = [arrays.zeros((rows, t.shape[1]), t.dtype) for t in data.targets]
        masks = [None if m is None else arrays.zeros((rows, m.shape[1]), m.dtype) for m in data.masks]
        flat = [x.reshape(rows, -1) for x in inputs]
        plain = all(isinstance(array, np.ndarray) for array in (data.inputs[0], data.targets[0]))
        together = flat[0].dtype.kind == "f" and plain
        if together:
            self.call(
                program, gather,
                lambda d: (flat[0], d.inputs[0].reshape(d.rows, -1), targets[0], d.targets[0], order, clock),
            )  # fmt: skip
        for field, buffers in (("inputs", flat), ("targets", targets), ("masks", masks)):
            for k, buffer in enumerate(buffers):
                done = (together and k == 0 and field != "masks") or (field == "inputs" and k in left)
                if buffer is not None and not done:
                    self._gather_rows(program, field, k, buffer, order)
        return targets, masks

    def left_to(self, layers: Sequence[int]) -> list[int]:
        """Of the inputs that their layers can gather, those that they do: arrays, without masks."""
        if self.data.masks:
            return []
        return [k for k in layers if isinstance(self.data.inputs[k], np.ndarray)]

    def gathering(self, program: Program, k: int, order: np.ndarray) -> Callable[..., None]:
        """A function that binds a kernel to the rows of input k: see `nbbp.Layer.gather`."""

        def bind(kernel: Kernel, y: np.ndarray, *others: np.ndarray) -> None:
            clock = program.clock.record
            self.call(program, kernel, lambda d: (y, d.inputs[k].reshape(d.rows, -1), *others, order, clock))

        return bind

    def _gather_rows(self, program: Program, field: str, k: int, buffer: np.ndarray, order: np.ndarray) -> None:
        clock, given = program.clock.record, getattr(self.data, field)[k]
        of = lambda data: getattr(data, field)[k]  # noqa: E731
        if isinstance(given, Padded):
            x = buffer.reshape(len(buffer), given.length, -1)
            self.call(program, gather_ragged, lambda d: (x, *_flat(of(d).rows), order, clock))
        elif isinstance(given, LengthMask):
            self.call(program, gather_ends, lambda d: (buffer, of(d).ends, order, clock))
        elif isinstance(given, Windows):
            self.call(program, gather_windows, lambda d: (buffer, of(d).flat, of(d).starts, order, clock))
        else:
            self.call(program, gather_rows, lambda d: (buffer, of(d).reshape(d.rows, -1), order, clock))


def _flat(rows: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """Values (total, features) and offsets."""
    return rows.values.reshape(len(rows.values), -1), rows.offsets
