"""A linear model of the same columns, to be compared with."""

import warnings
from collections.abc import Sequence

import numpy as np

from nbbp.recipes.presets import Target
from nbbp.tables import ClassTarget, TableEncoder
from nbbp.tables.categorical import MOST
from nbbp.tables.cells import Cells

MOST_ROWS = 5000  # to learn from; a linear model soon has enough
MOST_FEATURES = 1000  # of two classes, up to which Newton's method is faster


def linear_prediction(
    encoder: TableEncoder, target: Target, columns: Sequence[Cells], y: np.ndarray, new: Sequence[Cells], seed: int = 0
) -> np.ndarray | None:
    """What scikit-learn's logistic regression or ridge regression predicts for new rows; None if there is none.

    Each number is one feature, without bins, and each category has a column of its own.

    Parameters
    ----------
    encoder : TableEncoder
        That of the network: the columns that are taken, and which of them are categories.
    target : ClassTarget or ValueTarget
    columns, y : sequence of Cells, ndarray (rows,)
        The rows to learn from, and their encoded target.
    new : sequence of Cells
    seed : int
        Of the rows that are drawn, if there are many.

    Returns
    -------
    ndarray (rows, classes) or (rows,)
        Probabilities, or values in the units of the target.
    """
    try:
        from sklearn.linear_model import LogisticRegression, Ridge
    except ImportError:
        return None
    if len(y) > MOST_ROWS:
        rows = np.random.default_rng(seed).choice(len(y), MOST_ROWS, replace=False)
        columns, y = [column.take(rows) for column in columns], y[rows]
    names = {column.name for column in encoder.columns}
    categories = [column.name for column in encoder.columns if column.kind == "category"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns that are constant in the rows drawn, and of the last step
        linear = TableEncoder.fit_cells([c for c in columns if c.name in names], False, categories, "", 0, MOST)
        X, X_new = linear.encode_cells(columns), linear.encode_cells(new)
        if not isinstance(target, ClassTarget):
            return target.decode(Ridge().fit(X, y).predict(X_new))
        if y.min() == y.max():
            return None  # the rows drawn have one class
        few = X.shape[1] <= MOST_FEATURES and len(target.classes) == 2
        model = LogisticRegression(solver="newton-cholesky" if few else "lbfgs").fit(X, y)
    p = np.zeros((len(X_new), len(target.classes)))
    p[:, model.classes_] = model.predict_proba(X_new)
    return p
