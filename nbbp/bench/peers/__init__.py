"""One adapter for each peer.

`prepare(workload)` returns a function that trains for one epoch, `prepare_prediction(prediction)` one that predicts,
and `prepare_estimation(estimation)` one that does what scikit-learn's users ask of an estimator; `prepare_convolution`
and `prepare_convolution_prediction` do the same as the first two for convolutional networks, and `prepare_sequences`
and `prepare_steps` for networks of sequences, of which the latter predicts step by step.
A peer is written as its own users would write it for speed. It raises Unsupported if it cannot express a workload; a
peer that does not train, or does not predict, lacks the function.
"""

PEERS = (
    "nbbp", "nbbp_bfloat16", "numpy", "torch", "torch1", "torch_channels_last", "torch_padded", "torch_bfloat16",
    "torch_compile", "torch1_compile", "jax", "sklearn", "onnxruntime",
)  # fmt: skip


class Unsupported(Exception):
    """The peer cannot express this workload."""
