"""Members: the same input for each member of an ensemble within one network, scaled by factors of its own."""

import dataclasses

import numpy as np
from numba import prange

from nbbp import checks
from nbbp.engine.layer import Layer, Parameter, Spec
from nbbp.initializers import INITIALIZERS, Initializer, named
from nbbp.kernels.jit import kernel
from nbbp.kernels.vector_math import ZERO
from nbbp.layers.flatten import Flatten


def members_reference(y, x, r):
    np.multiply(x[:, np.newaxis], r, out=y)


@kernel(members_reference, "(b,k,n) (b,n) (k,n)", cycles=0.3)
def members(y, x, r):
    """y_m = x r_m."""
    for i in prange(x.shape[0]):
        for m in range(r.shape[0]):
            y_row, x_row, own = y[i, m], x[i], r[m]
            for j in range(x_row.shape[0]):
                y_row[j] = x_row[j] * own[j]


def members_factors_reference(dr, dy, x):
    dr[:] = np.einsum("bkn,bn->kn", dy, x)


@kernel(members_factors_reference, "(k,n) (b,k,n) (b,n)", cycles=0.3)
def members_factors(dr, dy, x):
    """The gradient of the factors."""
    for m in prange(dr.shape[0]):
        sums = dr[m]
        for j in range(sums.shape[0]):
            sums[j] = ZERO(sums[j])
        for i in range(x.shape[0]):
            dy_row, x_row = dy[i, m], x[i]
            for j in range(sums.shape[0]):
                sums[j] += dy_row[j] * x_row[j]


def members_inputs_reference(dx, dy, r):
    dx[:] = np.einsum("bkn,kn->bn", dy, r)


@kernel(members_inputs_reference, "(b,n) (b,k,n) (k,n)", cycles=0.3)
def members_inputs(dx, dy, r):
    """The gradient of x."""
    for i in prange(dx.shape[0]):
        sums = dx[i]
        for j in range(sums.shape[0]):
            sums[j] = ZERO(sums[j])
        for m in range(r.shape[0]):
            dy_row, own = dy[i, m], r[m]
            for j in range(sums.shape[0]):
                sums[j] += dy_row[j] * own[j]


@dataclasses.dataclass(frozen=True)
class Members(Layer):
    """Members of an ensemble that share the layers which follow: y_m = x r_m, with trained factors r_m of each.

    x is (features,), y (members, features). Layers that act on features, such as `Dense`, take the members side by
    side; `MemberDense` ends the network with weights of each member, and until then the axis of members has to stay.
    Each member has a loss of its own, for the same targets, of which the mean is taken; `predict` and metrics take the
    mean of the members' predictions, such as their probabilities. TabM's "mini" form: Gorishniy, Kotelnikov and
    Babenko, "TabM: advancing tabular deep learning with parameter-efficient ensembling", ICLR 2025.

    Parameters
    ----------
    count : int
        The number of members.
    initializer : str or callable
        The initial factors: one of `nbbp.INITIALIZERS`, or a function of (shape, generator). In the paper they are
        random signs, or normal with deviation 1 behind embeddings of numbers.

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> layers = [nbbp.Members(8), nbbp.Dense(32, "relu"), nbbp.MemberDense(10)]
    >>> model = nbbp.Sequential(layers, "softmax_cross_entropy", nbbp.Adam(0.005), metrics=["accuracy"])
    >>> history = model.fit(X[:1400], y[:1400], epochs=5, verbose=0)
    >>> model.predict(X[1400:]).shape
    (397, 10)
    >>> model.evaluate(X[1400:], y[1400:])["accuracy"] > 0.85
    True
    """

    count: int
    initializer: str | Initializer = "signs"

    reads = ("x",)
    of_members = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", checks.positive_integer("Members: count", self.count))
        if not callable(self.initializer):
            checks.choose("initializer", self.initializer, INITIALIZERS)

    @classmethod
    def example(cls, x):
        return Flatten()(cls(3)(x))

    def spec(self, shape):
        if len(shape) != 1:
            raise ValueError(f"Members takes samples (features,), got {shape}")
        factors = self.count, *shape
        return Spec(factors, {"r": Parameter(factors, named(self.initializer))})

    def forward(self, b):
        b.call(members, b.y, b.x, b.p.r)

    def backward(self, b):
        b.call(members_factors, b.g.r, b.dy, b.x)
        if b.dx is not None:
            b.call(members_inputs, b.dx, b.dy, b.p.r)
