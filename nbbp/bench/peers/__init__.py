"""One adapter for each peer: `prepare(workload)` returns a function that trains for one epoch.

A peer is written as its own users would for speed. It raises Unsupported where it cannot express a workload.
"""

PEERS = ("nbbp", "numpy", "torch", "torch1", "torch_compile", "jax", "sklearn")


class Unsupported(Exception):
    """The peer cannot express this workload."""
