"""scikit-learn's own networks and nbbp's at equal settings: cross-validated accuracy, and seconds for a fit.

Defaults of scikit-learn's MLPClassifier and MLPRegressor on standardised columns of four of its data sets; the diabetes
data have 10 units and a learning rate of 0.01, since with the defaults neither learns anything in 200 epochs.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")  # scikit-learn's BLAS

import pathlib
import sys
import time
import warnings

import numpy as np
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nbbp.sklearn
from nbbp.plots import COLORS
from nbbp.plots.figure import new_figure

DATA = {
    "digits": datasets.load_digits,
    "breast cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
}
LIBRARIES = {"scikit-learn": neural_network, "nbbp": nbbp.sklearn}


def estimator(library: str, data: str, seed: int):
    """A network behind a scaler of its columns."""
    if data == "diabetes":
        network = LIBRARIES[library].MLPRegressor(hidden_layer_sizes=(10,), random_state=seed, learning_rate_init=0.01)
    else:
        network = LIBRARIES[library].MLPClassifier(random_state=seed)
    return make_pipeline(StandardScaler(), network)


def score(library: str, data: str, seeds: int = 5) -> tuple[float, float]:
    """Mean score over five folds, drawn anew for each seed, and the median time of a fit in seconds."""
    X, y = DATA[data](return_X_y=True)
    scores, seconds = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for seed in range(seeds):
            folds = KFold(5, shuffle=True, random_state=seed)
            scores.append(cross_val_score(estimator(library, data, seed), X, y, cv=folds).mean())
            begin = time.perf_counter()
            estimator(library, data, seed).fit(X, y)
            seconds.append(time.perf_counter() - begin)
    return float(np.mean(scores)), float(np.median(seconds))


def draw(results: dict[tuple[str, str], tuple[float, float]], path: pathlib.Path) -> None:
    """Scores and seconds side by side."""
    figure, axes = new_figure(2, width=9.0, height=3.4)
    names = list(dict.fromkeys(data for _, data in results))
    titles = ("accuracy (diabetes: R2), five folds", "seconds for a fit")
    for panel, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        for k, library in enumerate(LIBRARIES):
            heights = [results[library, data][panel] for data in names]
            bars = axis.bar(np.arange(len(names)) + 0.4 * k - 0.2, heights, 0.38, label=library, color=COLORS[1 - k])
            axis.bar_label(bars, [f"{height:.3g}" for height in heights], fontsize=7)
        axis.set_xticks(range(len(names)), names)
        axis.set_title(title, fontsize=10)
    axes[1].set_yscale("log")
    axes[1].legend(fontsize=8)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/scikit_learn.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    results = {}
    for data in DATA:
        score("nbbp", data, seeds=1)  # compiled
        for library in LIBRARIES:
            results[library, data] = score(library, data)
        (theirs, slow), (ours, fast) = (results[library, data] for library in LIBRARIES)
        print(f"{data:14} scikit-learn {theirs:.4f} in {slow:6.3f} s   nbbp {ours:.4f} in {fast:6.3f} s")
    draw(results, picture)
