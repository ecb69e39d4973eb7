"""PyTorch, eager, whose layers go through the padding of sequences, and take the output of the last step before it."""

import functools

from nbbp.bench.peers import torch

prepare_sequences = functools.partial(torch.prepare_sequences, padded=True)
