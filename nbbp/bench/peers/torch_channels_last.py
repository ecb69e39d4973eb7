"""PyTorch, eager, with images and weights in the memory format channels_last."""

import functools

from nbbp.bench.peers import torch

prepare_convolution = functools.partial(torch.prepare_convolution, channels_last=True)
prepare_convolution_prediction = functools.partial(torch.prepare_convolution_prediction, channels_last=True)
