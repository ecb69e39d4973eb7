"""nbbp itself."""

import itertools
from typing import TYPE_CHECKING

import numpy as np

from nbbp.bench.convolutions import Convolution, ConvolutionPrediction
from nbbp.bench.estimators import Estimation
from nbbp.bench.sequences import Sequences, Steps
from nbbp.bench.trained import Trained
from nbbp.bench.workloads import Prediction, Workload

if TYPE_CHECKING:
    from nbbp.engine.layer import Layer
    from nbbp.training.trainer import Trainer


def layers(workload: Workload | Convolution) -> "list[Layer]":
    import nbbp

    if isinstance(workload, Convolution):
        return list(workload.network.layers)
    hidden = [nbbp.Dense(units, activation=workload.activation) for units in workload.sizes[1:-1]]
    return [*hidden, nbbp.Dense(workload.sizes[-1])]


def trainer(workload: Trained, backend: str = "numba", precision: str = "full") -> "Trainer":
    """The bound training steps of a workload."""
    import nbbp

    X, y = workload.data()
    if isinstance(workload, Sequences):
        model, mask = workload.model(backend, precision), workload.mask()
    else:
        model = nbbp.Sequential(layers(workload), workload.loss, nbbp.Adam(), backend=backend, precision=precision)
        model.build(X.shape[1:])
        mask = None
    return model.built.trainer(model.prepare(X, y, mask=mask), workload.batch)


def prepare(workload: Trained, backend: str = "numba", precision: str = "full"):
    bound, epochs = trainer(workload, backend, precision), itertools.count()

    def epoch() -> None:
        bound.train(1, next(epochs))

    return epoch


prepare_convolution = prepare_sequences = prepare


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


def prepare_steps(steps: Steps):
    import nbbp

    model = nbbp.Sequential([nbbp.LSTM(steps.units, stateful=True), nbbp.Dense(1)])
    model.build((1, steps.features))
    for parameter, array in zip(model.named_params().values(), steps.weights(), strict=True):
        parameter[...] = array
    step, data = model.step(1, training=False), steps.data()

    def predict() -> np.ndarray:
        step.reset_states()
        for x in data:
            z = step.forward(x)
        return z

    return predict


def prepare_estimation(estimation: Estimation):
    from nbbp.sklearn import MLPClassifier, MLPRegressor

    return estimation.bind(MLPClassifier, MLPRegressor)
