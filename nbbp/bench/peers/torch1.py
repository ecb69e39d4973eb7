"""PyTorch, eager, on one thread: often the faster count for small networks."""

import functools

from nbbp.bench.peers import torch

prepare = functools.partial(torch.prepare, threads=1)
prepare_prediction = functools.partial(torch.prepare_prediction, threads=1)
prepare_convolution = functools.partial(torch.prepare_convolution, threads=1)
prepare_sequences = functools.partial(torch.prepare_sequences, threads=1)
prepare_steps = functools.partial(torch.prepare_steps, threads=1)
prepare_convolution_prediction = functools.partial(torch.prepare_convolution_prediction, threads=1)
