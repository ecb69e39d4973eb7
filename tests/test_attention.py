"""Attention, rotary positions and transformer blocks: against PyTorch in float64, masks, threads, files."""

import dataclasses

import numba
import numpy as np
import pytest

import nbbp
from nbbp.insight.attention import attention_weights


def drawn(inputs, output, rng, **settings) -> nbbp.Model:
    model = nbbp.Model(inputs, output, **{"dtype": "float64", **settings})
    model.params[:] = rng.normal(0, 0.5, model.params.size)
    return model


def result(model, X, slopes, mask=None):
    """Outputs, the gradients of the inputs and those of the parameters by name."""
    step = model.step(len(slopes))
    z = np.array(step.forward(X) if mask is None else step.forward(X, mask=mask))
    dX = step.backward(slopes.copy())
    many = isinstance(dX, list | tuple)
    return z, [np.array(d) for d in dX] if many else np.array(dX), model.network.layout.named(model.grads.copy())


def attended(torch, module, query, key, value, causal=False, there=None):
    """PyTorch's output of multi-head attention; True in its masks is masked."""
    bars = torch.ones(query.shape[1], key.shape[1], dtype=torch.bool).triu(1) if causal else None
    masked = None if there is None else ~torch.tensor(there)
    return module(query, key, value, key_padding_mask=masked, attn_mask=bars, need_weights=False)[0]


def of_torch(torch, model, scope: str, features: int, heads: int, keys: int, values: int):
    """nn.MultiheadAttention with the weights of a layer of ours."""
    p = {name.removeprefix(scope): value for name, value in model.named_params().items()}
    module = torch.nn.MultiheadAttention(features, heads, kdim=keys, vdim=values, batch_first=True).double()
    parts = np.split(p["in_proj.w"], 3, 1) if "in_proj.w" in p else [p["q_proj.w"], p["k_proj.w"], p["v_proj.w"]]
    biases = p["in_proj.b"] if "in_proj.b" in p else np.concatenate([p[f"{part}_proj.b"] for part in "qkv"])
    names = ["q_proj_weight", "k_proj_weight", "v_proj_weight"]
    same = module.in_proj_weight is not None
    state = (
        {"in_proj_weight": np.concatenate([part.T for part in parts])}
        if same
        else dict(zip(names, [np.ascontiguousarray(part.T) for part in parts], strict=True))
    )
    state |= {"in_proj_bias": biases, "out_proj.weight": p["out_proj.w"].T.copy(), "out_proj.bias": p["out_proj.b"]}
    module.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    return module


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize(("positions", "features", "heads"), [(1, 4, 2), (5, 6, 3), (17, 8, 1), (70, 20, 4)])
def test_self_attention_agrees_with_pytorch(positions, features, heads, causal, masked, backend, rng):
    torch = pytest.importorskip("torch")
    x = nbbp.Input((positions, features))
    model = drawn(x, nbbp.MultiHeadAttention(heads, causal=causal)(x), rng, backend=backend)
    X, slopes = rng.standard_normal((2, 3, positions, features))
    mask = rng.random((3, positions)) < 0.7
    mask[:, 0] = True  # PyTorch gives nan where a query has no key
    X[~mask], slopes[~mask] = 0, 0
    y, dX, gradients = result(model, X, slopes, mask if masked else None)
    module = of_torch(torch, model, "multiheadattention_0.", features, heads, features, features)
    given = torch.tensor(X, requires_grad=True)
    expected = attended(torch, module, given, given, given, causal, mask if masked else None)
    expected.backward(torch.tensor(slopes))
    there = mask if masked else np.ones_like(mask)
    np.testing.assert_allclose(y[there], expected.detach().numpy()[there], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dX[there], given.grad.numpy()[there], rtol=1e-10, atol=1e-11)
    got = gradients["multiheadattention_0.in_proj.w"].T
    np.testing.assert_allclose(got, module.in_proj_weight.grad, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_attention_to_other_sequences_agrees_with_pytorch(masked, rng):
    torch = pytest.importorskip("torch")
    q, k, v = nbbp.Input((7, 12)), nbbp.Input((53, 5)), nbbp.Input((53, 9))
    model = drawn([q, k, v], nbbp.MultiHeadAttention(3)(q, k, v), rng)
    X = [rng.standard_normal((4, *edge.shape)) for edge in (q, k, v)]
    slopes = rng.standard_normal((4, 7, 12))
    mask = rng.random((4, 53)) < 0.6
    masks = [np.ones((4, 7), bool), mask, np.ones((4, 53), bool)]
    y, dX, _ = result(model, X, slopes, masks if masked else None)
    module = of_torch(torch, model, "multiheadattention_0.", 12, 3, 5, 9)
    given = [torch.tensor(part, requires_grad=True) for part in X]
    expected = attended(torch, module, *given, there=mask if masked else None)
    expected.backward(torch.tensor(slopes))
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-10, atol=1e-12)
    for k, (mine, theirs) in enumerate(zip(dX, given, strict=True)):
        there = mask if masked and k else np.ones(mine.shape[:2], bool)
        np.testing.assert_allclose(mine[there], theirs.grad.numpy()[there], rtol=1e-10, atol=1e-11)


def test_two_inputs_are_those_of_three_with_the_memory_twice(rng):
    x, memory = nbbp.Input((6, 8)), nbbp.Input((11, 3))
    two = drawn([x, memory], nbbp.MultiHeadAttention(2)(x, memory), rng)
    x, memory = nbbp.Input((6, 8)), nbbp.Input((11, 3))
    three = drawn([x, memory], nbbp.MultiHeadAttention(2)(x, memory, memory), rng)
    mine, theirs = two.named_params(), three.named_params()
    for place in "wb":
        joined = [theirs[f"multiheadattention_0.{part}_proj.{place}"] for part in "kv"]
        mine[f"multiheadattention_0.kv_proj.{place}"][:] = np.concatenate(joined, axis=-1)
        for part in ("q_proj", "out_proj"):
            name = f"multiheadattention_0.{part}.{place}"
            mine[name][:] = theirs[name]
    X = [rng.standard_normal((3, 6, 8)), rng.standard_normal((3, 11, 3))]
    np.testing.assert_allclose(two.predict(X), three.predict(X), rtol=1e-13)


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_blocks_agree_with_pytorch(activation, norm_first, causal, rng):
    torch = pytest.importorskip("torch")
    x = nbbp.Input((13, 12))
    block = nbbp.TransformerBlock(4, 20, activation, causal=causal, norm_first=norm_first)
    model = drawn(x, block(x), rng)
    theirs = torch.nn.TransformerEncoderLayer(
        12, 4, 20, 0.0, activation, batch_first=True, norm_first=norm_first
    ).double()
    names = {
        "self_attn.in_proj_": "multiheadattention_0.in_proj", "self_attn.out_proj.": "multiheadattention_0.out_proj",
        "linear1.": "dense_0", "linear2.": "dense_1", "norm1.": "layernorm_0", "norm2.": "layernorm_1",
    }  # fmt: skip
    state = {}
    for their, mine in names.items():
        arrays = {
            name.rpartition(".")[2]: array
            for name, array in model.named_params().items()
            if name.startswith(f"transformerblock_0.{mine}.")
        }
        state[f"{their}weight"] = torch.tensor(arrays["w"].T.copy() if "w" in arrays else arrays["gamma"].copy())
        state[f"{their}bias"] = torch.tensor(arrays.get("b", arrays.get("beta")).copy())
    theirs.load_state_dict(state)
    X, slopes = rng.standard_normal((2, 3, 13, 12))
    y, dX, gradients = result(model, X, slopes)
    bars = torch.full((13, 13), -np.inf, dtype=torch.float64).triu(1) if causal else None
    given = torch.tensor(X, requires_grad=True)
    expected = theirs(given, src_mask=bars)
    expected.backward(torch.tensor(slopes))
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(dX, given.grad, rtol=1e-10, atol=1e-10)
    got = gradients["transformerblock_0.dense_0.w"].T
    np.testing.assert_allclose(got, theirs.linear1.weight.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
def test_padding_changes_no_bit(causal, dtype, rng):
    """Neither the padded length, nor where the padding is, nor what stands in it."""
    short, d = 37, 6
    X, slopes = rng.standard_normal((2, 2, short, d))
    block = nbbp.TransformerBlock(3, 8, causal=causal)
    results = []
    for padded, places in [(37, np.arange(37)), (61, np.arange(37)), (130, np.sort(rng.permutation(130)[:37]))]:
        x = nbbp.Input((padded, d))
        model = nbbp.Model(x, block(x), dtype=dtype, seed=3)
        mask = np.zeros((2, padded), bool)
        mask[:, places] = True
        wide, slope = np.full((2, padded, d), np.nan), np.zeros((2, padded, d))
        wide[:, places], slope[:, places] = X, slopes
        y, dX, _ = result(model, wide, slope, mask)
        results.append((y[:, places].tobytes(), dX[:, places].tobytes()))
        assert np.isfinite(y).all()
        assert np.isfinite(dX).all()
    assert results[0] == results[1] == results[2]


def test_rows_without_keys_give_zero(rng):
    q, kv = nbbp.Input((5, 4)), nbbp.Input((9, 8))
    model = nbbp.Model([q, kv], nbbp.Attention(2)(q, kv), dtype="float64")
    X = [rng.standard_normal((3, 5, 4)), rng.standard_normal((3, 9, 8))]
    mask = np.ones((3, 9), bool)
    mask[1] = False
    X[1][1] = np.nan
    queries = np.ones((3, 5), bool)
    queries[2, 3] = False
    for backend in ("numba", "numpy"):
        y, dX, _ = result(model.with_backend(backend), X, rng.standard_normal((3, 5, 4)), [queries, mask])
        assert not y[1].any()
        assert not y[2, 3].any()
        assert not dX[0][1].any()
        assert not dX[1][1].any()
        assert not dX[0][2, 3].any()
        assert all(np.isfinite(part).all() for part in (y, *dX))
        assert y[0].any()
        assert dX[1][0].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_at_any_number_of_threads(dtype, rng):
    X = rng.standard_normal((6, 75, 24))
    every, runs = numba.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
            model = nbbp.Sequential(
                [nbbp.TransformerBlock(3, causal=True, dropout=0.1, rotary=True), nbbp.Dense(4)], dtype=dtype
            )
            model.fit(X, np.zeros((6, 75, 4)), batch_size=6, epochs=2, verbose=0)
            runs.append(model.params.tobytes())
    finally:
        numba.set_num_threads(every)
    assert runs[0] == runs[1] == runs[2]


def test_dropout_of_weights(rng):
    """Outputs of training have the mean of predictions, and the padded length does not change what is dropped."""
    X = rng.standard_normal((1, 8, 6))
    results = []
    for padded in (8, 50):
        x = nbbp.Input((padded, 6))
        model = nbbp.Model(x, nbbp.Attention(1, dropout=0.25)(x), dtype="float64", seed=1)
        wide, mask = np.zeros((1, padded, 6)), np.zeros((1, padded), bool)
        wide[:, :8], mask[:, :8] = X, True
        step = model.step(1)
        results.append(np.array([step.forward(wide, mask=mask)[:, :8].copy() for _ in range(2000)]))
        predicted = model.predict(wide, mask=mask)[:, :8]
    np.testing.assert_array_equal(results[0], results[1])
    deviations = results[0].std(axis=0)
    assert deviations.min() > 0
    assert (np.abs(results[0].mean(axis=0) - predicted) < 5 * deviations / np.sqrt(2000)).all()


def test_rotary_products_depend_on_distances(rng):
    x = nbbp.Input((9, 12))
    model = nbbp.Model(x, nbbp.RotaryPositions(4, columns=8)(x), dtype="float64")
    q, k = rng.standard_normal((2, 12))
    of_q, of_k = (model.predict(np.tile(vector, (1, 9, 1)))[0] for vector in (q, k))
    np.testing.assert_array_equal(of_q[:, 8:], np.tile(q[8:], (9, 1)))
    scores = of_q[:, :4] @ of_k[:, :4].T
    for distance in range(-8, 9):
        np.testing.assert_allclose(np.diff(np.diagonal(scores, distance)), 0, atol=1e-12)
    turned = (q[0] + 1j * q[1]) * np.exp(5j), (q[2] + 1j * q[3]) * np.exp(0.05j)  # of position 5, base 10,000
    np.testing.assert_allclose(of_q[5, :4], [part for z in turned for part in (z.real, z.imag)], rtol=1e-12)


def test_weights_that_are_looked_at_are_those_that_are_used(rng):
    q, kv = nbbp.Input((5, 4)), nbbp.Input((9, 8))
    model = nbbp.Model([q, kv], nbbp.Attention(2, causal=True)(q, kv), dtype="float64")
    X, mask = [rng.standard_normal((3, 5, 4)), rng.standard_normal((3, 9, 8))], rng.random((3, 9)) < 0.7
    mask[2] = False
    masks = [np.ones((3, 5), bool), mask]
    (weights,) = attention_weights(model, X, masks).values()
    assert weights.shape == (3, 2, 5, 9)
    values = X[1][..., 4:].reshape(3, 9, 2, 2)
    expected = np.einsum("bhts,bshd->bthd", weights, values).reshape(3, 5, 4)
    np.testing.assert_allclose(model.predict(X, mask=masks), expected, rtol=1e-12, atol=1e-15)
    assert not weights[2].any()


def test_a_share_that_drops_nothing(rng):
    X, y = rng.standard_normal((2, 3, 4)), np.zeros((2, 3, 4))
    losses = [nbbp.Sequential([nbbp.MultiHeadAttention(2, dropout=share)]).train_on_batch(X, y) for share in (0, 1e-20)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_weights_of_rows_of_different_lengths(rng):
    x = nbbp.Input(7, dtype="int32")
    model = drawn(x, nbbp.TransformerBlock(2)(nbbp.Embedding(9, 4)(x)), rng)
    lengths = np.array([7, 3, 5])
    mask = np.arange(7) < lengths[:, np.newaxis]
    X = np.where(mask, rng.integers(0, 9, (3, 7)), 0)
    rows = nbbp.Ragged([row[:length] for row, length in zip(X, lengths, strict=True)])
    given = (X, mask), (X, None, lengths), (rows,)
    expected, *others = (next(iter(attention_weights(model, *each).values())) for each in given)
    np.testing.assert_allclose(expected.sum(axis=-1), np.broadcast_to(mask[:, np.newaxis], (3, 2, 7)), rtol=1e-12)
    assert not expected[:, :, :, 3:][1].any()
    for weights in others:
        np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: nbbp.MultiHeadAttention(4)(x), "6 features cannot be shared by 4 heads; heads may be 1, 2, 3, 6"),
        (lambda x: nbbp.MultiHeadAttention(2, rotary=True)(x), "each of 2 heads has 3"),
        (lambda x: nbbp.MultiHeadAttention(2)(x, x, x, x), "one to three edges"),
        (lambda x: nbbp.MultiHeadAttention(2)(nbbp.Flatten()(x)), "one to three edges"),
        (lambda x: nbbp.Attention(1)(nbbp.Dense(7)(x)), "as many features"),
        (lambda x: nbbp.Attention(1)(x, nbbp.Dense(7)(x)), "as many features"),
        (lambda x: nbbp.Attention(1)(nbbp.Flatten()(x)), "one to three inputs"),
        (lambda x: nbbp.RotaryPositions(4)(x), "whole vectors of 4 features"),
        (lambda x: nbbp.RotaryPositions(3)(x), "dimension must be even"),
        (lambda x: nbbp.TransformerBlock(2)(nbbp.Flatten()(x)), "takes samples"),
        (lambda x: nbbp.TransformerBlock(0)(x), "heads"),
    ],
)
def test_errors_say_what_fits(make, message):
    with pytest.raises(ValueError, match=message):
        make(nbbp.Input((5, 6)))


def test_settings_are_kept_in_files(tmp_path, rng):
    layers = [
        nbbp.TransformerBlock(2, 5, "relu", causal=True, norm_first=False, rotary=True), nbbp.MultiHeadAttention(2)
    ]  # fmt: skip
    model = nbbp.Sequential([*layers, nbbp.Dense(3)])
    model.build((7, 8))
    model.save(tmp_path / "model.safetensors")
    loaded = nbbp.load(tmp_path / "model.safetensors")
    for mine, theirs in zip(layers, loaded.layers, strict=False):
        assert dataclasses.asdict(mine) == dataclasses.asdict(theirs)
    X = rng.standard_normal((2, 7, 8))
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
