"""Searches and ensembles on joblib's backends: worker processes that share the cores and the kernel cache."""

import contextlib

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV

import nbbp
from nbbp.kernels import threads
from nbbp.sklearn import MLPClassifier

WORKERS = 2


@contextlib.contextmanager
def loky():
    with joblib.parallel_config("loky", n_jobs=WORKERS, inner_max_num_threads=1):
        yield


@contextlib.contextmanager
def dask():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        yield


@contextlib.contextmanager
def ray():
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, configure_logging=False, log_to_driver=False)
    try:
        register_ray()
        with joblib.parallel_config("ray"):
            yield
    finally:
        ray.shutdown()


BACKENDS = {"loky": loky, "dask": dask, "ray": ray}


def in_worker(seed: int) -> tuple[int, bytes]:
    """The number of threads, and the weights of a network."""
    X, y = load_iris(return_X_y=True)
    model = nbbp.Sequential([nbbp.Dense(8, "relu"), nbbp.Dense(3)], "softmax_cross_entropy", seed=seed)
    model.fit(X, y, epochs=2, verbose=0)
    return threads.count(), model.params.tobytes()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", BACKENDS)
def test_a_search_has_the_scores_of_one_process_and_a_thread_for_each_worker(name):
    X, y = load_iris(return_X_y=True)
    search = GridSearchCV(MLPClassifier([8], max_iter=20, random_state=0), {"learning_rate_init": [0.01, 0.03]}, cv=3)
    here = search.fit(X, y).cv_results_["mean_test_score"]
    members = [in_worker(seed)[1] for seed in range(3)]
    with BACKENDS[name]():
        there = search.set_params(n_jobs=WORKERS).fit(X, y).cv_results_["mean_test_score"]
        found = joblib.Parallel(n_jobs=WORKERS)(joblib.delayed(in_worker)(seed) for seed in range(3))
    np.testing.assert_array_equal(there, here)
    assert found == [(1, weights) for weights in members]
