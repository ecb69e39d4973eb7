"""Series cut into windows: what a forecast is made from, and what it forecasts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbbp import checks
from nbbp.engine.windows import Windows


def windows(
    series, past: int, future: int, targets: int | Sequence[int] | None = None, known: int | Sequence[int] = (),
    static=None, stride: int = 1,
) -> tuple[Any, Windows]:  # fmt: skip
    """Training windows of one series or of many: the past from which a network forecasts, and the future.

    Windows overlap in memory: training and prediction copy the rows of a mini-batch out of the series. They are
    shuffled, resumed and weighed as any rows are, with the same bits as an array of them has; ``np.asarray`` makes one.

    Parameters
    ----------
    series : array_like (time,) or (time, features), or a list of them
        The series may have different lengths. One is not copied, if it is C-contiguous and of the model's dtype; many
        are copied once, end to end. No window lies in two.
    past, future : int
        The instants that a window has before its forecast, and that are forecast.
    targets : int or sequence of int, optional
        The columns that are forecast; by default all.
    known : int or sequence of int
        Columns that are known in advance, such as the day of the week: the network also sees their future.
    static : array_like (series, features) or, of one series, (features,), optional
        What does not change within a series.
    stride : int
        The instants between the beginnings of two windows.

    Returns
    -------
    X : Windows (rows, past, features), or list of Windows
        In the order of time, series after series. With `known` or `static` it is a list, for a model of several
        inputs: the past, then the known columns (rows, future, known), then the static features (rows, features).
    y : Windows (rows, future) or (rows, future, targets)
        The values that are forecast; without the last axis if `targets` is one column or the series has one axis.
        Those to come may be NaN if they are only predicted. With weights, masks or classes, `fit` makes an array of y.

    Raises
    ------
    ValueError
        If a series is shorter than a window.

    Examples
    --------
    The last year is for validation; its first windows look back into the years before.

    >>> import nbbp, numpy as np
    >>> days = np.arange(2000)
    >>> series = (np.sin(2 * np.pi * days / 365) + np.random.default_rng(0).normal(0, 0.1, 2000)).astype("float32")
    >>> train = nbbp.streams.windows(series[:1635], past=28, future=7)
    >>> last = nbbp.streams.windows(series[1635 - 28 :], past=28, future=7)
    >>> model = nbbp.Sequential([nbbp.Flatten(), nbbp.Dense(32, "relu"), nbbp.Dense(7)], "mse", "adam")
    >>> history = model.fit(*train, epochs=5, validation_data=last, verbose=0)
    >>> train[0], model.predict(last[0]).shape
    (<Windows: 1,601 of 28 x 1, float32>, (359, 7))
    """
    past, future = checks.positive_integer("past", past), checks.positive_integer("future", future)
    stride = checks.positive_integer("stride", stride)
    many = isinstance(series, list | tuple) and len(series) > 0 and np.ndim(series[0]) > 0
    named = [(f"series {k}", each) for k, each in enumerate(series)] if many else [("the series", series)]
    parts = [_columns(name, each) for name, each in named]
    _check_fit(named, parts, past + future)
    flat_axis = targets is None and np.ndim(named[0][1]) == 1
    begins = np.cumsum([0, *map(len, parts)])
    counts = [(len(part) - past - future) // stride + 1 for part in parts]
    starts = np.concatenate([b + stride * np.arange(n) for b, n in zip(begins, counts, strict=False)])
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    features = whole.shape[1]
    X = [Windows(whole, starts * features, (past, features))]
    if np.size(known):
        ahead = np.ascontiguousarray(whole[:, _numbers("known", known, features)])
        X.append(Windows(ahead, (starts + past) * ahead.shape[1], (future, ahead.shape[1])))
    if static is not None:
        given = _static(static, len(parts), many)
        X.append(Windows(given, np.repeat(np.arange(len(parts)), counts) * given.shape[1], given.shape[1:]))
    single = flat_axis or isinstance(targets, int | np.integer)
    chosen = whole if targets is None else np.ascontiguousarray(whole[:, _numbers("targets", targets, features)])
    count = chosen.shape[1]
    y = Windows(chosen, (starts + past) * count, (future,) if single else (future, count))
    return X if len(X) > 1 else X[0], y


def _columns(name: str, given) -> np.ndarray:
    """A series as (time, features)."""
    array = checks.array(name, given)
    if array.ndim > 2:
        raise ValueError(f"{name} must be (time,) or (time, features), got shape {array.shape}")
    return np.ascontiguousarray(array.reshape(len(array), -1))


def _check_fit(named: list, parts: list[np.ndarray], length: int) -> None:
    """Check that every series has room for a window, and as many features as the first."""
    for (name, _), part in zip(named, parts, strict=True):
        if part.shape[1] != parts[0].shape[1]:
            raise ValueError(f"{name} has {part.shape[1]} features, and series 0 has {parts[0].shape[1]}")
        if len(part) < length:
            raise ValueError(f"{name} has {len(part)} instants, and a window takes {length}: past and future together")


def _numbers(name: str, given, features: int) -> np.ndarray:
    """The numbers of one column or of some."""
    return checks.row_numbers(name, np.atleast_1d(given), features)


def _static(given, count: int, many: bool) -> np.ndarray:
    array = np.ascontiguousarray(np.atleast_2d(checks.array("static", given)))
    if array.ndim != 2 or len(array) != count:
        each = f"each of {count} series" if many else "the series"
        raise ValueError(f"static must have a row for {each}, got shape {np.shape(given)}")
    return array
