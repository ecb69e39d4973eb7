"""Recurrent layers: against PyTorch, with masks, in any batch, and with a state that goes on."""

import numba
import numpy as np
import pytest

import nbbp
from nbbp.engine.node import Edge

torch = pytest.importorskip("torch")
rnn = torch.nn.utils.rnn

KINDS = {
    "tanh": (nbbp.SimpleRNN, {}),
    "relu": (nbbp.SimpleRNN, {"activation": "relu"}),
    "gru": (nbbp.GRU, {}),
    "gru, reset before": (nbbp.GRU, {"reset_after": False}),
    "lstm": (nbbp.LSTM, {}),
}
IN_TORCH = [kind for kind in KINDS if kind != "gru, reset before"]
ALL = [(False, False, False), (True, False, True), (False, True, True), (True, True, False), (True, True, True)]
"""Whether a layer returns sequences, has initial states and returns its last ones, and goes backwards."""
SIZES = [(1, 1), (5, 7), (8, 48), (33, 65), (50, 7)]
"""Rows and units: groups of rows, tiles and panels that are full, and that are not."""


def of(kind: str, units: int, **settings) -> nbbp.Layer:
    cls, own = KINDS[kind]
    return cls(units, **own, **settings)


def network(layer, time: int, features: int = 3, states: bool = False, **settings) -> nbbp.Model:
    """A model of one layer, called with initial states if there are `states`, and with weights that are not small."""
    x = nbbp.Input((time, features))
    given = [nbbp.Input(layer.units) for _ in layer.states] if states else []
    outputs = layer(x, *given)
    outputs = outputs if isinstance(outputs, Edge) else list(outputs)
    model = nbbp.Model([x, *given] if states else x, outputs, **({"dtype": "float64"} | settings))
    model.params = np.random.default_rng(7).normal(0, 0.5, model.params.size)
    return model


def both_ways(model, inputs, mask=None, seed: int = 0) -> tuple[list, list, list]:
    """Outputs, random gradients of them, and the inputs' gradients of a step."""
    several = isinstance(inputs, list)
    step = model.step(len(inputs[0]) if several else len(inputs))
    masks = [mask] + [None] * (len(inputs) - 1) if several and mask is not None else mask
    outputs = step.forward(inputs, masks)
    outputs = [y.copy() for y in outputs] if isinstance(outputs, list) else [outputs.copy()]
    rng = np.random.default_rng(seed)
    slopes = [rng.standard_normal(y.shape).astype(y.dtype) for y in outputs]
    back = step.backward([s.copy() for s in slopes] if len(slopes) > 1 else slopes[0].copy())
    return outputs, slopes, list(back) if several else [back]


def turned(gates: np.ndarray) -> np.ndarray:
    """The rows of a GRU's gates in PyTorch's order r, z, n, from z, r, n, or back."""
    z, r, n = np.split(gates, 3)
    return np.concatenate([r, z, n])


def module(kind: str, p: dict[str, np.ndarray]):
    """PyTorch's module with the same weights: p has w, u, b and perhaps c."""
    features, units = len(p["w"]), len(p["u"])
    cls = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}.get(kind, torch.nn.RNN)
    made = cls(features, units, batch_first=True, **({"nonlinearity": kind} if cls is torch.nn.RNN else {})).double()
    order = turned if kind == "gru" else lambda gates: gates
    with torch.no_grad():
        made.weight_ih_l0[:] = torch.tensor(order(p["w"].T))
        made.weight_hh_l0[:] = torch.tensor(order(p["u"].T))
        made.bias_ih_l0[:], made.bias_hh_l0[:] = torch.tensor(order(p["b"])), 0
        if "c" in p:
            made.bias_hh_l0[2 * units :] = torch.tensor(p["c"])
    return made


def slopes_of(kind: str, made) -> dict[str, np.ndarray]:
    """The gradients of a module by nbbp's names."""
    order = turned if kind == "gru" else lambda gates: gates
    found = {"w": order(made.weight_ih_l0.grad.numpy()).T, "u": order(made.weight_hh_l0.grad.numpy()).T}
    found["b"] = order(made.bias_ih_l0.grad.numpy())
    return found | ({"c": np.split(made.bias_hh_l0.grad.numpy(), 3)[2]} if kind == "gru" else {})


def cell(kind: str, p, x, h, c):
    """One step, as the layers' docstrings have it: the next h and c."""
    n = h.shape[1]
    if kind in ("tanh", "relu"):
        return getattr(torch, kind)(x @ p["w"] + h @ p["u"] + p["b"]), c
    if kind == "lstm":
        i, f, g, o = (x @ p["w"] + h @ p["u"] + p["b"]).split(n, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
    of_x, of_h = x @ p["w"] + p["b"], h @ p["u"]
    z, r = (of_x + of_h)[:, : 2 * n].sigmoid().split(n, 1)
    acted = r * (of_h[:, 2 * n :] + p["c"]) if "c" in p else (r * h) @ p["u"][:, 2 * n :]
    return z * h + (1 - z) * (of_x[:, 2 * n :] + acted).tanh(), c


def looped(kind: str, p, x, states, mask, backwards: bool = False):
    """All steps, one after another in PyTorch's autograd: the outputs, 0 where masked, and the last states."""
    h, c = (*states, states[0])[:2]
    outputs = [torch.zeros_like(h)] * x.shape[1]
    for t in range(x.shape[1])[:: -1 if backwards else 1]:
        there = mask[:, t, None]
        new_h, new_c = cell(kind, p, x[:, t], h, c)
        h, c = torch.where(there, new_h, h), torch.where(there, new_c, c)
        outputs[t] = torch.where(there, h, 0)
    return torch.stack(outputs, 1), [h, c][: len(states)]


def leaf(array):
    return torch.tensor(array.copy(), requires_grad=True)


def close(got, expected, message: str = ""):
    expected = expected.detach().numpy() if torch.is_tensor(expected) else expected
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10, err_msg=message)


def named(model) -> tuple[dict, dict]:
    """Copies of the parameters and of the gradients of a model of one layer, by short names."""
    layout, short = model.network.layout, lambda name: name.rpartition(".")[2]
    pairs = layout.named(model.params), model.network.named_grads
    return tuple({short(name): array.copy() for name, array in one.items()} for one in pairs)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("kind", IN_TORCH)
def test_layers_agree_with_pytorch(kind, backend, rng):
    for (sequences, states, backwards), (rows, units) in zip(ALL, SIZES, strict=True):
        settings = {"return_sequences": sequences, "return_state": states, "backwards": backwards}
        layer = of(kind, units, **settings)
        model = network(layer, 6, states=states, backend=backend)
        X = rng.standard_normal((rows, 6, 3))
        first = [rng.standard_normal((rows, units)) for _ in layer.states]
        outputs, slopes, back = both_ways(model, [X, *first] if states else X)
        p, gradients = named(model)
        made, x, given = module(kind, p), leaf(X), [leaf(h) for h in first]
        start = (given[0][None] if len(given) == 1 else tuple(h[None] for h in given)) if states else None
        y, last = made(x.flip(1) if backwards else x, start)
        last = [h[0] for h in last] if kind == "lstm" else [last[0]]
        expected = [(y.flip(1) if backwards else y) if sequences else y[:, -1], *(last if states else [])]
        torch.autograd.backward(expected, [torch.tensor(s) for s in slopes])
        for k, pair in enumerate(zip(outputs, expected, strict=True)):
            close(*pair, f"output {k} of {layer}")
        for k, (got, source) in enumerate(zip(back, [x, *given] if states else [x], strict=True)):
            close(got, source.grad, f"gradient of input {k} of {layer}")
        for name, right in slopes_of(kind, made).items():
            close(gradients[name], right, f"gradient of {name} of {layer}")


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_carried_over_masked_steps(kind, backend, rng):
    """Against a loop; the last of several rows has no step at all, and what is masked may be NaN."""
    for (sequences, states, backwards), (rows, units) in zip(ALL, SIZES, strict=True):
        settings = {"return_sequences": sequences, "return_state": states, "backwards": backwards}
        layer = of(kind, units, **settings)
        model = network(layer, 7, states=states, backend=backend)
        mask = rng.random((rows, 7)) < 0.6
        mask[0, 3] = True
        if rows > 1:
            mask[-1] = False
        X = rng.standard_normal((rows, 7, 3))
        first = [rng.standard_normal((rows, units)) for _ in layer.states]
        holey = np.where(mask[..., None], X, np.nan)
        outputs, slopes, back = both_ways(model, [holey, *first] if states else holey, mask)
        p, gradients = named(model)
        tensors, x, given = {name: leaf(array) for name, array in p.items()}, leaf(X), [leaf(h) for h in first]
        start = given if states else [torch.zeros(rows, units).double() for _ in layer.states]
        y, last = looped(kind, tensors, x, start, torch.tensor(mask), backwards)
        expected = [y if sequences else last[0], *(last if states else [])]
        torch.autograd.backward(expected, [torch.tensor(s) for s in slopes])
        for k, pair in enumerate(zip(outputs, expected, strict=True)):
            close(*pair, f"output {k} of {layer}")
        for k, (got, source) in enumerate(zip(back, [x, *given] if states else [x], strict=True)):
            close(got, source.grad, f"gradient of input {k} of {layer}")
        for name, gradient in gradients.items():
            close(gradient, tensors[name].grad, f"gradient of {name} of {layer}")
        if rows > 1:
            assert not back[0][-1].any()
            assert states or not outputs[0][-1].any()


@pytest.mark.parametrize("kind", IN_TORCH)
@pytest.mark.parametrize("sequences", [False, True])
def test_lengths_agree_with_packed_sequences(sequences, kind, rng):
    rows, time = 33, 9
    layer = of(kind, 7, return_sequences=sequences, return_state=True)
    model = network(layer, time)
    lengths = rng.integers(1, time + 1, rows)
    mask = np.arange(time) < lengths[:, None]
    X = np.where(mask[..., None], rng.standard_normal((rows, time, 3)), np.nan)
    outputs, slopes, (dx,) = both_ways(model, X, mask)
    p, gradients = named(model)
    made, x = module(kind, p), leaf(np.nan_to_num(X))
    packed, last = made(rnn.pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False))
    y, _ = rnn.pad_packed_sequence(packed, batch_first=True, total_length=time)
    last = [h[0] for h in last] if kind == "lstm" else [last[0]]
    expected = [y if sequences else last[0], *last]
    torch.autograd.backward(expected, [torch.tensor(s) for s in slopes])
    for pair in zip([*outputs, dx], [*expected, x.grad], strict=True):
        close(*pair)
    for name, right in slopes_of(kind, made).items():
        close(gradients[name], right, name)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
def test_stacked_layers_of_both_directions_agree_with_pytorch(lengths, sequences, rng):
    """The output of the last layer, or where each direction ends."""
    rows, time = 9, 6
    layers = [nbbp.Bidirectional(nbbp.LSTM(5, return_sequences=True))]
    layers.append(nbbp.Bidirectional(nbbp.LSTM(5, return_sequences=sequences)))
    model = nbbp.Sequential(layers, dtype="float64")
    model.build((time, 3))
    model.params = rng.normal(0, 0.5, model.params.size)
    there = rng.integers(1, time + 1, rows) if lengths else np.full(rows, time)
    mask = np.arange(time) < there[:, None]
    X = rng.standard_normal((rows, time, 3))
    (y,), (slope,), (dx,) = both_ways(model, X, mask if lengths else None)
    made = torch.nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True).double()
    names = [f"l{k}{way}" for k in range(2) for way in ("", "_reverse")]
    places = [place for place in model.network.layout.places if place.parameters]
    for name, place in zip(names, places, strict=True):
        views = vars(place.views(model.params, model.network.state))
        with torch.no_grad():
            getattr(made, f"weight_ih_{name}")[:] = torch.tensor(views["w"].T.copy())
            getattr(made, f"weight_hh_{name}")[:] = torch.tensor(views["u"].T.copy())
            getattr(made, f"bias_ih_{name}")[:] = torch.tensor(views["b"].copy())
            getattr(made, f"bias_hh_{name}")[:] = 0
    x = leaf(X)
    packed, (last, _) = made(rnn.pack_padded_sequence(x, torch.tensor(there), batch_first=True, enforce_sorted=False))
    outputs, _ = rnn.pad_packed_sequence(packed, batch_first=True, total_length=time)
    expected = outputs if sequences else torch.cat([last[2], last[3]], 1)
    expected.backward(torch.tensor(slope))
    close(y, expected)
    close(dx, x.grad)
    for name, place in zip(names, places, strict=True):
        views = vars(place.views(model.grads, model.network.state))
        for key, theirs in {"w": "weight_ih", "u": "weight_hh", "b": "bias_ih"}.items():
            close(views[key], getattr(made, f"{theirs}_{name}").grad.numpy().T, name + key)


def masked_alike(X, mask, time: int):
    """X and its mask, padded by NaN to more steps."""
    padded, there = np.full((len(X), time, X.shape[2]), np.nan, X.dtype), np.zeros((len(X), time), bool)
    padded[:, : X.shape[1]], there[:, : X.shape[1]] = np.where(mask[..., None], X, np.nan), mask
    return padded, there


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backwards", [False, True])
def test_neither_padding_nor_other_rows_change_a_bit_of_a_row(backwards, kind, rng):
    """Its outputs and the gradients of its input: alone and without padding, beside 36 others, and padded more."""
    rows, time, units = 37, 6, 23
    lengths = rng.integers(1, time + 1, rows)
    mask = np.arange(time) < lengths[:, None]
    X, slopes = rng.standard_normal((rows, time, 3)).astype(np.float32), rng.standard_normal((rows, units))

    def run(X, mask, slopes):
        model = network(of(kind, units, backwards=backwards), X.shape[1], dtype="float32")
        step = model.step(len(X))
        y = step.forward(X, mask).copy()
        return y, step.backward(slopes.copy())

    y, dx = run(X, mask, slopes)
    longer, wider = run(*masked_alike(X, mask, 15), slopes)
    assert longer.tobytes() == y.tobytes()
    assert wider[:, :time].tobytes() == dx.tobytes()
    assert not wider[:, time:].any()
    for i in (0, 11, 36):
        alone = run(X[i : i + 1, : lengths[i]], None, slopes[i : i + 1])
        assert alone[0].tobytes() == y[i].tobytes()
        assert alone[1].tobytes() == dx[i, : lengths[i]].tobytes()
    some = slice(9, 22)
    few = run(X[some], mask[some], slopes[some])
    assert few[0].tobytes() == y[some].tobytes()
    assert few[1].tobytes() == dx[some].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_of_many_rows_are_those_of_few(kind, rng):
    model = network(of(kind, 9, return_sequences=True), 5, dtype="float32")
    X, mask = rng.standard_normal((1100, 5, 3)).astype(np.float32), rng.random((1100, 5)) < 0.7
    y = model.predict(X, mask=mask)
    assert not y[~mask].any()
    for part in (slice(0, 1), slice(500, 540), slice(1093, 1100)):
        assert model.predict(X[part], mask=mask[part]).tobytes() == y[part].tobytes()


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="there is one thread")
@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_change_bits(kind, rng):
    """Among them are groups of rows that are not those of one thread."""
    X, y = rng.standard_normal((50, 20, 3)), rng.standard_normal((50, 20, 65))
    mask = rng.random((50, 20)) < 0.8
    every, runs = numba.get_num_threads(), []
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            model = network(of(kind, 65, return_sequences=True), 20, dtype="float32", optimizer="adam")
            history = model.fit(X, y, epochs=2, batch_size=50, mask=mask, verbose=0)
            runs.append((history.step_loss.tobytes(), model.params.tobytes(), model.predict(X, mask=mask).tobytes()))
    finally:
        numba.set_num_threads(every)
    assert runs[0] == runs[1]


class TestStateful:
    """Sequences in pieces, each of which goes on where the one before ended."""

    def data(self, rng, rows: int = 6):
        """Three pieces of 4 steps of each of some sequences, one below the other, and the whole."""
        X, y = rng.standard_normal((rows, 12, 3)), rng.standard_normal((rows, 12, 5))
        return [np.concatenate(np.split(a, 3, axis=1)) for a in (X, y)], (X, y)

    def model(self, kind: str = "gru", time: int = 4, **settings) -> nbbp.Model:
        """Weights as `network` has them; at this learning rate they do not move."""
        layer = of(kind, 5, return_sequences=True, stateful=time == 4)
        return network(layer, time, **({"optimizer": nbbp.SGD(1e-300)} | settings))

    @pytest.mark.parametrize("backend", ["numba", "numpy"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_pieces_have_the_losses_of_the_whole(self, kind, backend, rng):
        """In each epoch and each fit, which begin anew; and also if a mini-batch comes in parts."""
        (X, y), (whole_X, whole_y) = self.data(rng)
        errors = (self.model(kind, 12, backend=backend).predict(whole_X) - whole_y) ** 2
        expected = [part.mean() for part in np.split(errors, 3, axis=1)] * 2
        model = self.model(kind, backend=backend)
        for how in ({"batch_size": 6}, {"batch_size": 6}, {"batch_size": 3, "accumulate": 2}):
            history = model.fit(X, y, epochs=2, shuffle=False, verbose=0, **how)
            np.testing.assert_allclose(history.step_loss, expected, rtol=1e-12)

    def test_an_update_from_one_mini_batch_begins_anew(self, rng):
        (X, y), _ = self.data(rng)
        model, other = self.model(), network(of("gru", 5, return_sequences=True), 4, optimizer=nbbp.SGD(1e-300))
        for k in (0, 6, 12):
            rows = slice(k, k + 6)
            assert model.train_on_batch(X[rows], y[rows]) == other.train_on_batch(X[rows], y[rows])

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_gradient_ends_where_a_piece_begins(self, kind, rng):
        """Truncated backpropagation through time, against a loop that begins with the state as a constant."""
        _, (X, _) = self.data(rng)
        model = self.model(kind)
        step, slopes = model.step(6), rng.standard_normal((3, 6, 4, 5))
        tensors = {name: leaf(array) for name, array in named(model)[0].items()}
        states = [torch.zeros(6, 5).double()] * len(model.layers[0].states)
        for piece, slope in zip(np.split(X, 3, axis=1), slopes, strict=True):
            x = leaf(piece)
            y, last = looped(kind, tensors, x, states, torch.ones(6, 4, dtype=bool))
            y.backward(torch.tensor(slope))
            states = [h.detach() for h in last]
            close(step.forward(piece), y)
            close(step.backward(slope.copy(), add=True), x.grad)
        for name, gradient in named(model)[1].items():
            close(gradient, tensors[name].grad, name)

    def test_reset_states_lets_rows_begin_anew(self, rng):
        _, (X, _) = self.data(rng)
        model = self.model("lstm")
        step = model.step(6, training=False)
        first = step.forward(X[:, :4]).copy()
        assert sorted(step.carried) == ["lstm_0.c", "lstm_0.h"]
        assert not np.array_equal(step.forward(X[:, :4]), first)
        step.reset_states()
        np.testing.assert_array_equal(step.forward(X[:, :4]), first)
        np.testing.assert_allclose(step.forward(X[:, 4:8]), self.model("lstm", 12).predict(X)[:, 4:8], rtol=1e-12)

    def test_predictions_leave_no_state(self, rng):
        (X, y), _ = self.data(rng)
        model = self.model()
        predictions = model.predict(X)
        model.fit(X, y, batch_size=6, shuffle=False, verbose=0)
        np.testing.assert_array_equal(model.predict(X[::-1])[::-1], predictions)

    def test_an_order_that_is_none_is_refused(self, rng):
        (X, y), _ = self.data(rng)
        model = self.model()
        with pytest.raises(ValueError, match="continues from the mini-batch before: take shuffle=False"):
            model.fit(X, y, batch_size=6, verbose=0)
        with pytest.raises(ValueError, match="of 18 rows the last mini-batch has 3 instead of 5"):
            model.fit(X, y, batch_size=5, shuffle=False, verbose=0)
        with pytest.raises(ValueError, match="divides the rows"):
            model.fit(X, y, batch_size=4, accumulate=3, shuffle=False, verbose=0)
        with pytest.raises(ValueError, match="the buffers of a stream do not follow one another"):
            model.fit(nbbp.streams.from_arrays(X, y), batch_size=6, shuffle=False, verbose=0)

    @pytest.mark.parametrize("stop", [2, 3, 7], ids=["within a sequence", "between epochs", "in the last epoch"])
    @pytest.mark.parametrize("kind", ["gru", "lstm"])
    def test_stopped_and_resumed(self, kind, stop, rng, tmp_path):
        (X, y), _ = self.data(rng)
        settings = {"epochs": 3, "batch_size": 6, "shuffle": False, "verbose": 0}
        whole, resumed = (self.model(kind, optimizer="adam") for _ in range(2))
        expected = whole.fit(X, y, **settings)

        class Stop(nbbp.callbacks.Callback):
            every = stop

            def on_step(self, fit):
                fit.stop("enough")

        checkpoint = nbbp.Checkpoint(tmp_path, every=100)
        self.model(kind, optimizer="adam").fit(X, y, callbacks=[checkpoint, Stop()], **settings)
        assert nbbp.load(next(iter(tmp_path.iterdir()))).steps == stop
        history = resumed.fit(X, y, callbacks=[checkpoint], resume=tmp_path, **settings)
        assert history.step_loss.tobytes() == expected.step_loss.tobytes()
        assert resumed.params.tobytes() == whole.params.tobytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nbbp.LSTM(4)(nbbp.Input(8)), r"LSTM takes samples \(time, features\), got \(8,\)"),
        (lambda: nbbp.GRU(4)(nbbp.Input((5, 3, 2))), r"GRU takes samples \(time, features\), got \(5, 3, 2\)"),
        (lambda: nbbp.GRU(4)(nbbp.Input((5, 3)), nbbp.Input(3)), r"state for each of h: 1 of \(4,\); got \(\(3,\),\)"),
        (lambda: nbbp.LSTM(4)(nbbp.Input((5, 3)), nbbp.Input(4)), r"each of h, c: 2 of \(4,\); got \(\(4,\),\)"),
        (
            lambda: nbbp.GRU(4, stateful=True)(nbbp.Input((5, 3)), nbbp.Input(4)),
            "no initial state if it is stateful",
        ),
        (lambda: nbbp.GRU(4, stateful=True, backwards=True), "GRU: a state that goes backwards has no next"),
        (lambda: nbbp.LSTM(0), "LSTM: units must be 1 or more, got 0"),
        (lambda: nbbp.SimpleRNN(4, return_sequences=1), "SimpleRNN: return_sequences must be"),
        (lambda: nbbp.SimpleRNN(4, activation="gelu"), "SimpleRNN: activation"),
        (lambda: nbbp.GRU(4, initializer="glorot"), "initializer"),
        (lambda: nbbp.Bidirectional(nbbp.LSTM(4, return_state=True)), "without return_state, stateful and backwards"),
        (lambda: nbbp.Bidirectional(nbbp.Dense(4)), "Bidirectional takes a SimpleRNN, GRU or LSTM, got Dense"),
    ],
)
def test_what_is_wrong_is_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
