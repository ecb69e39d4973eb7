"""The weights with which the positions of a network attend to each other."""

import numpy as np

from nbbp.engine.program import Program
from nbbp.engine.runner import Runner
from nbbp.kernels.attention import allowed_keys, scores_of, split
from nbbp.layers import Attention
from nbbp.model import Model


def attention_weights(model: Model, X, mask=None, lengths=None) -> dict[str, np.ndarray]:
    """The attention weights of each layer, as in a prediction.

    Parameters
    ----------
    model : Model or Sequential
    X : array_like (rows, *input_shape) or nbbp.Ragged; a list or a dict of them if there are several inputs
        A few rows: the weights of long sequences take much memory.
    mask : ndarray (rows, *positions), bool, optional
        False at masked elements of the input.
    lengths : array_like (rows,), int, optional
        In place of a mask: the number of positions of each row that are not masked, along the first axis.

    Returns
    -------
    dict of str to ndarray (rows, heads, queries, keys)
        By the name of the `nbbp.Attention`, such as ``multiheadattention_0.attention_0``. The weights of a query sum to
        1; they are 0 for keys that it leaves out, and for a query without keys.

    Examples
    --------
    >>> import nbbp, numpy as np
    >>> from nbbp.insight.attention import attention_weights
    >>> model = nbbp.Sequential([nbbp.TransformerBlock(2, causal=True), nbbp.Dense(5)])
    >>> model.build((3, 4))
    >>> for name, weights in attention_weights(model, np.ones((1, 3, 4))).items():
    ...     print(name)
    ...     print(weights[0, 0].round(2))
    transformerblock_0.multiheadattention_0.attention_0
    [[1.   0.   0.  ]
     [0.5  0.5  0.  ]
     [0.33 0.33 0.33]]
    """
    data = model.prepare(X, mask=mask, lengths=lengths).padded()
    network = model.network
    program = Program(model.backend, model.dtype, data.rows, training=False)
    entries = network.inputs(program)
    for entry, x in zip(entries, data.inputs, strict=True):
        entry[:] = x
    bound = network.forward(program, entries, data.masks or None)
    Runner(program).once()
    found = {}
    for node in network.graph.nodes:
        if isinstance(node.layer, Attention):
            found[network.graph.names[node]] = _weights(node.layer, bound.bindings[node])
    return found


def _weights(layer: Attention, b) -> np.ndarray:
    q, k, _, first, query_mask, key_mask, *_ = b.arguments
    d = b.y.shape[-1] // layer.heads
    q, k = (split(x, begin, layer.heads, d) for x, begin in zip((q, k), first, strict=False))
    allowed = allowed_keys(query_mask, key_mask, layer.causal)
    scores, largest = scores_of(q, k, allowed)
    e = np.exp(scores - largest[..., None], where=allowed, out=np.zeros_like(scores))
    sums = e.sum(axis=-1, keepdims=True)
    return np.divide(e, sums, where=sums > 0, out=np.zeros_like(e))
