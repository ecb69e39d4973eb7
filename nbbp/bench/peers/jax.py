"""JAX: the whole epoch in one jitted lax.scan, or one jitted step at a time; arguments are donated."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from nbbp.bench.convolutions import Convolution, ConvolutionPrediction
from nbbp.bench.sequences import Sequences, Steps
from nbbp.bench.trained import Trained
from nbbp.bench.workloads import Prediction, Workload


def _epochs(workload: Trained, forward: Callable, params, averages, scan: bool = True, more: Sequence = ()):
    """A function that trains for one epoch.

    ``forward(params, averages, x, *more)`` returns outputs and new averages, with the rows of x and of `more` arrays.
    """
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(array) for array in workload.data())
    inputs = [x, *map(jnp.asarray, more)]
    decay = 1 - 0.001 * 0.01 * (workload.optimizer == "AdamW")

    def loss(params, averages, xb, yb):
        z, averages = forward(params, averages, *xb)
        if workload.loss == "mse":
            return jnp.mean((z - yb) ** 2), averages
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), yb[..., None], axis=-1)), averages

    def step(state, rows):
        params, averages, first, second, t = state
        t = t + 1
        gradients, averages = jax.grad(loss, has_aux=True)(params, averages, [a[rows] for a in inputs], y[rows])
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
        params = jax.tree.map(
            lambda p, m, v: decay * p - 0.001 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8),
            params, first, second,
        )  # fmt: skip
        return (params, averages, first, second, t), None

    @functools.partial(jax.jit, donate_argnums=0)
    def run(state, rows):
        return jax.lax.scan(step, state, rows)[0] if scan else step(state, rows)[0]

    zeros = jax.tree.map(jnp.zeros_like, params)
    state = [(params, averages, zeros, jax.tree.map(jnp.zeros_like, params), jnp.float32(0))]

    def epoch() -> None:
        order = rng.permutation(workload.rows).reshape(workload.steps, workload.batch)
        for rows in [order] if scan else order:
            state[0] = run(state[0], rows)
        jax.block_until_ready(state[0])

    return epoch


def prepare(workload: Workload):
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    params = [
        (jnp.asarray(rng.standard_normal((n_in, n_out)) / np.sqrt(n_in), jnp.float32), jnp.zeros(n_out, jnp.float32))
        for n_in, n_out in zip(workload.sizes, workload.sizes[1:], strict=False)
    ]
    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[workload.activation]

    def forward(params, averages, x):
        for w, b in params[:-1]:
            x = activation(x @ w + b)
        return x @ params[-1][0] + params[-1][1], averages

    return _epochs(workload, forward, params, ())


def prepare_convolution(workload: Convolution):
    from nbbp.bench.networks import jax as networks

    forward = functools.partial(networks.forward, workload.network, training=True)
    # XLA's convolutions on a CPU are several times as slow in a loop, but not those of one row.
    scan = workload.batch == 1
    return _epochs(workload, forward, *networks.arrays(workload.network.weights()), scan)


def prepare_sequences(workload: Sequences):
    import jax.numpy as jnp

    from nbbp.bench.networks import jax_sequences as networks

    def forward(params, averages, x, there=None):
        return networks.forward(workload.layers, params, x, there), averages

    more = [workload.mask()] if workload.ragged else []
    return _epochs(workload, forward, list(map(jnp.asarray, workload.weights())), (), more=more)


def prepare_steps(steps: Steps):
    import jax
    import jax.numpy as jnp

    from nbbp import LSTM
    from nbbp.bench.networks import jax_sequences as networks

    weights, data, layer = list(map(jnp.asarray, steps.weights())), steps.data(), LSTM(steps.units)

    @jax.jit
    def network(x, states):
        given = iter(weights)
        y, states = networks.recurrent(layer, x, given, states=states)
        return y @ next(given) + next(given), states

    def predict() -> np.ndarray:
        states = (jnp.zeros((1, steps.units)),) * 2
        for x in data:
            y, states = network(x, states)
            z = np.asarray(y)
        return z

    return predict


def prepare_prediction(prediction: Prediction):
    import jax
    import jax.numpy as jnp

    (w1, b1), (w2, b2) = [(jnp.asarray(w), jnp.asarray(b)) for w, b in prediction.weights()]
    network = jax.jit(lambda x: jax.nn.softmax(jax.nn.relu(x @ w1 + b1) @ w2 + b2))
    x = prediction.data()
    return lambda: np.asarray(network(x))


def prepare_convolution_prediction(prediction: ConvolutionPrediction):
    import jax

    from nbbp.bench.networks import jax as networks

    arrays = networks.arrays(prediction.network.weights())
    network = jax.jit(lambda x: jax.nn.softmax(networks.forward(prediction.network, *arrays, x, training=False)[0]))
    x = prediction.data()
    return lambda: np.asarray(network(x))
