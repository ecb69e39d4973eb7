"""Generation: what is carried from token to token gives what the whole prefix gives."""

import numpy as np
import pytest

import nbbp
from nbbp.recipes.generation import NextScores, generate

TOKENS, LENGTH = 11, 9
NETWORKS = {
    "attention": lambda: [nbbp.PositionalEmbedding(), nbbp.TransformerBlock(2, causal=True, dropout=0.1)] * 2,
    "rotary": lambda: [nbbp.TransformerBlock(4, 5, causal=True, rotary=True), nbbp.LayerNorm()],
    "sines, norms last": lambda: [
        nbbp.PositionalEmbedding("sinusoidal"),
        nbbp.TransformerBlock(1, causal=True, norm_first=False),
    ],
    "gru": lambda: [nbbp.GRU(8, return_sequences=True), nbbp.Dropout(0.3), nbbp.BatchNorm()],
    "lstm and attention": lambda: [
        nbbp.LSTM(8, return_sequences=True),
        nbbp.Residual([nbbp.MultiHeadAttention(2, causal=True)]),
    ],
    "stateful": lambda: [
        nbbp.GRU(8, return_sequences=True, stateful=True),
        nbbp.Residual([nbbp.MultiHeadAttention(2, causal=True)]),
    ],
    "both directions": lambda: [nbbp.Bidirectional(nbbp.SimpleRNN(4, return_sequences=True))],
    "attention to all": lambda: [nbbp.MultiHeadAttention(2)],
}
CARRIED = [name for name in NETWORKS if name not in ("both directions", "attention to all")]
WINDOWED = [name for name in NETWORKS if name != "gru"]


def network(name: str, rng, tied: bool = False, **settings) -> nbbp.Sequential:
    tokens = nbbp.Embedding(TOKENS, 8, nbbp.initializers.normal(1))
    last = nbbp.TiedDense(tokens) if tied else nbbp.Dense(TOKENS)
    model = nbbp.Sequential([tokens, *NETWORKS[name](), last], "softmax_cross_entropy", **settings)
    model.build(LENGTH)
    model.params[:] = rng.normal(0, 0.5, model.params.size)
    model.network.state[:] = rng.uniform(0.5, 1, model.network.state.size)
    return model


def probabilities(name, model, tokens):
    """Those behind the last of some tokens, from the whole window."""
    window = tokens[:, -LENGTH:]
    n = window.shape[1]
    X = np.pad(window, ((0, 0), (0, LENGTH - n)))
    return model.predict(X, lengths=None if name in CARRIED else [n] * len(X))[:, n - 1]


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_carried_gives_the_outputs_of_the_whole_prefix(name, dtype, backend, rng):
    model = network(name, rng, tied="attention" in name, dtype=dtype, backend=backend)
    tokens = rng.integers(0, TOKENS, (3, LENGTH + 3))
    scores = NextScores(model, 3)
    for n in range(2, (LENGTH if name == "gru" else LENGTH + 3) + 1):
        expected = probabilities(name, model, tokens[:, :n])
        atol = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(softmax(scores(tokens[:, :n])), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("name", CARRIED)
def test_each_position_is_computed_once(name, rng, monkeypatch):
    model = network(name, rng)
    scores = NextScores(model, 1)
    monkeypatch.setattr(scores, "_whole", None)
    for n in range(1, LENGTH + 1):
        scores(np.zeros((1, n), np.int32))


@pytest.mark.parametrize("name", NETWORKS)
def test_without_temperature_the_likeliest_token_is_next(name, rng):
    model = network(name, rng, dtype="float64")
    prompt = rng.integers(0, TOKENS, (2, 3))
    tokens = generate(model, prompt, LENGTH if name in WINDOWED else LENGTH - 3, temperature=0)
    assert (tokens[:, :3] == prompt).all()
    for n in range(3, tokens.shape[1]):
        assert (tokens[:, n] == probabilities(name, model, tokens[:, :n]).argmax(axis=1)).all()


def test_recurrent_layers_go_on_without_end(rng):
    model = network("gru", rng, dtype="float64")
    tokens = generate(model, [1, 2], 30, temperature=0)
    longer = nbbp.Sequential(model.layers, "softmax_cross_entropy", dtype="float64")
    longer.build(len(tokens), model.params, model.network.state)
    assert (tokens[2:] == longer.predict(tokens[np.newaxis])[0, 1:-1].argmax(axis=1)).all()


def test_the_seed_decides(rng):
    model = network("attention", rng)
    one, same, other = (generate(model, [[1, 2], [3, 4]], 20, seed=seed) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()
    assert one.shape == (2, 22)
    assert one.dtype == np.int32
    assert generate(model, [1, 2], 20).shape == (22,)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_tokens_are_drawn_as_often_as_predicted(backend, rng):
    model = network("gru", rng, backend=backend)
    prompt = np.full((4000, 1), 3)
    for temperature, top_k in ((1, None), (0.5, None), (2, 4), (1, 1), (1, 99)):
        drawn = generate(model, prompt, 1, temperature, top_k)[:, 1]
        expected = probabilities("gru", model, prompt[:1])[0].astype(float) ** (1 / temperature)
        if top_k == 4:
            expected[np.argsort(expected)[:-4]] = 0
        if top_k == 1:
            expected[expected < expected.max()] = 0
        np.testing.assert_allclose(
            np.bincount(drawn, minlength=TOKENS) / len(drawn), expected / expected.sum(), atol=0.03
        )


def test_what_cannot_be_continued_is_refused(rng):
    model = network("gru", rng)
    for prompt in ([], [[]], 3, np.zeros((2, 2, 2), int)):
        with pytest.raises(ValueError, match="prompt must be one token or more"):
            generate(model, prompt, 3)
    for prompt, wrong in (([1, TOKENS], TOKENS), ([-1], -1), ([0.5], "float64")):
        with pytest.raises(ValueError, match=f"integers from 0 to {TOKENS - 1}, got {wrong}"):
            generate(model, prompt, 3)
    for change in (
        {"length": 0},
        {"length": 2, "temperature": -1},
        {"length": 2, "top_k": 0},
        {"length": 2, "seed": -1},
    ):
        with pytest.raises(ValueError, match=list(change)[-1]):
            generate(model, [1], **change)
    floats = nbbp.Sequential([nbbp.Dense(3)], "softmax_cross_entropy")
    floats.build((4, 2))
    one_label = nbbp.Sequential([nbbp.Embedding(5, 3), nbbp.GRU(4), nbbp.Dense(5)], "softmax_cross_entropy")
    one_label.build(4)
    squares = nbbp.Sequential([nbbp.Embedding(5, 3), nbbp.Dense(5)], "mse")
    squares.build(4)
    for other in (floats, one_label, squares):
        with pytest.raises(ValueError, match="generate takes a model of tokens"):
            generate(other, [1], 3)
    with pytest.raises(RuntimeError, match="does not know its input yet"):
        generate(nbbp.Sequential([nbbp.Dense(3)]), [1], 3)
