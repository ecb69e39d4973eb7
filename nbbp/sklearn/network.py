"""The network of an estimator: its layers, its optimizer and its initial weights."""

import dataclasses

import numpy as np

from nbbp import checks
from nbbp.layers import Dense, Dropout, Layer
from nbbp.losses import Loss
from nbbp.optimizers import OPTIMIZERS, SGD, Adam, Optimizer
from nbbp.sequential import Sequential
from nbbp.sklearn.parameters import Parameters

ACTIVATION_NAMES = {"identity": "linear", "logistic": "sigmoid"}  # scikit-learn's


@dataclasses.dataclass
class Head:
    """The head of a network: its outputs, their activation, the loss, and the factor of the loss."""

    units: int
    activation: str
    loss: Loss
    scale: float = 1.0


def layers(estimator: Parameters, head: Head, l2: float) -> list[Layer]:
    """Dense layers and dropout up to the head, each with the penalty l2 sum w^2."""
    result: list[Layer] = []
    for units, activation, rate in estimator._hidden:
        result.append(Dense(units, ACTIVATION_NAMES.get(activation, activation), l2=l2))
        result += [Dropout(rate)] if rate else []
    return [*result, Dense(head.units, head.activation, l2=l2)]


def optimizer(estimator: Parameters) -> Optimizer:
    """The solver's optimizer; L-BFGS has one that is not used."""
    if isinstance(estimator.solver, Optimizer):
        return estimator.solver
    rate = estimator.learning_rate_init
    if estimator.solver == "sgd":
        return SGD(rate, estimator.momentum, nesterov=estimator.nesterovs_momentum and estimator.momentum > 0)
    if estimator.solver == "adam":
        return Adam(rate, beta1=estimator.beta_1, beta2=estimator.beta_2, epsilon=estimator.epsilon)
    return checks.choose("solver", estimator.solver, OPTIMIZERS | {"lbfgs": SGD})(rate)


def first_values(estimator: Parameters, features: int, head: Head, random: np.random.RandomState) -> list[np.ndarray]:
    """The weights and biases of each layer in turn, drawn as in scikit-learn.

    Both are uniform within sqrt(6 / (inputs + units)), or sqrt(2 / ...) if the activation is logistic: Glorot and
    Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.
    """
    hidden = estimator._hidden
    sizes = [features, *(units for units, *_ in hidden), head.units]
    activations = [activation for _, activation, _ in hidden]
    activations += activations[-1:] or [str(estimator.activation)]
    drawn = []
    for inputs, units, activation in zip(sizes[:-1], sizes[1:], activations, strict=True):
        logistic = ACTIVATION_NAMES.get(activation, activation) == "sigmoid"
        bound = np.sqrt((2 if logistic else 6) / (inputs + units))
        drawn += [random.uniform(-bound, bound, shape) for shape in ((inputs, units), units)]
    return drawn


def skeleton(settings: dict) -> str:
    """The structure that must stay the same when training continues: units, and the optimizer's arrays."""
    optimizer = settings["optimizer"]
    units = [layer.units for layer in settings["layers"] if isinstance(layer, Dense)]
    return f"{units} trained by {type(optimizer).__name__} with {optimizer.moments} moments"


def continued(model: Sequential, before: dict, after: dict) -> Sequential:
    """The model with settings that may have changed; ValueError if they require another network."""
    old, new = skeleton(before), skeleton(after)
    if old != new:
        raise ValueError(f"the network that is there, {old}, cannot go on as {new}: fit a new one")
    changed = {name: value for name, value in after.items() if value != before[name]}
    return model.copy(**changed) if changed else model
