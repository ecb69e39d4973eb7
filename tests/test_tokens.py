"""Layers of tokens: against PyTorch, with masks, with integers of any form."""

import copy
import pickle

import numba
import numpy as np
import pytest

import nbbp
from nbbp.storage import files


def letters(rng, rows: int = 30, time: int = 6, tokens: int = 11):
    """Tokens (rows, time) and labels of the next."""
    X = rng.integers(0, tokens, (rows, time + 1))
    return X[:, :-1], X[:, 1:]


def language_model(*between, tokens: int = 11, **settings) -> nbbp.Sequential:
    """Vectors of tokens, some layers, and a softmax at each position."""
    layers = [nbbp.Embedding(tokens, 8, nbbp.initializers.normal(1)), *between, nbbp.Dense(tokens)]
    settings = {"loss": "softmax_cross_entropy", "optimizer": nbbp.SGD(0.1), "dtype": "float64"} | settings
    return nbbp.Sequential(layers, **settings)


def of_torch(model, function, X, y, mask=None):
    """Loss and gradients of a function of PyTorch's functional module, tensors by nbbp's names, and tokens."""
    torch = pytest.importorskip("torch")
    p = {name: torch.tensor(value.copy(), requires_grad=True) for name, value in model.named_params().items()}
    labels = torch.tensor(y if mask is None else np.where(mask, y, -100))
    z = function(torch.nn.functional, p, torch.tensor(X))
    loss = torch.nn.functional.cross_entropy(z.flatten(0, 1), labels.flatten(), ignore_index=-100)
    loss.backward()
    return loss.item(), {name: tensor.grad.numpy() for name, tensor in p.items()}


def agree(model, function, X, y, mask=None):
    loss, expected = of_torch(model, function, X, y, mask)
    assert model.evaluate(X, y, mask=mask)["loss"] == pytest.approx(loss, rel=1e-10)
    for name, gradient in model.gradients(X, y, mask=mask).items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-10, atol=1e-13, err_msg=name)


def embedded(F, p, x):
    return F.embedding(x, p["embedding_0.table"]) @ p["dense_0.w"] + p["dense_0.b"]


@pytest.mark.parametrize("masked", [False, True])
def test_an_embedding_agrees_with_pytorch(masked, rng):
    X, y = letters(rng)
    model = language_model()
    model.build(X.shape[1])
    agree(model, embedded, X, y, rng.random(X.shape) < 0.6 if masked else None)


@pytest.mark.parametrize("form", ["list", "uint8", "int64", "float32", "strided"])
def test_tokens_of_any_form_become_int32(form, rng):
    X, y = letters(rng)
    given = {"list": X.tolist(), "strided": np.repeat(X, 2, axis=1)[:, ::2]}.get(form)
    given = X.astype(form) if given is None else given
    model, twin = language_model(), language_model()
    twin.build(X.shape[1])
    history = model.fit(given, y, epochs=2, verbose=0)
    assert model.network.graph.inputs[0].dtype == twin.network.graph.inputs[0].dtype == np.int32
    assert history.step_loss.tobytes() == twin.fit(X, y, epochs=2, verbose=0).step_loss.tobytes()
    assert model.predict(given[:5]).tobytes() == twin.predict(X[:5]).tobytes()


@pytest.mark.parametrize("wrong", [11, -1])
def test_tokens_beyond_the_table_are_refused(wrong, rng):
    X, y = letters(rng)
    X = X.copy()
    X[3, 2] = wrong
    model = language_model()
    message = rf"tokens must be whole numbers from 0 to 10; got {wrong} in row 3, position 2"
    for call in (lambda: model.fit(X, y, verbose=0), lambda: model.predict(X)):
        with pytest.raises(ValueError, match=message):
            call()
    mask = np.ones(X.shape, bool)
    mask[3, 2] = False
    model.fit(X, y, mask=mask, verbose=0)  # what is masked may be anything
    flat = nbbp.Sequential([nbbp.Reshape((3, 2)), nbbp.Flatten(), nbbp.Embedding(11, 2)], backend="numpy")
    with pytest.raises(ValueError, match=message):
        flat.predict(X)
    entry = nbbp.Input((6, 1))
    with pytest.raises(ValueError, match=r"got 0.5 in row 0, position 1, 0"):
        nbbp.Model(entry, nbbp.Embedding(11, 2)(entry)).predict([[[0], [0.5], [0], [0], [0], [0]]])


def test_masked_tokens_change_nothing(rng):
    """Neither losses nor updates, whatever stands there."""
    X, y = letters(rng)
    mask = rng.random(X.shape) < 0.6
    mask[:, 0] = True
    runs = []
    for other in (0, 7, np.nan):
        model = language_model(nbbp.Dense(5, "tanh"), optimizer="adam")
        history = model.fit(np.where(mask, X, other), y, epochs=2, batch_size=8, mask=mask, verbose=0)
        runs.append((history.step_loss.tobytes(), model.params.tobytes()))
    assert runs[0] == runs[1] == runs[2]
    unread = sorted(set(range(11)) - set(X[mask].tolist()))
    assert not model.gradients(X, y, mask=mask)["embedding_0.table"][unread].any()


def test_a_table_has_the_same_bits_at_any_number_of_threads(rng):
    X, y = rng.integers(0, 3000, (24, 64)), rng.standard_normal((24, 64, 70))
    every, runs = numba.get_num_threads(), []
    try:
        for threads in (1, min(2, every)):
            numba.set_num_threads(threads)
            model = nbbp.Sequential([nbbp.Embedding(3000, 70)], optimizer="adam")
            model.fit(X, y, epochs=2, batch_size=24, verbose=0)
            runs.append(model.params.tobytes())
    finally:
        numba.set_num_threads(every)
    assert runs[0] == runs[1]


def tied(F, p, x):
    table = p["embedding_0.table"]
    return (F.embedding(x, table) @ p["dense_0.w"] + p["dense_0.b"]).tanh() @ table.T


def tied_model(tokens: int = 11, dimension: int = 8, **settings) -> nbbp.Sequential:
    embedding = nbbp.Embedding(tokens, dimension, "glorot_normal")
    settings = {"loss": "softmax_cross_entropy", "optimizer": "adam", "dtype": "float64"} | settings
    return nbbp.Sequential(
        [embedding, nbbp.Dense(dimension, "tanh"), nbbp.Dropout(0.0), nbbp.TiedDense(embedding)], **settings
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("tokens", "dimension"), [(11, 8), (300, 64)])
def test_tied_weights_agree_with_pytorch(tokens, dimension, masked, rng):
    X, y = letters(rng, tokens=tokens)
    model = tied_model(tokens, dimension)
    model.build(X.shape[1])
    assert [*model.named_params()] == ["embedding_0.table", "dense_0.w", "dense_0.b"]
    agree(model, tied, X, y, rng.random(X.shape) < 0.6 if masked else None)


@pytest.mark.parametrize("graph", [False, True])
def test_tied_weights_stay_tied(graph, rng, tmp_path):
    """In files, copies, checkpoints, and on the other backend."""
    X, y = letters(rng)
    model = tied_model()
    if graph:
        x, embedding = nbbp.Input(6, "int32"), nbbp.Embedding(11, 8)
        h = nbbp.Residual([nbbp.Dense(8, "tanh")])(embedding(x))
        outputs = {"next": nbbp.TiedDense(embedding)(h), "other": nbbp.Dense(2)(h)}
        model = nbbp.Model(x, outputs, {"next": "softmax_cross_entropy", "other": "mse"}, "adam", dtype="float64")
        y = {"next": y, "other": rng.standard_normal((*y.shape, 2))}
    model.fit(X, y, epochs=1, batch_size=8, callbacks=[nbbp.Checkpoint(tmp_path)], verbose=0)
    model.save(tmp_path / "model")
    other = model.with_backend("numpy")
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), nbbp.load(tmp_path / "model"), model.copy()]
    history = model.fit(X, y, epochs=2, batch_size=8, verbose=0)
    for twin in twins:
        assert twin.named_params().keys() == model.named_params().keys()
        assert twin.fit(X, y, epochs=2, batch_size=8, verbose=0).step_loss.tobytes() == history.step_loss.tobytes()
    losses = other.fit(X, y, epochs=2, batch_size=8, verbose=0).step_loss
    np.testing.assert_allclose(losses, history.step_loss, rtol=1e-10)
    if not graph:
        resumed = tied_model()
        resumed.fit(X, y, epochs=3, batch_size=8, resume=tmp_path, callbacks=[nbbp.Checkpoint(tmp_path)], verbose=0)
        whole = tied_model()
        whole.fit(X, y, epochs=3, batch_size=8, verbose=0)
        assert resumed.params.tobytes() == whole.params.tobytes()


def test_tied_weights_need_their_table(tmp_path):
    embedding = nbbp.Embedding(11, 8)
    for layers in ([nbbp.Embedding(11, 8)], [nbbp.Dense(8)]):
        model = nbbp.Sequential([*layers, nbbp.TiedDense(embedding)])
        with pytest.raises(ValueError, match=r"tieddense_0 takes the parameters of Embedding.* come before it"):
            model.build(6)
        with pytest.raises(ValueError, match="has to come before"):
            model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"vectors of its Embedding's dimension 8, got \(6, 4\)"):
        nbbp.Sequential([embedding, nbbp.Dense(4), nbbp.TiedDense(embedding)]).build(6)
    with pytest.raises(TypeError, match="TiedDense takes an Embedding of the same network"):
        nbbp.TiedDense(nbbp.Dense(3))


def test_references_in_files_are_checked(tmp_path):
    model, path = tied_model(), tmp_path / "model"
    model.build(6)
    model.save(path)
    arrays, description = files.read(path)
    assert description["layers"][-1] == {"type": "TiedDense", "embedding": {"layer": 0}}
    for wrong in (4, -1, 1, True, None, "0"):
        description["layers"][-1]["embedding"] = {"layer": wrong}
        files.write(path, arrays, description)
        with pytest.raises(nbbp.ModelFileError, match="does not describe a model"):
            nbbp.load(path)


def positioned(F, p, x):
    h = F.embedding(x, p["embedding_0.table"]) + p["positionalembedding_0.table"]
    return h @ p["dense_0.w"] + p["dense_0.b"]


@pytest.mark.parametrize("masked", [False, True])
def test_learned_positions_agree_with_pytorch(masked, rng):
    X, y = letters(rng)
    model = language_model(nbbp.PositionalEmbedding())
    model.build(X.shape[1])
    assert model.named_params()["positionalembedding_0.table"].std() == pytest.approx(0.02, rel=0.4)
    agree(model, positioned, X, y, rng.random(X.shape) < 0.6 if masked else None)
    with pytest.raises(ValueError, match="the model takes 6 features, got 7"):
        model.predict(np.zeros((2, 7), int))


@pytest.mark.parametrize("features", [6, 7])
def test_sinusoidal_positions(features, rng):
    """Each element as section 3.5 of "Attention is all you need" has it."""
    x = rng.standard_normal((3, 5, features))
    model = nbbp.Sequential([nbbp.PositionalEmbedding("sinusoidal")], dtype="float64")
    added = model.predict(x) - x
    for position, column in np.ndindex(5, features):
        angle = position / 10000 ** (2 * (column // 2) / features)
        expected = np.cos(angle) if column % 2 else np.sin(angle)
        np.testing.assert_allclose(added[:, position, column], expected, rtol=1e-12, atol=1e-14)
    assert not model.params.size
    with pytest.raises(ValueError, match=r"unknown PositionalEmbedding: kind 'rotary'. Choose one of learned, sin"):
        nbbp.PositionalEmbedding("rotary")
    with pytest.raises(ValueError, match=r"takes samples \(positions, features\), got \(4,\)"):
        nbbp.Sequential([nbbp.PositionalEmbedding()]).build(4)


def test_a_model_that_could_not_be_built_stays_as_it_was():
    model = nbbp.Sequential([nbbp.Embedding(5, 8), nbbp.Flatten(), nbbp.Dense(10**5)])
    before = model.state
    with pytest.raises(MemoryError):
        model.predict(np.zeros((1, 10**6), int))
    assert model.state == before
    assert model.predict(np.zeros((1, 2), int)).shape == (1, 10**5)


@pytest.mark.parametrize("first", [False, True])
def test_tokens_of_features_agree_with_pytorch(first, rng):
    torch = pytest.importorskip("torch")
    X, y = rng.standard_normal((150, 5)), rng.standard_normal((150, 2))
    before = [] if first else [nbbp.Dense(5, "tanh")]
    for last in (False, True):
        behind = [nbbp.Flatten()] if last else [nbbp.Dense(3, "tanh"), nbbp.TakeFirst()]
        model = nbbp.Sequential([*before, nbbp.FeatureTokens(16), *behind, nbbp.Dense(2)], dtype="float64")
        model.build(5)
        p = {name: torch.tensor(value, requires_grad=True) for name, value in model.named_params().items()}
        w, b = p["featuretokens_0.w"], p["featuretokens_0.b"]
        assert max(w.abs().max(), b.abs().max()) <= 0.25 < 1.1 * max(w.abs().max(), b.abs().max())
        x, k = torch.tensor(X, requires_grad=True), 0
        h = x
        if not first:
            h, k = (h @ p["dense_0.w"] + p["dense_0.b"]).tanh(), 1
        h = torch.cat([b[:1].expand(150, 1, 16), h[:, :, None] * w + b[1:]], 1)
        h = h.flatten(1) if last else (h @ p[f"dense_{k}.w"] + p[f"dense_{k}.b"]).tanh()[:, 0]
        end = f"dense_{k if last else k + 1}"
        loss = torch.nn.functional.mse_loss(h @ p[f"{end}.w"] + p[f"{end}.b"], torch.tensor(y))
        loss.backward()
        assert model.evaluate(X, y)["loss"] == pytest.approx(loss.item(), rel=1e-10)
        for name, gradient in model.gradients(X, y).items():
            np.testing.assert_allclose(gradient, p[name].grad, rtol=1e-10, atol=1e-13, err_msg=name)
        np.testing.assert_allclose(model.input_gradients(X, y), x.grad, rtol=1e-10, atol=1e-13)
    with pytest.raises(ValueError, match=r"FeatureTokens takes samples \(features,\), got \(5, 2\)"):
        nbbp.Sequential([nbbp.FeatureTokens(4)]).build((5, 2))


def test_the_first_position_may_be_masked(rng):
    X, y = rng.standard_normal((6, 4, 3)), rng.standard_normal((6, 2))
    mask = rng.random((6, 4)) < 0.5
    mask[:, 0] = [True, False, True, True, False, True]
    model = nbbp.Sequential([nbbp.Dense(3, "tanh"), nbbp.TakeFirst(), nbbp.Dense(2)], dtype="float64")
    model.build((4, 3))
    h = np.tanh(X[:, 0] @ model.named_params()["dense_0.w"])
    expected = np.where(mask[:, :1], h, 0) @ model.named_params()["dense_1.w"]
    np.testing.assert_allclose(model.predict(X, mask=mask), expected, rtol=1e-12, atol=1e-14)
    alone = model.input_gradients(X, y, mask=mask)
    assert not alone[:, 1:].any()
    assert (alone[:, 0].any(axis=1) == mask[:, 0]).all()
    with pytest.raises(ValueError, match=r"TakeFirst takes samples \(positions, features\), got \(4,\)"):
        nbbp.Sequential([nbbp.TakeFirst()]).build(4)
