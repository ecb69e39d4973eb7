"""scikit-learn estimators: networks of dense layers with scikit-learn's parameters, trained by nbbp."""

try:
    import sklearn  # noqa: F401
except ImportError:
    raise ImportError('nbbp.sklearn needs scikit-learn: pip install "nbbp[sklearn]"') from None

from nbbp.sklearn.classifier import MLPClassifier
from nbbp.sklearn.regressor import MLPRegressor
from nbbp.sklearn.tabular import TabularClassifier, TabularRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "TabularClassifier", "TabularRegressor"]
