"""One adapter for each peer.

`prepare(workload)` returns a function that trains for one epoch, `prepare_prediction(prediction)` one that predicts,
and `prepare_estimation(estimation)` one that does what scikit-learn's users ask of an estimator.
A peer is written as its own users would for speed. It raises Unsupported where it cannot express a workload; one that
does not do a thing at all has no function for it.
"""

PEERS = ("nbbp", "numpy", "torch", "torch1", "torch_compile", "jax", "sklearn", "onnxruntime")


class Unsupported(Exception):
    """The peer cannot express this workload."""
