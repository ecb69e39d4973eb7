"""scikit-learn's MLP, one pass of partial_fit an epoch."""

from nbbp.bench.estimators import Estimation
from nbbp.bench.peers import Unsupported
from nbbp.bench.workloads import Workload

ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}


def prepare(workload: Workload):
    import numpy as np
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if workload.loss != "mse" and workload.sizes[-1] == 2:
        raise Unsupported("two classes have a single output here")
    kind = MLPRegressor if workload.loss == "mse" else MLPClassifier
    model = kind(
        hidden_layer_sizes=workload.sizes[1:-1],
        activation=ACTIVATIONS[workload.activation],
        batch_size=workload.batch,
        alpha=0.0,
    )
    x, y = workload.data()
    more = {} if workload.loss == "mse" else {"classes": np.arange(workload.sizes[-1])}
    y = y.ravel()

    def epoch() -> None:
        model.partial_fit(x, y, **more)

    return epoch


def prepare_estimation(estimation: Estimation):
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    return estimation.bind(MLPClassifier, MLPRegressor)
