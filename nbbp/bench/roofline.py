"""The time of a training step that the processor's limits allow."""

import dataclasses

from nbbp.bench.limits import Limits, caches
from nbbp.bench.trained import Trained


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds that a step takes at the limits of the processor, with all threads.

    Attributes
    ----------
    products : float
        The operations of the products over the FMA peak.
    bytes : float
        The bytes that every step moves over the read bandwidth of `level`. Those are 7 x 4 for each parameter, as Adam
        reads parameter, gradient and two moments and writes all but the gradient, and the inputs of the mini-batch.
    level : str
        The smallest cache, or all caches of a level together, that holds these arrays; otherwise memory.

    The two could overlap, so that their sum is no strict limit. Activations, elementary functions and the threads'
    waits for each other come on top of it; a step of few operations consists of nothing else.
    """

    products: float
    bytes: float
    level: str

    @property
    def seconds(self) -> float:
        """The sum of both."""
        return self.products + self.bytes


def roofline(workload: Trained, limits: Limits, threads: int) -> Roofline:
    """The roofline of a workload."""
    inputs = 4 * workload.batch * workload.features
    held, moved = 4 * 4 * workload.parameters + inputs, 7 * 4 * workload.parameters + inputs
    level = next((cache.name for cache in caches() if held <= threads * cache.share(threads)), "memory")
    return Roofline(workload.flops / limits.fma_peak, moved / limits.all_threads[level], level)
