"""Checks of the user's arguments: kernels rely on what is checked here.

Every function returns what nbbp computes with, or raises a ValueError or TypeError that names the expected and the
given value. The caller's arrays are never modified.
"""

import dataclasses
import difflib
import functools
import math
import numbers
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from nbbp.synonyms import synonym

if TYPE_CHECKING:
    from nbbp.losses import Loss

NOT_NUMBERS = (str, bytes, complex, np.complexfloating, np.datetime64, np.timedelta64, np.ndarray)
"""Types of objects that convert to float but are not numbers."""


def choose(kind: str, name, table: dict):
    """The entry of `table`, or a ValueError that suggests nbbp's name for another program's, or a near match."""
    if not isinstance(name, str):
        hint = f"; did you mean {name.__name__}()?" if isinstance(name, type) else ""
        raise TypeError(f"{kind} must be one of {', '.join(table)}; got {name!r}{hint}")
    if name in table:
        return table[name]
    near = [synonym(kind, name), *difflib.get_close_matches(name.lower().replace("-", "_"), table, n=1)]
    hint = next((f" Did you mean {meant!r}?" for meant in near if meant in table), "")
    raise ValueError(f"unknown {kind} {name!r}.{hint} Choose one of {', '.join(table)}.")


def unused(kind: str, name, table: dict) -> None:
    """Check that a new entry of `table` has a name of its own."""
    if not isinstance(name, str):
        raise TypeError(f"the name of {kind} must be a string, got {name!r}")
    if name in table:
        raise ValueError(f"there is already {kind} {name!r}: take another name")


def rule(check: Callable, **bounds) -> dict:
    """Metadata of a dataclass field that `fields` checks with ``check(name, value, **bounds)``."""
    return {"check": functools.partial(check, **bounds)}


def fields(settings) -> None:
    """Check the fields of a dataclass by their rules; one that is None by default may be None."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if "check" in field.metadata and not (value is field.default is None):
            field.metadata["check"](f"{type(settings).__name__}: {field.name}", value)


def positive_integer(name: str, value) -> int:
    return integer(name, value, least=1)


def integer(name: str, value, least: int) -> int:
    """The value as an int, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}")
    return int(value)


def boolean(name: str, value) -> None:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def number(name: str, value, low: float = 0.0, high: float = math.inf, open_low: bool = False) -> None:
    """Check that value is a finite number in [low, high), or in (low, high)."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (math.isfinite(value) and low <= value < high) or (open_low and value == low):
        least = "positive" if open_low and low == 0 else f"{low:g} or more"
        most = "finite" if high == math.inf else f"below {high:g}"
        raise ValueError(f"{name} must be {least} and {most}, got {value!r}")


def quantiles(given) -> tuple[float, ...]:
    """Levels of quantiles, in (0, 1) and increasing."""
    levels = tuple(float(q) for q in array("quantiles", given))
    if not all(0 < q < 1 for q in levels) or list(levels) != sorted(set(levels)):
        raise ValueError(f"quantiles must lie in (0, 1) and increase, got {given!r}")
    return levels


def array(name: str, data, least_rows: int = 1) -> np.ndarray:
    """Integers or floats (rows, ...), of any dtype and strides."""
    if hasattr(data, "toarray"):
        raise TypeError(f"{name} is a sparse matrix, which nbbp does not take: {name}.toarray() is a dense one")
    parts = data if isinstance(data, list | tuple) else [data]
    if any(isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part) for part in parts):
        raise ValueError(f"{name} has masked values: leave out their rows, or fill them with {name}.filled(...)")
    try:
        result = np.asarray(data)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name} must be a rectangular array of numbers: {error}{_way_out(name)}") from None
    if result.dtype == bool:
        result = result.astype(np.int64)
    hint = f"; np.unique({name}, return_inverse=True)[1] numbers its classes" if result.ndim == 1 else ""
    if result.dtype == object:
        if result.size and all(isinstance(row, list | tuple | np.ndarray) for row in result.flat):
            raise ValueError(f"{name} must be a rectangular array of numbers, not an array of rows{_way_out(name)}")
        for value in result.flat:
            if isinstance(value, NOT_NUMBERS):
                raise TypeError(f"{name} must hold numbers, got {value!r}{hint}")
        try:
            result = result.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} must hold numbers: {error}") from None
        except OverflowError as error:
            raise ValueError(f"{name} must be finite: {error}") from None
    if result.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold numbers, got dtype {result.dtype}{hint}")
    if result.ndim == 0:
        raise ValueError(f"{name} must have a row for each sample, got the single number {result}")
    if len(result) < least_rows or 0 in result.shape[1:]:
        raise ValueError(f"{name} is empty: its shape is {result.shape}")
    return result


def _way_out(name: str) -> str:
    """What takes rows of different lengths, if an array of this name may have such."""
    kind = name.partition("[")[0].split()[-1]
    may = kind in ("X", "y", "sample_weight")
    return f"; nbbp.Ragged({name}) takes rows of different lengths" if may else ""


def finite(name: str, given: np.ndarray, converted: np.ndarray, there: np.ndarray | None = None) -> None:
    """Check that the converted array is finite where it is not masked; the message shows the value as it was given.

    The mask `there` has the first axes of the arrays.
    """
    if converted.dtype.kind != "f" or math.isfinite(np.vdot(converted, converted)):  # one fast pass
        return
    with np.errstate(all="ignore"):
        total = float(np.sum(converted, dtype=np.float64))
    wrong = np.zeros(0, bool) if math.isfinite(total) else ~np.isfinite(converted)
    if there is not None and wrong.any():
        wrong[~there] = False
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        place = f"row {where[0]}"
        if len(where) > 1:
            place += f", column {where[1]}" if len(where) == 2 else f", at {where[1:]}"
        value = given[where]
        too_large = f", too large for {converted.dtype}" if np.isfinite(value) else ""
        raise ValueError(f"{name} must be finite, got {value}{too_large} in {place}")


def is_as_needed(data, dtype, input_shape) -> bool:
    """Whether the data need no conversion; the sum of squares finds nan and infinity in one fast pass."""
    return (
        type(data) is np.ndarray
        and data.dtype == dtype
        and data.shape[1:] == input_shape
        and (flags := data.flags).c_contiguous
        and flags.aligned
        and len(data) > 0
        and (data.dtype.kind in "iu" or math.isfinite(np.vdot(data, data)))
    )


def features(
    name: str, data, dtype, input_shape: tuple[int, ...] | None, least_rows: int = 1, mask: np.ndarray | None = None
) -> np.ndarray:
    """Rows of features, C-contiguous in `dtype`, each of `input_shape` if that is known.

    Masked values, at which mask (rows, positions) is False, may be anything.
    """
    if is_as_needed(data, dtype, input_shape):
        return data
    given = array(name, data, least_rows)
    if given.ndim == 1:
        raise ValueError(
            f"{name} must have two axes, samples and features, got shape {given.shape}; "
            f"reshape(-1, 1) makes samples with one feature, reshape(1, -1) one sample"
        )
    if input_shape is not None and given.shape[1:] != input_shape:
        wanted = f"{input_shape[0]} features" if len(input_shape) == 1 else f"samples of shape {input_shape}"
        got = f"{given.shape[1]}" if given.ndim == 2 else f"shape {given.shape[1:]}"
        raise ValueError(f"{name}: the model takes {wanted}, got {got}")
    there = mask
    if mask is not None:
        if len(mask) != len(given):
            raise ValueError(f"{name} has {len(given)} rows and its mask {len(mask)}")
        tokens = mask.shape[1] == math.prod(given.shape[1:])
        there = mask.reshape(given.shape if tokens else given.shape[:-1])
    converted = contiguous(given, dtype)
    finite(name, given, given if np.dtype(dtype).kind in "iu" else converted, there)
    if converted.dtype.kind in "iu":
        changed = converted != given
        if there is not None:
            changed[~there] = False
        if changed.any():
            where = tuple(int(i) for i in np.argwhere(changed)[0])
            raise ValueError(f"{name} must hold numbers of {converted.dtype}, got {given[where]} in row {where[0]}")
    return converted


def contiguous(given: np.ndarray, dtype) -> np.ndarray:
    """The array C-contiguous and aligned in `dtype`; the array itself if it is so already."""
    if given.dtype == dtype and given.flags.c_contiguous and given.flags.aligned:
        return given
    with np.errstate(over="ignore", invalid="ignore"):
        return np.require(given, dtype, ["C", "A"])


def targets(
    name: str, data, loss: "Loss", dtype, rows: int, outputs: int, positions: int = 1, mask: np.ndarray | None = None
) -> np.ndarray:
    """Targets of a loss: (rows, positions x columns) in `dtype`, or integer labels (rows, positions).

    Targets of masked elements, at which mask (rows x positions,) is False, may be anything.
    """
    given = array(name, data)
    if len(given) != rows:
        raise ValueError(f"X has {rows} rows and {name} has {len(given)}")
    flat = given.reshape(rows, -1)
    if loss.labels is not None and flat.shape[1] == positions:
        return labels(name, flat, outputs, mask)
    columns = loss.target_columns(outputs)
    if flat.shape[1] != positions * columns:
        alternative = ", or one integer label a row" if loss.labels is not None else ""
        each = "a column" if columns == outputs else f"{columns} column{'s' * (columns > 1)} in all"
        at = f", at each of {positions} positions" if positions > 1 else ""
        raise ValueError(
            f"{name} needs {each} for each of the model's {outputs} outputs{alternative}{at}; got {flat.shape[1]}"
        )
    converted = contiguous(flat, dtype)
    there = None if mask is None else np.repeat(mask.reshape(rows, positions), columns, axis=1)
    finite(name, flat, converted, there)
    low, high = loss.valid_targets
    if (low, high) == (-math.inf, math.inf):
        return converted
    wrong = (converted < low) | (converted > high)
    if there is not None:
        wrong &= there
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        bounds = f"in [{low:g}, {high:g}]" if high < math.inf else f"{low:g} or more"
        raise ValueError(
            f"{name}: {loss.name} takes targets {bounds}, got {flat[row, column]} in row {row}, column {column}"
        )
    return converted


def labels(name: str, column: np.ndarray, classes: int, mask: np.ndarray | None = None) -> np.ndarray:
    """Integer labels (rows, positions) from 0 to classes - 1; 0 where they are masked."""
    if mask is not None:
        column = np.where(mask.reshape(column.shape), column, 0)
    if column.dtype.kind == "f":
        finite(name, column, column)
        column = column.astype(np.float64)
        fractional = column != np.floor(column)
        if fractional.any():
            row, place = (int(i) for i in np.argwhere(fractional)[0])
            raise ValueError(f"{name}: labels must be integers, got {column[row, place]} in row {row}")
    wrong = (column < 0) | (column >= classes)
    if wrong.any():
        row, place = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name}: labels must lie in 0 to {classes - 1}, one for each of the model's {classes} outputs; "
            f"got {column[row, place]} in row {row}"
        )
    return np.ascontiguousarray(column, np.int64)


def row_numbers(name: str, data, rows: int) -> np.ndarray:
    """Indices of the chosen rows (chosen,), from integers, negative ones counting from the end, or a bool per row."""
    given = array(name, data)
    if given.ndim != 1:
        raise ValueError(f"{name} must be row numbers on one axis, got shape {given.shape}")
    if np.asarray(data).dtype == bool:
        if len(given) != rows or not given.any():
            raise ValueError(f"{name} must have a bool for each of {rows} rows, one of them True; got {len(given)}")
        return np.flatnonzero(given)
    if given.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {given.dtype}")
    wrong = (given < -rows) | (given >= rows)
    if wrong.any():
        raise ValueError(f"{name} must lie in 0 to {rows - 1}, got {given[np.argmax(wrong)]}")
    return given.astype(np.int64)


def weights(
    target: np.ndarray, sample_weight, class_weight, dtype, whole: bool = True, rows: int | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray | None:  # fmt: skip
    """The weight of each element, from the weights of rows and of classes; None if all are 1.

    `target` has an element in each row; there may be several for each of `rows`, with a weight for each of them or for
    each row. If the rows are `whole`, at least one weight must be positive. Masked elements, at which mask (elements,)
    is False, have no class and no weight, whatever is given.
    """
    if sample_weight is None and class_weight is None:
        return None
    rows = len(target) if rows is None else rows
    result: np.ndarray = np.ones((rows, len(target) // rows))
    if sample_weight is not None:
        given = array("sample_weight", sample_weight)
        if len(given) != rows or given.size not in (rows, result.size) or (given.ndim > 1 and result.shape[1] == 1):
            raise ValueError(f"sample_weight must have one number for each of {rows} rows, got {given.shape}")
        with np.errstate(all="ignore"):
            result *= given.reshape(rows, -1)
    result = result.reshape(-1)
    with np.errstate(all="ignore"):
        if class_weight is not None:
            there = slice(None) if mask is None else mask
            result[there] *= _weights_of_classes(target[there], class_weight)
        result = result.astype(dtype)
    if mask is not None:
        result[~mask] = 0
    if not np.isfinite(result).all() or (result < 0).any():
        raise ValueError(f"weights must be finite, 0 or more; the largest {result.dtype} is {np.finfo(dtype).max:.3g}")
    if whole and not result.any():
        raise ValueError("weights must not be zero for all rows")
    return result


def _weights_of_classes(target: np.ndarray, class_weight) -> np.ndarray:
    if target.shape[1] > 1 and not np.allclose(target.sum(axis=1, dtype=np.float64), 1, atol=1e-3):
        raise ValueError(
            "class_weight needs one class a row; these targets answer a yes/no question in each column: "
            "weigh their rows with sample_weight"
        )
    labels = target[:, 0].astype(np.int64) if target.shape[1] == 1 else target.argmax(axis=1)
    if isinstance(class_weight, str):
        choose("class_weight", class_weight, {"balanced": None})
        counts = np.bincount(labels)
        return (len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)))[labels]
    if not isinstance(class_weight, Mapping):
        raise TypeError(f"class_weight must be 'balanced' or a dict of label to number, got {class_weight!r}")
    missing = sorted(set(np.unique(labels).tolist()) - set(class_weight))
    if missing:
        raise ValueError(f"class_weight has no entry for class {missing[0]}")
    for label, weight in class_weight.items():
        number(f"class_weight of class {label}", weight)
    return np.array([class_weight[label] for label in labels.tolist()], np.float64)
