"""Networks drawn at random, their losses and gradients against PyTorch's autograd in float64."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nbbp

torch = pytest.importorskip("torch")
F = torch.nn.functional

ROWS, FEATURES, OUTPUTS = 6, 4, 3
ACTIVATIONS = {
    "linear": lambda z: z, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": F.relu, "leaky_relu": F.leaky_relu,
    "elu": F.elu, "selu": F.selu, "softplus": F.softplus, "gelu": F.gelu, "silu": F.silu, "mish": F.mish,
    "softmax": lambda z: F.softmax(z, 1),
}  # fmt: skip
LOSSES = {
    "mse": F.mse_loss, "half_mse": lambda z, t: F.mse_loss(z, t) * OUTPUTS / 2, "mae": F.l1_loss, "huber": F.huber_loss,
    "binary_cross_entropy": F.binary_cross_entropy_with_logits, "poisson": F.poisson_nll_loss,
    "softmax_cross_entropy": F.cross_entropy,
}  # fmt: skip

units, activations = st.sampled_from([1, 4, 5]), st.sampled_from(sorted(ACTIVATIONS))
simple = st.one_of(
    st.builds(nbbp.Dense, units, activations, use_bias=st.booleans()),
    st.builds(nbbp.Activation, activations),
    st.builds(nbbp.BatchNorm, epsilon=st.sampled_from([0.01, 0.1])),
    st.builds(nbbp.LayerNorm, epsilon=st.sampled_from([0.01, 0.1])),
)
layers = st.lists(
    st.one_of(simple, st.builds(nbbp.Residual, st.lists(simple, min_size=1, max_size=3))), min_size=1, max_size=4
)


def forward(graph, x, p):
    """The same network in PyTorch; p holds the parameters by nbbp's names."""
    values = {graph.inputs[0]: x}
    for node in graph.nodes:
        layer, own, x = node.layer, f"{graph.names[node]}.", values[node.inputs[0]]
        if isinstance(layer, nbbp.Dense):
            x = x @ p[own + "w"] + (p[own + "b"] if layer.use_bias else 0)
        elif isinstance(layer, nbbp.Activation):
            x = ACTIVATIONS[layer.name](x)
        elif isinstance(layer, nbbp.BatchNorm):
            x = F.batch_norm(x, None, None, p[own + "gamma"], p[own + "beta"], training=True, eps=layer.epsilon)
        elif isinstance(layer, nbbp.LayerNorm):
            x = F.layer_norm(x, x.shape[1:], p[own + "gamma"], p[own + "beta"], layer.epsilon)
        else:
            assert isinstance(layer, nbbp.Add)
            x = x + values[node.inputs[1]]
        values[node.outputs[0]] = x
    return values[graph.outputs[0]]


def targets(loss: str, rng) -> np.ndarray:
    if loss == "softmax_cross_entropy":
        return rng.dirichlet(np.ones(OUTPUTS), ROWS)
    if loss == "poisson":
        return rng.poisson(2.0, (ROWS, OUTPUTS)).astype(float)
    return rng.random((ROWS, OUTPUTS)) if loss == "binary_cross_entropy" else rng.standard_normal((ROWS, OUTPUTS))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(layers, st.sampled_from(sorted(LOSSES)), st.sampled_from(["numba", "numpy"]), st.integers(0, 999))
def test_any_network_has_the_loss_and_the_gradients_of_autograd(layers, loss, backend, seed):
    rng = np.random.default_rng(seed)
    layers = [*layers, nbbp.Dense(OUTPUTS)]
    X, y = rng.standard_normal((ROWS, FEATURES)), targets(loss, rng)
    model = nbbp.Sequential(layers, loss, dtype="float64", backend=backend)
    model.build(FEATURES)
    model.params[:] = rng.normal(0, 0.7, model.params.size)
    gradients = {name: g.copy() for name, g in model.gradients(X, y).items()}
    p = {name: torch.tensor(array, requires_grad=True) for name, array in model.named_params().items()}
    value = LOSSES[loss](forward(model.network.graph, torch.tensor(X), p), torch.tensor(y))
    value.backward()
    assert model.fit(X, y, batch_size=ROWS, shuffle=False, verbose=0)["loss"][0] == pytest.approx(
        value.item(), rel=1e-9
    )
    largest = max(float(q.grad.abs().max()) for q in p.values() if q.grad is not None)
    for name, gradient in gradients.items():
        expected = np.zeros_like(gradient) if p[name].grad is None else p[name].grad
        np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-12 * max(1.0, largest), err_msg=name)
