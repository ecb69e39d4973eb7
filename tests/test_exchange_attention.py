"""Weights of attention to and from PyTorch."""

import numpy as np
import pytest

import nbbp


@pytest.mark.parametrize("graph", [False, True], ids=["sequence", "graph"])
def test_layers_have_the_names_and_shapes_of_pytorch(graph, rng):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    blocks = [nbbp.TransformerBlock(2, 10, "relu", norm_first=k == 0) for k in range(2)]
    layers = [*blocks, nbbp.MultiHeadAttention(4), nbbp.Dense(3)]
    if graph:
        x = edge = nbbp.Input((5, 8))
        for layer in layers:
            edge = layer(edge)
        model = nbbp.Model(x, edge, dtype="float64")
    else:
        model = nbbp.Sequential(layers, dtype="float64")
        model.build((5, 8))
    model.params[:] = rng.normal(0, 0.5, model.params.size)
    encoders = [
        nn.TransformerEncoderLayer(8, 2, 10, 0.0, "relu", batch_first=True, norm_first=k == 0) for k in range(2)
    ]
    names = ["transformerblock_0", "transformerblock_1", "multiheadattention_0", "dense_0"] if graph else "0123"
    theirs = nn.ModuleDict(
        zip(names, [*encoders, nn.MultiheadAttention(8, 4, batch_first=True), nn.Linear(8, 3)], strict=True)
    ).double()
    state = nbbp.exchange.to_torch_state_dict(model)
    theirs.load_state_dict(state)
    X = rng.standard_normal((2, 5, 8))
    *encoders, attention, dense = theirs.values()
    z = torch.tensor(X)
    for encoder in encoders:
        z = encoder(z)
    expected = dense(attention(z, z, z, need_weights=False)[0]).detach().numpy()
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-10, atol=1e-12)
    twin = model.copy()
    twin.params[:] = 0
    nbbp.exchange.from_torch(twin, {f"encoder.{name}": array for name, array in state.items()})
    np.testing.assert_array_equal(twin.params, model.params)


def test_an_encoder_of_pytorch_gives_its_weights(rng):
    torch = pytest.importorskip("torch")
    layer = torch.nn.TransformerEncoderLayer(6, 3, 4, 0.0, "gelu", batch_first=True, norm_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).double().eval()
    model = nbbp.Sequential([nbbp.TransformerBlock(3, 4), nbbp.TransformerBlock(3, 4)], dtype="float64")
    model.build((7, 6))
    nbbp.exchange.from_torch(model, encoder.state_dict())
    X = rng.standard_normal((2, 7, 6))
    expected = encoder(torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-10, atol=1e-12)
