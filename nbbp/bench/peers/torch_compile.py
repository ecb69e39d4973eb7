"""PyTorch with torch.compile around forward and loss."""

import functools

from nbbp.bench.peers import torch

prepare = functools.partial(torch.prepare, compile=True)
prepare_sequences = functools.partial(torch.prepare_sequences, compile=True)
prepare_convolution = functools.partial(torch.prepare_convolution, compile=True)
