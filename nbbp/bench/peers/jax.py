"""JAX: the whole epoch in one jitted lax.scan, its arguments donated."""

import functools

import numpy as np

from nbbp.bench.workloads import Prediction, Workload


def prepare(workload: Workload):
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    params = [
        (jnp.asarray(rng.standard_normal((n_in, n_out)) / np.sqrt(n_in), jnp.float32), jnp.zeros(n_out, jnp.float32))
        for n_in, n_out in zip(workload.sizes, workload.sizes[1:], strict=False)
    ]
    x, y = (jnp.asarray(array) for array in workload.data())
    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[workload.activation]

    def loss(params, xb, yb):
        for w, b in params[:-1]:
            xb = activation(xb @ w + b)
        z = xb @ params[-1][0] + params[-1][1]
        if workload.loss == "mse":
            return jnp.mean((z - yb) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), yb[:, None], axis=1))

    def step(state, rows):
        params, first, second, t = state
        t = t + 1
        gradients = jax.grad(loss)(params, x[rows], y[rows])
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
        params = jax.tree.map(
            lambda p, m, v: p - 0.001 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8),
            params, first, second,
        )  # fmt: skip
        return (params, first, second, t), None

    @functools.partial(jax.jit, donate_argnums=0)
    def run(state, order):
        return jax.lax.scan(step, state, order)[0]

    zeros = jax.tree.map(jnp.zeros_like, params)
    state = [(params, zeros, jax.tree.map(jnp.zeros_like, params), jnp.float32(0))]

    def epoch() -> None:
        order = rng.permutation(workload.rows).reshape(workload.steps, workload.batch)
        state[0] = jax.block_until_ready(run(state[0], jnp.asarray(order)))

    return epoch


def prepare_prediction(prediction: Prediction):
    import jax
    import jax.numpy as jnp

    (w1, b1), (w2, b2) = [(jnp.asarray(w), jnp.asarray(b)) for w, b in prediction.weights()]
    network = jax.jit(lambda x: jax.nn.softmax(jax.nn.relu(x @ w1 + b1) @ w2 + b2))
    x = prediction.data()
    return lambda: np.asarray(network(x))
