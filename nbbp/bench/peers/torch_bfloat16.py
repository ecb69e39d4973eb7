"""PyTorch, eager, with autocast to bfloat16 around forward and loss."""

import functools

from nbbp.bench.peers import torch

prepare = functools.partial(torch.prepare, autocast=True)
prepare_sequences = functools.partial(torch.prepare_sequences, autocast=True)
prepare_convolution = functools.partial(torch.prepare_convolution, autocast=True, channels_last=True)
