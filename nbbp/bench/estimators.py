"""What scikit-learn's users ask of its MLP, asked of either estimator with the same arguments."""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Estimation:
    """Work for an MLPClassifier or an MLPRegressor; `prepare` gets it with X and y and returns a function to time."""

    name: str
    data: str
    prepare: Callable[[type, np.ndarray, np.ndarray], Callable[[], object]]

    steps = 1

    def bind(self, classifier: type, regressor: type) -> Callable[[], object]:
        """The function to time, on a data set that scikit-learn ships, standardised."""
        import sklearn.datasets
        from sklearn.preprocessing import StandardScaler

        X, y = getattr(sklearn.datasets, f"load_{self.data}")(return_X_y=True)
        kind = regressor if self.data == "diabetes" else classifier
        return self.prepare(kind, StandardScaler().fit_transform(X), y)


def _fit(**arguments) -> Callable:
    """200 iterations of a new estimator: nothing may end them before."""
    return lambda kind, X, y: lambda: kind(max_iter=200, tol=0, random_state=0, **arguments).fit(X, y)


def _cross_validation(kind: type, X, y) -> Callable[[], object]:
    from sklearn.model_selection import cross_val_score

    return lambda: cross_val_score(kind(random_state=0), X, y, cv=5)


def _grid_search(kind: type, X, y) -> Callable[[], object]:
    from sklearn.model_selection import GridSearchCV

    grid = {"hidden_layer_sizes": [(50,), (100,)], "alpha": [1e-4, 1e-2]}
    return lambda: GridSearchCV(kind(max_iter=50, random_state=0), grid, cv=3, n_jobs=2).fit(X, y)


def _partial_fit(rows: int) -> Callable:
    def prepare(kind: type, X, y) -> Callable[[], object]:
        estimator, classes = kind(random_state=0), np.unique(y)
        begins = itertools.cycle(range(0, len(X) - rows, rows))

        def partial_fit() -> None:
            begin = next(begins)
            estimator.partial_fit(X[begin : begin + rows], y[begin : begin + rows], classes=classes)

        return partial_fit

    return prepare


def _predict_one(kind: type, X, y) -> Callable[[], object]:
    estimator = kind(max_iter=5, random_state=0).fit(X, y)
    return lambda: estimator.predict_proba(X[:1])


_early = {"early_stopping": True, "n_iter_no_change": 200}

ESTIMATIONS = {
    estimation.name: estimation
    for estimation in (
        Estimation("early-digits", "digits", _fit(**_early)),
        Estimation("early-diabetes", "diabetes", _fit(**_early)),
        Estimation("early-cancer", "breast_cancer", _fit(**_early)),
        Estimation("lbfgs-diabetes", "diabetes", _fit(solver="lbfgs")),
        Estimation("lbfgs-cancer", "breast_cancer", _fit(solver="lbfgs")),
        Estimation("cross-val", "diabetes", _cross_validation),
        Estimation("grid-search", "digits", _grid_search),
        Estimation("partial-64", "digits", _partial_fit(64)),
        Estimation("partial-200", "digits", _partial_fit(200)),
        Estimation("predict-one", "digits", _predict_one),
    )
}
