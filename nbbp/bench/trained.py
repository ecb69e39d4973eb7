"""All workloads of training, by name."""

from nbbp.bench.convolutions import CONVOLUTIONS, Convolution
from nbbp.bench.sequences import SEQUENCES, Sequences
from nbbp.bench.workloads import WORKLOADS, Workload

Trained = Workload | Convolution | Sequences

TRAINED: dict[str, Trained] = WORKLOADS | CONVOLUTIONS | SEQUENCES
