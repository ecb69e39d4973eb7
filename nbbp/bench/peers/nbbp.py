"""nbbp itself."""

import itertools
from typing import TYPE_CHECKING

from nbbp.bench.convolutions import Convolution, ConvolutionPrediction
from nbbp.bench.estimators import Estimation
from nbbp.bench.workloads import Prediction, Workload

if TYPE_CHECKING:
    from nbbp.engine.layer import Layer
    from nbbp.training.trainer import Trainer


def _layers(workload: Workload | Convolution) -> "list[Layer]":
    import nbbp

    if isinstance(workload, Convolution):
        return list(workload.network.layers)
    hidden = [nbbp.Dense(units, activation=workload.activation) for units in workload.sizes[1:-1]]
    return [*hidden, nbbp.Dense(workload.sizes[-1])]


def trainer(workload: Workload | Convolution, backend: str = "numba") -> "Trainer":
    """The bound training steps of a workload."""
    import nbbp

    model = nbbp.Sequential(_layers(workload), loss=workload.loss, optimizer=nbbp.Adam(), backend=backend)
    X, y = workload.data()
    model.build(X.shape[1:])
    return model.built.trainer(model.prepare(X, y), workload.batch)


def prepare(workload: Workload | Convolution, backend: str = "numba"):
    bound, epochs = trainer(workload, backend), itertools.count()

    def epoch() -> None:
        bound.train(1, next(epochs))

    return epoch


prepare_convolution = prepare


def prepare_prediction(prediction: Prediction):
    import nbbp

    model = nbbp.Sequential([nbbp.Dense(128, activation="relu"), nbbp.Dense(10)], loss="softmax_cross_entropy")
    model.build(784)
    arrays = [array for layer in prediction.weights() for array in layer]
    for parameter, array in zip(model.named_params().values(), arrays, strict=True):
        parameter[...] = array
    x = prediction.data()
    return lambda: model.predict(x)


def prepare_convolution_prediction(prediction: ConvolutionPrediction):
    import nbbp

    model = nbbp.Sequential(prediction.network.layers, loss="softmax_cross_entropy")
    model.build(prediction.network.shape)
    x = prediction.data()
    return lambda: model.predict(x)


def prepare_estimation(estimation: Estimation):
    from nbbp.sklearn import MLPClassifier, MLPRegressor

    return estimation.bind(MLPClassifier, MLPRegressor)
