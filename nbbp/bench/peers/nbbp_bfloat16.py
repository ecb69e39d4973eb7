"""nbbp with products of bfloat16."""

import functools

from nbbp.bench.peers import nbbp

prepare = functools.partial(nbbp.prepare, precision="bfloat16")
prepare_convolution = prepare_sequences = prepare
