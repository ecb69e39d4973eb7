"""Checks at the public door: kernels assume what is checked here.

Every function returns what nbbp computes with, or raises a ValueError or TypeError that says what was expected and
what came. The caller's arrays are never modified.
"""

import difflib
import math
import numbers

import numpy as np

from nbbp.losses import Loss


def choose(kind: str, name, table: dict):
    """The entry of `table`, or a ValueError with the near match."""
    if not isinstance(name, str):
        hint = f"; did you mean {name.__name__}()?" if isinstance(name, type) else ""
        raise TypeError(f"{kind} must be one of {', '.join(table)}; got {name!r}{hint}")
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name.lower().replace("-", "_"), table, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {kind} {name!r}.{hint} Choose one of {', '.join(table)}.")


def positive_integer(name: str, value) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, got {value}")
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


def _array(name: str, data) -> np.ndarray:
    try:
        array = np.asarray(data)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name} must be a rectangular array of numbers: {error}") from None
    if array.dtype == bool:
        array = array.astype(np.int64)
    if array.dtype == object:
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} must hold numbers: {error}") from None
    if array.dtype.kind not in "iuf":
        labels = f"; np.unique({name}, return_inverse=True)[1] numbers its classes" if array.ndim == 1 else ""
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}{labels}")
    if array.ndim == 0:
        raise ValueError(f"{name} must have a row for each sample, got the single number {array}")
    if array.size == 0:
        raise ValueError(f"{name} is empty: its shape is {array.shape}")
    return array


def _finite(name: str, given: np.ndarray, converted: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        total = float(np.sum(converted, dtype=np.float64))
    if not math.isfinite(total) and not np.isfinite(converted).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(converted))[0])
        place = f"row {where[0]}"
        if len(where) > 1:
            place += f", column {where[1]}" if len(where) == 2 else f", at {where[1:]}"
        value = given[where]
        too_large = f", too large for {converted.dtype}" if np.isfinite(value) else ""
        raise ValueError(f"{name} must be finite, got {value}{too_large} in {place}")


def _is_as_needed(data, dtype, input_shape) -> bool:
    """Whether data need no conversion; the sum of squares is one fast pass that finds nan and infinity."""
    return (
        type(data) is np.ndarray
        and data.dtype == dtype
        and data.shape[1:] == input_shape
        and data.flags.c_contiguous
        and data.flags.aligned
        and len(data) > 0
        and math.isfinite(np.vdot(data, data))
    )


def features(name: str, data, dtype, input_shape: tuple[int, ...] | None) -> np.ndarray:
    """Rows of features, C-contiguous in `dtype`; of `input_shape` where that is known."""
    if _is_as_needed(data, dtype, input_shape):
        return data
    array = _array(name, data)
    if array.ndim == 1:
        raise ValueError(
            f"{name} must have two axes, samples and features, got shape {array.shape}; "
            f"reshape(-1, 1) makes samples with one feature, reshape(1, -1) one sample"
        )
    if input_shape is not None and array.shape[1:] != input_shape:
        wanted = f"{input_shape[0]} features" if len(input_shape) == 1 else f"samples of shape {input_shape}"
        got = f"{array.shape[1]}" if array.ndim == 2 else f"shape {array.shape[1:]}"
        raise ValueError(f"{name}: the model takes {wanted}, got {got}")
    with np.errstate(over="ignore"):
        converted = np.require(array, dtype, ["C", "A"])
    _finite(name, array, converted)
    return converted


def targets(name: str, data, loss: Loss, dtype, rows: int, outputs: int) -> np.ndarray:
    """Targets of a loss: (rows, outputs) in `dtype`, or integer labels (rows, 1)."""
    array = _array(name, data)
    if len(array) != rows:
        raise ValueError(f"X has {rows} rows and {name} has {len(array)}")
    flat = array.reshape(rows, -1)
    if loss.labels is not None and flat.shape[1] == 1:
        return _labels(name, flat, outputs)
    if flat.shape[1] != outputs * loss.columns:
        labels = ", or one integer label a row" if loss.labels is not None else ""
        raise ValueError(
            f"{name} needs {'a column' if loss.columns == 1 else f'{loss.columns} columns'} for each of the model's "
            f"{outputs} outputs{labels}; got {flat.shape[1]}"
        )
    with np.errstate(over="ignore"):
        converted = np.require(flat, dtype, ["C", "A"])
    _finite(name, flat, converted)
    low, high = loss.valid_targets
    wrong = (converted < low) | (converted > high)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        bounds = f"in [{low:g}, {high:g}]" if high < math.inf else f"{low:g} or more"
        raise ValueError(
            f"{name}: {loss.name} takes targets {bounds}, got {flat[row, column]} in row {row}, column {column}"
        )
    return converted


def _labels(name: str, column: np.ndarray, classes: int) -> np.ndarray:
    if column.dtype.kind == "f":
        _finite(name, column, column)
        fractional = column != np.floor(column)
        if fractional.any():
            row = int(np.argwhere(fractional)[0, 0])
            raise ValueError(f"{name}: labels must be integers, got {column[row, 0]} in row {row}")
    wrong = (column < 0) | (column >= classes)
    if wrong.any():
        row = int(np.argwhere(wrong)[0, 0])
        raise ValueError(
            f"{name}: labels must lie in 0 to {classes - 1}, one for each of the model's {classes} outputs; "
            f"got {column[row, 0]} in row {row}"
        )
    return np.ascontiguousarray(column, np.int64)


def weights(target: np.ndarray, sample_weight, class_weight, dtype) -> np.ndarray | None:
    """How much each row counts (rows,), from the weights of rows and of classes; None where all count 1."""
    if sample_weight is None and class_weight is None:
        return None
    result = np.ones(len(target))
    if sample_weight is not None:
        given = _array("sample_weight", sample_weight)
        if given.shape != (len(target),):
            raise ValueError(f"sample_weight must have one number for each of {len(target)} rows, got {given.shape}")
        result *= given
    if class_weight is not None:
        result *= _weights_of_classes(target, class_weight)
    if not np.isfinite(result).all() or (result < 0).any():
        raise ValueError("weights must be finite, 0 or more")
    if not result.any():
        raise ValueError("weights must not be zero for all rows")
    return result.astype(dtype)


def _weights_of_classes(target: np.ndarray, class_weight) -> np.ndarray:
    labels = target[:, 0].astype(np.int64) if target.shape[1] == 1 else target.argmax(axis=1)
    if isinstance(class_weight, str):
        choose("class_weight", class_weight, {"balanced": None})
        counts = np.bincount(labels)
        return (len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)))[labels]
    missing = sorted(set(np.unique(labels).tolist()) - set(class_weight))
    if missing:
        raise ValueError(f"class_weight has no entry for class {missing[0]}")
    return np.array([class_weight[label] for label in labels.tolist()], np.float64)
