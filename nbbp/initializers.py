"""Initial values of parameters, drawn by NumPy: each initializer takes a shape and a generator and returns float64.

For a weight of shape (n_in, n_out), the fans are n_in and n_out; for a longer shape (*kernel, n_in, n_out), they are
n_in and n_out times the kernel's size (Glorot and Bengio 2010).
To add one, write a function of (shape, rng) and enter it in INITIALIZERS; one that looks at data is an `Adaptive`.
"""

import math
from collections.abc import Callable

import numpy as np

Initializer = Callable[[tuple[int, ...], np.random.Generator], np.ndarray]


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2:
        return shape[0], shape[0]
    *kernel, n_in, n_out = shape
    size = math.prod(kernel)
    return n_in * size, n_out * size


def zeros(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """All 0."""
    return np.zeros(shape)


def ones(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """All 1."""
    return np.ones(shape)


def constant(value: float) -> Initializer:
    """All `value`."""
    return lambda shape, rng: np.full(shape, float(value))


def normal(scale: float = 0.05) -> Initializer:
    """Normal with mean 0 and standard deviation `scale`."""
    return lambda shape, rng: rng.normal(0.0, scale, shape)


def uniform(limit: float = 0.05) -> Initializer:
    """Uniform in [-limit, limit)."""
    return lambda shape, rng: rng.uniform(-limit, limit, shape)


def signs(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """1 or -1."""
    return rng.choice([-1.0, 1.0], shape)


def _scaled(draw: str, variance: Callable[[int, int], float]) -> Initializer:
    def initialize(shape, rng):
        deviation = math.sqrt(variance(*_fans(shape)))
        if draw == "normal":
            return rng.normal(0.0, deviation, shape)
        limit = math.sqrt(3.0) * deviation
        return rng.uniform(-limit, limit, shape)

    return initialize


def orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Rows or columns of unit length at right angles to each other: Saxe et al., 2014.

    The Q of a normal matrix's QR decomposition, with the signs that make it uniform over all such matrices.
    """
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))
    return (q if rows >= columns else q.T).reshape(shape)


def sparse(connections: int = 15, scale: float = 1.0) -> Initializer:
    """Each unit has `connections` incoming weights, normal with standard deviation `scale`; the others are 0.

    Martens, "Deep learning via Hessian-free optimization", 2010; used by Sutskever et al., 2013.
    """

    def initialize(shape, rng):
        weights = np.zeros(shape)
        for column in range(shape[1]):
            chosen = rng.choice(shape[0], min(connections, shape[0]), replace=False)
            weights[chosen, column] = rng.normal(0.0, scale, len(chosen))
        return weights

    return initialize


class Adaptive:
    """An initializer whose values change when the first data are there: it is called as all are, then `adapted`.

    Before the first step of a `fit` or `train_on_batch`, some rows of the data go through the network, parameter after
    parameter: see `nbbp.training.adaptation`.
    """

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def adapted(self, values: np.ndarray, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """New values of a parameter, given z (rows, outputs), which its layer computes with the present ones."""
        raise NotImplementedError


class UnitVariance(Adaptive):
    """Normal, such that each of the layer's outputs has the standard deviation 1 over the first rows of the data.

    The "std" initialization of RealMLP, see `nbbp.recipes.tabular`; for whole layers, Mishkin and Matas, "All you need
    is a good init", 2016.
    """

    def __call__(self, shape, rng):
        return INITIALIZERS["lecun_normal"](shape, rng)

    def adapted(self, values, z, rng):
        deviation = np.std(z, axis=0, dtype=np.float64)
        return values / np.where(deviation > 0, deviation, 1)


class Hull(Adaptive):
    """Biases such that each of the layer's outputs is 0 at a random point in the convex hull of the data.

    The point is a mixture of 5 random rows with weights from an exponential distribution: "he+5" of Steinwart, "A sober
    look at neural network initializations", 2019, and of RealMLP.
    """

    points = 5

    def __call__(self, shape, rng):
        return np.zeros(shape)

    def adapted(self, values, z, rng):
        rows, columns = rng.integers(0, len(z), (self.points, z.shape[1])), np.arange(z.shape[1])
        weights = rng.exponential(size=rows.shape)
        return values - (weights / weights.sum(axis=0) * z[rows, columns]).sum(axis=0)


INITIALIZERS: dict[str, Initializer] = {
    "zeros": zeros,
    "ones": ones,
    "constant": constant(0.1),
    "normal": normal(),
    "uniform": uniform(),
    "glorot_uniform": _scaled("uniform", lambda n_in, n_out: 2 / (n_in + n_out)),  # Glorot and Bengio 2010
    "glorot_normal": _scaled("normal", lambda n_in, n_out: 2 / (n_in + n_out)),
    "he_uniform": _scaled("uniform", lambda n_in, n_out: 2 / n_in),  # He et al. 2015
    "he_normal": _scaled("normal", lambda n_in, n_out: 2 / n_in),
    "lecun_uniform": _scaled("uniform", lambda n_in, n_out: 1 / n_in),  # LeCun et al. 1998
    "lecun_normal": _scaled("normal", lambda n_in, n_out: 1 / n_in),
    "orthogonal": orthogonal,
    "sparse": sparse(),
    "signs": signs,
    "unit_variance": UnitVariance(),
    "hull": Hull(),
}


def named(given: str | Initializer) -> Initializer:
    """The initializer with this name, or the function that is given."""
    return given if callable(given) else INITIALIZERS[given]
