"""nbbp's reference backend: the same program over the NumPy functions."""

import functools

from nbbp.bench.peers import nbbp

prepare = prepare_convolution = prepare_sequences = functools.partial(nbbp.prepare, backend="numpy")
