"""Pruning: weights of small magnitude become 0 and stay 0."""

import dataclasses

import numpy as np

from nbbp import checks
from nbbp.kernels import arrays
from nbbp.sequential import Sequential


def prune(model: Sequential, share: float) -> None:
    """Set the smallest weights of all layers together to 0; they stay 0 in any later training.

    Biases and other vectors stay. Han et al., "Learning both weights and connections for efficient neural networks",
    2015: train, prune, train on. Zhu and Gupta, "To prune, or not to prune", 2017: prune a little after every epoch,
    with ``callbacks.Call(lambda fit: nbbp.prune(fit.model, share))``.

    Parameters
    ----------
    model : Sequential
        The model, changed in place: ``model.network.mask`` is 0 where a weight is pruned.
    share : float in [0, 1)
        The share of all weights, including those already pruned, which stay pruned. Of equal weights the first are
        pruned first.

    Raises
    ------
    ValueError
        If the model has no weights.

    Examples
    --------
    >>> import nbbp
    >>> model = nbbp.Sequential([nbbp.Dense(10)])
    >>> model.build(64)
    >>> nbbp.prune(model, 0.75)
    >>> int((model.named_params()["dense_0.w"] != 0).sum())
    160
    """
    checks.number("share", share, high=1.0)
    network = model.network
    places = network.layout.named(np.arange(network.layout.size)).values()
    matrices = [place.reshape(-1) for place in places if place.ndim > 1]
    if not matrices:
        raise ValueError("there is nothing to prune: the model has no weights, only vectors such as biases")
    weights = np.concatenate(matrices)  # in the order of the flat array
    if network.mask is None:
        network.mask = arrays.copied(np.ones_like(network.params))
    mask = network.mask
    sizes = np.where(mask[weights] == 0, -1, np.abs(network.params[weights]))
    mask[weights[np.argsort(sizes, kind="stable")[: round(share * len(weights))]]] = 0
    network.params *= mask
    if model.update.mean is not None:
        model.update.mean *= mask


@dataclasses.dataclass(frozen=True)
class PruningReport:
    """The size and the scores of a model at several shares of pruned weights.

    Attributes
    ----------
    shares : list of float
    kept : list of int
        The numbers of parameters that are not 0.
    values : list of dict
        The results of `Sequential.evaluate`.
    """

    shares: list[float]
    kept: list[int]
    values: list[dict[str, float]]

    def __str__(self) -> str:
        names = list(self.values[0])
        lines = ["pruned  parameters" + "".join(f"{name:>12}" for name in names)]
        for share, kept, values in zip(self.shares, self.kept, self.values, strict=True):
            lines.append(f"{share:6.0%}  {kept:10,}" + "".join(f"{values[name]:12.4f}" for name in names))
        return "\n".join(lines)


def pruning_report(
    model: Sequential, train: tuple, test: tuple, shares=(0.0, 0.5, 0.8, 0.9, 0.95), **fit
) -> PruningReport:
    """Prune copies of a trained model step by step, train on after each step, and evaluate; the model stays as it is.

    Parameters
    ----------
    model : Sequential
    train, test : (X, y)
    shares : sequence of float
        The shares of pruned weights, in ascending order.
    **fit
        Arguments of `Sequential.fit` after each pruning, such as ``epochs=5``.
    """
    copy = model.copy()
    kept, values = [], []
    for share in shares:
        if share:
            prune(copy, share)
            copy.fit(*train, **{"verbose": 0} | fit)
        kept.append(int(np.count_nonzero(copy.params)))
        values.append(copy.evaluate(*test))
    return PruningReport(list(shares), kept, values)
