"""Estimators for real tables: each is fitted to columns of numbers and categories, and predicts."""

import functools
from collections.abc import Callable
from typing import Any

from nbbp.kernels import threads
from nbbp.recipes.presets import PRESETS

MEMBERS = 4  # of an ensemble


def _nbbp(classes: bool, seed: int, preset: str, members: int = 1) -> Any:
    from nbbp.sklearn import TabularClassifier, TabularRegressor

    return (TabularClassifier if classes else TabularRegressor)(preset, members=members, random_state=seed)


def _boosting(classes: bool, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    return (HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(random_state=seed)


def _mlp(classes: bool, seed: int) -> Any:
    """scikit-learn's network behind its own preparation of columns, which it needs."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
        remainder=make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
    )
    network = (MLPClassifier if classes else MLPRegressor)(early_stopping=True, random_state=seed)
    if not classes:
        from sklearn.compose import TransformedTargetRegressor

        network = TransformedTargetRegressor(network, transformer=StandardScaler())
    return make_pipeline(columns, network)


def _lightgbm(classes: bool, seed: int) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor

    return (LGBMClassifier if classes else LGBMRegressor)(random_state=seed, n_jobs=threads.count(), verbose=-1)


def _xgboost(classes: bool, seed: int) -> Any:
    from xgboost import XGBClassifier, XGBRegressor

    return (XGBClassifier if classes else XGBRegressor)(
        random_state=seed, n_jobs=threads.count(), enable_categorical=True
    )


class _CatBoost:
    """CatBoost, which is told which columns are categories, and takes no missing ones."""

    def __init__(self, classes: bool, seed: int) -> None:
        from catboost import CatBoostClassifier, CatBoostRegressor

        self._estimator = (CatBoostClassifier if classes else CatBoostRegressor)(
            random_state=seed, thread_count=threads.count(), verbose=False, allow_writing_files=False
        )

    def fit(self, X, y) -> None:
        self._estimator.fit(self._texts(X), y, cat_features=list(X.select_dtypes("category").columns))

    def predict(self, X):
        return self._estimator.predict(self._texts(X))

    def predict_proba(self, X):
        return self._estimator.predict_proba(self._texts(X))

    def _texts(self, X):
        columns = {name: X[name].astype(object) for name in X.select_dtypes("category").columns}
        return X.assign(**{name: column.where(column.notna(), "").astype(str) for name, column in columns.items()})


def _pytabkit(classes: bool, seed: int, preset: str) -> Any:
    import pytabkit

    kind = getattr(pytabkit, f"RealMLP_{preset}_{'Classifier' if classes else 'Regressor'}")
    return kind(device="cpu", random_state=seed, n_threads=threads.count(), verbosity=0)


REFERENCE = "HistGradientBoosting"

TABULAR_PEERS: dict[str, Callable[[bool, int], Any]] = {
    **{f"nbbp-{preset}": functools.partial(_nbbp, preset=preset) for preset in PRESETS},
    f"nbbp-plain-x{MEMBERS}": functools.partial(_nbbp, preset="plain", members=MEMBERS),
    REFERENCE: _boosting,
    "MLP": _mlp,
    "LightGBM": _lightgbm,
    "XGBoost": _xgboost,
    "CatBoost": _CatBoost,
    "RealMLP-TD-S": functools.partial(_pytabkit, preset="TD_S"),
    "RealMLP-TD": functools.partial(_pytabkit, preset="TD"),
}
"""By name, what returns an estimator for classes or values, and a seed."""
