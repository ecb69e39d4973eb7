"""Which columns of a table a model uses, and how its predictions depend on one of them."""

import collections
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbp.tables import ClassTarget, dates
from nbbp.tables.categorical import Categories
from nbbp.tables.cells import Cells
from nbbp.tables.encoding import Column
from nbbp.tables.numeric import Dates

if TYPE_CHECKING:
    from nbbp.recipes.tabular import TableModel

REPEATS = 3  # shuffles of each column
LEAST_ROWS, MOST_ROWS = 100, 2000
MOST_PREDICTIONS = 100_000  # of all members, for the importance of all columns
BACKGROUND = 200  # rows whose mean is a point of a curve
POINTS = 20  # of a curve over numbers or dates
SHOWN = 12  # categories
ENDS = 0.01  # share of the different values beyond each end of a curve


def permutation_importance(model: "TableModel", X: np.ndarray, y: np.ndarray, seed: int = 0) -> dict[str, list[float]]:
    """By column, how much the error grows if its cells are shuffled: one number for each shuffle.

    The error is the log loss of classes, or the root of the mean squared error in the units of the target. Breiman,
    "Random forests", 2001, section 10. Columns that say the same share their importance, so that each seems small.

    Parameters
    ----------
    model : nbbp.recipes.tabular.TableModel
    X : ndarray (rows, features)
        Encoded rows, best those that the model was not trained on; some of them are drawn if they are many.
    y : ndarray (rows,)
        The encoded target.
    seed : int
    """
    rng = np.random.default_rng(seed)
    most = MOST_PREDICTIONS // (REPEATS * len(model.encoder.columns) * len(model.members))
    rows = _drawn(len(X), min(MOST_ROWS, max(most, LEAST_ROWS)), rng)
    X, y = X[rows], y[rows]
    before, begin, found = _error(model, X, y), 0, {}
    for column in model.encoder.columns:
        end = begin + len(column.features)
        errors = []
        for _ in range(REPEATS):
            shuffled = X.copy()
            shuffled[:, begin:end] = X[rng.permutation(len(X)), begin:end]
            errors.append(_error(model, shuffled, y) - before)
        found[column.name], begin = errors, end
    return found


def partial_dependence(model: "TableModel", cells: Cells, X: np.ndarray, seed: int = 0) -> tuple[list[Any], np.ndarray]:
    """The mean prediction for rows X if all had the same value in one column, at several of its values.

    Friedman, "Greedy function approximation", 2001, section 8.2.

    Parameters
    ----------
    model : nbbp.recipes.tabular.TableModel
    cells : Cells
        The column, with the values that occur.
    X : ndarray (rows, features)
        Encoded rows, of which some are drawn.
    seed : int

    Returns
    -------
    values : list of float, of str or None, or of datetime
        Numbers or dates, quantiles of the different ones if there are many; or the most frequent categories, of which
        None are missing values.
    prediction : ndarray (values, outputs)
        Probabilities of the classes, or one value in the units of the target.
    """
    names = [column.name for column in model.encoder.columns]
    begins = np.cumsum([0, *(len(column.features) for column in model.encoder.columns)])
    k = names.index(cells.name)
    values, rows = _points(model.encoder.columns[k], cells)
    encoded = model.encoder.columns[k].encode(cells.take(rows))
    X = X[_drawn(len(X), BACKGROUND, np.random.default_rng(seed))]
    changed = np.tile(X, (len(values), 1))
    changed[:, begins[k] : begins[k + 1]] = encoded.repeat(len(X), axis=0)
    prediction = model.decoded(changed)
    return values, prediction.reshape(len(values), len(X), -1).mean(axis=1)


def _points(column: Column, cells: Cells) -> tuple[list[Any], np.ndarray]:
    """Values of a column, and for each a row that has it."""
    if isinstance(column, Categories):
        texts = cells.as_texts()
        common = [text for text, _ in collections.Counter(texts).most_common(SHOWN)]
        return common, np.array([texts.index(text) for text in common])
    values: np.ndarray = cells.values
    if isinstance(column, Dates) and cells.kind == "text":
        values = dates.instants(cells, column.form or dates.FORMS[0], "as in the rest of the column")
    there = np.flatnonzero(~cells.missing)
    different, rows = np.unique(values[there], return_index=True)
    if len(different) > POINTS:
        rows = rows[(np.linspace(ENDS, 1 - ENDS, POINTS) * (len(different) - 1)).astype(int)]
    return values[there[rows]].tolist(), there[rows]


def _drawn(rows: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """All rows, or as many of them as `most`."""
    return np.arange(rows) if rows <= most else np.sort(rng.choice(rows, most, replace=False))


def _error(model: "TableModel", X: np.ndarray, y: np.ndarray) -> float:
    prediction = model.decoded(X)
    if isinstance(model.target, ClassTarget):
        right = prediction[np.arange(len(y)), y]
        return float(-np.log(np.maximum(right, np.finfo(np.float32).tiny)).mean())
    return float(np.sqrt(np.mean((prediction - model.target.in_units(y)) ** 2)))
