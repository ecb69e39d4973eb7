"""PyTorch with torch.compile around forward and loss, on one thread."""

import functools

from nbbp.bench.peers import torch

prepare = functools.partial(torch.prepare, threads=1, compile=True)
prepare_convolution = functools.partial(torch.prepare_convolution, threads=1, compile=True)
prepare_sequences = functools.partial(torch.prepare_sequences, threads=1, compile=True)
