"""PyTorch, eager, on all threads: no DataLoader, fused Adam."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbbp import LSTM, Dense
from nbbp.bench.convolutions import Convolution, ConvolutionPrediction
from nbbp.bench.peers import Unsupported
from nbbp.bench.sequences import Sequences, Steps
from nbbp.bench.trained import Trained
from nbbp.bench.workloads import Prediction, Workload

ACTIVATIONS = {"relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid"}


def _epochs(workload: Trained, network, inputs: Sequence, y, compile: bool, autocast: bool):
    """A function that trains the network for one epoch."""
    import torch

    optimizer = getattr(torch.optim, workload.optimizer)(network.parameters(), fused=True)

    def forward(rows):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            z = network(*(x[rows] for x in inputs))
            if workload.loss == "mse":
                return torch.nn.functional.mse_loss(z, y[rows])
            return torch.nn.functional.cross_entropy(z.flatten(0, -2), y[rows].flatten())

    if compile:
        forward = torch.compile(forward)

    def epoch() -> None:
        for rows in torch.randperm(workload.rows).split(workload.batch):
            optimizer.zero_grad(set_to_none=True)
            forward(rows).backward()
            optimizer.step()

    return epoch


def prepare(
    workload: Workload, threads: int | None = None, compile: bool = False, wrap: Callable = lambda n: n,
    autocast: bool = False,
):  # fmt: skip
    import torch

    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for n_in, n_out in zip(workload.sizes, workload.sizes[1:], strict=False):
        layers += [torch.nn.Linear(n_in, n_out), getattr(torch.nn, ACTIVATIONS[workload.activation])()]
    x, y = (torch.from_numpy(array) for array in workload.data())
    return _epochs(workload, wrap(torch.nn.Sequential(*layers[:-1])), [x], y, compile, autocast)


def _convolutional(
    workload: Convolution | ConvolutionPrediction, samples: np.ndarray, threads: int | None, channels_last: bool
):
    """The network, and the samples (rows, channels, *positions)."""
    import torch

    from nbbp.bench.networks.torch import module

    if threads:
        torch.set_num_threads(threads)
    if channels_last and samples.ndim != 4:
        raise Unsupported("channels_last is a memory format of images")
    memory = torch.channels_last if channels_last else torch.contiguous_format
    network: Any = module(workload.network, workload.network.weights())
    return network.to(memory_format=memory), torch.from_numpy(np.moveaxis(samples, -1, 1)).contiguous(
        memory_format=memory
    )


def prepare_convolution(
    workload: Convolution, threads: int | None = None, compile: bool = False, channels_last: bool = False,
    wrap: Callable = lambda n: n, autocast: bool = False,
):  # fmt: skip
    import torch

    x, y = workload.data()
    network, samples = _convolutional(workload, x, threads, channels_last)
    return _epochs(workload, wrap(network), [samples], torch.from_numpy(y), compile, autocast)


def prepare_sequences(
    workload: Sequences, threads: int | None = None, compile: bool = False, padded: bool = False,
    autocast: bool = False,
):  # fmt: skip
    import torch

    from nbbp.bench.networks.torch_sequences import Network

    if threads:
        torch.set_num_threads(threads)
    if padded and not workload.ragged:
        raise Unsupported("there is no padding")
    network = Network(workload.layers, workload.shape[-1], workload.weights(), padded)
    arrays = [*workload.data(), *([workload.lengths()] if workload.ragged else [])]
    x, y, *lengths = (torch.from_numpy(array) for array in arrays)
    return _epochs(workload, network, [x, *lengths], y, compile, autocast)


def prepare_steps(steps: Steps, threads: int | None = None):
    import torch

    from nbbp.bench.networks.torch_sequences import Network

    if threads:
        torch.set_num_threads(threads)
    network: Any = Network([LSTM(steps.units), Dense(1)], steps.features, steps.weights())
    lstm, dense, data = network.first.steps, network.rest, steps.data()

    def predict() -> np.ndarray:
        state = None
        with torch.inference_mode():
            for x in data:
                y, state = lstm(torch.from_numpy(x), state)
                z = dense(y[:, -1]).numpy()
        return z

    return predict


def _prediction(network, x: np.ndarray):
    """A function that returns the probabilities of x as an array."""
    import torch

    def predict():
        with torch.inference_mode():
            return network(torch.from_numpy(x)).softmax(1).numpy()

    return predict


def prepare_prediction(prediction: Prediction, threads: int | None = None):
    import torch

    if threads:
        torch.set_num_threads(threads)
    hidden, last = torch.nn.Linear(784, 128), torch.nn.Linear(128, 10)
    network = torch.nn.Sequential(hidden, torch.nn.ReLU(), last)
    with torch.no_grad():
        for layer, (w, b) in zip((hidden, last), prediction.weights(), strict=True):
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
    return _prediction(network, prediction.data())


def prepare_convolution_prediction(
    prediction: ConvolutionPrediction, threads: int | None = None, channels_last: bool = False
):
    network, samples = _convolutional(prediction, prediction.data(), threads, channels_last)
    return _prediction(network.eval(), samples.numpy())
