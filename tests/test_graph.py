"""Doors of the graph, of the layer interface and of a step: each proved by a layer or a model as a user writes it."""

import copy
import pickle

import numpy as np
import pytest
from toys import (
    Faded,
    Joined,
    ToyConvolution,
    ToyRecurrence,
    ToyRescale,
    ToyReshape,
    Tuned,
    gaussian_nll,
    toy_turn,
    turnings,
)

import nbbp
from nbbp.engine.program import Shards


def proved(model: nbbp.Model, X, y, mask=None, **settings) -> None:
    """Gradients, equal losses in both backends, and equal bits of what is saved and loaded."""
    for backend in ("numba", "numpy"):
        errors = nbbp.check_gradients(model.with_backend(backend), X, y, most=40, mask=mask)
        assert errors
        assert max(errors.values()) < 1e-6, (backend, errors)
    settings = {"epochs": 2, "batch_size": 12, "verbose": 0, "mask": mask} | settings
    twins = [model.copy(backend=backend, dtype="float64") for backend in ("numba", "numpy")]
    losses = [twin.fit(X, y, **settings).step_loss for twin in twins]
    assert np.ptp(losses[0]) > 0
    np.testing.assert_allclose(*losses, rtol=1e-10)


def loaded(model: nbbp.Model, folder) -> nbbp.Model:
    model.save(folder / "model.safetensors")
    return nbbp.load(folder / "model.safetensors")


def goes_on_alike(model: nbbp.Model, folder, X, y, mask=None, **settings) -> None:
    """Copies of all kinds predict, and train on, with the same bits."""
    settings = {"batch_size": 12, "verbose": 0, "mask": mask} | settings
    model.fit(X, y, **settings)
    twins = [loaded(model, folder), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    predictions = flat(model.predict(X, mask=mask))
    model.fit(X, y, **settings)
    for twin in twins:
        assert flat(twin.predict(X, mask=mask)) == predictions
        twin.fit(X, y, **settings)
        assert twin.params.tobytes() == model.params.tobytes()


def flat(predictions) -> bytes:
    """The bits of what predict gives."""
    given = predictions.values() if isinstance(predictions, dict) else predictions
    return b"".join(np.asarray(z).tobytes() for z in given)


class TestConvolution:
    """(height, width, channels), with a derived copy of the weights."""

    def model(self, **settings) -> nbbp.Model:
        x = nbbp.Input((7, 6, 2))
        h = nbbp.Activation("tanh")(ToyConvolution(4)(x))
        h = ToyReshape((3 * 2 * 3,))(ToyConvolution(3)(h))
        return nbbp.Model(x, nbbp.Dense(2)(h), **{"optimizer": nbbp.SGD(0.1)} | settings)

    def data(self, rng, rows: int = 30):
        return rng.standard_normal((rows, 7, 6, 2)), rng.standard_normal((rows, 2))

    def test_it_is_proved(self, rng, tmp_path):
        X, y = self.data(rng)
        proved(self.model(), X, y)
        goes_on_alike(self.model(), tmp_path, X, y)

    def test_against_pytorch(self, rng):
        torch = pytest.importorskip("torch")
        X, _ = self.data(rng, 5)
        x = nbbp.Input((7, 6, 2))
        model = nbbp.Model(x, ToyConvolution(4)(x), dtype="float64")
        target = rng.standard_normal((5, 5, 4, 4))
        slopes = model.gradients(X, target)["toyconvolution_0.w"]
        w = torch.tensor(model.named_params()["toyconvolution_0.w"], requires_grad=True)  # (9, filters, channels)
        kernel = w.permute(1, 2, 0).reshape(4, 2, 3, 3)
        y = torch.nn.functional.conv2d(torch.tensor(X).permute(0, 3, 1, 2), kernel).permute(0, 2, 3, 1)
        torch.nn.functional.mse_loss(y, torch.tensor(target)).backward()
        np.testing.assert_allclose(model.predict(X), y.detach(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(slopes, w.grad, rtol=1e-10, atol=1e-13)

    @pytest.mark.parametrize("settings", [{}, {"accumulate": 4}], ids=["shards", "micro-batches"])
    def test_the_copy_is_made_once_an_update(self, settings, rng):
        X, y = self.data(rng, 512)
        rows = 512 // settings.get("accumulate", 1)
        model = self.model(backend="numpy")
        model.fit(X, y, batch_size=rows, verbose=0, **settings)
        before = turnings[0]
        model.fit(X, y, epochs=3, batch_size=rows, verbose=0, **settings)
        assert turnings[0] - before == 3 * 2  # of both layers, in each update

    def test_shards_and_blocks_of_rows_share_it(self, rng):
        X, y = self.data(rng, 1300)
        model = self.model()
        trainer = model.built.trainer(model.prepare(X[:512], y[:512]), 512)
        program = trainer.runner.program
        (shards,) = (call for call in program.calls if isinstance(call, Shards))
        assert len(shards.programs) == 16
        assert sum(call.kernel is toy_turn for call in program.once) == 2
        slow = model.with_backend("numpy")
        slow.predict(X)
        before = turnings[0]
        slow.predict(X)  # two blocks of 512 rows, and the rows that are left
        assert turnings[0] - before == 6


class TestRecurrence:
    """A mask, and a state that is carried from step to step."""

    def model(self, time: int = 5, **settings) -> nbbp.Model:
        x = nbbp.Input((time, 3))
        h = ToyRecurrence(4)(x)
        settings = {"loss": "softmax_cross_entropy", "optimizer": nbbp.Adam(0.02), "metrics": ["accuracy"]} | settings
        return nbbp.Model(x, nbbp.Dense(3)(nbbp.LayerNorm()(ToyRecurrence(6)(h))), **settings)

    def data(self, rng, rows: int = 36, time: int = 5):
        X, y = rng.standard_normal((rows, time, 3)), rng.integers(0, 3, (rows, time))
        lengths = rng.integers(1, time + 1, rows)
        return X, y, np.arange(time) < lengths[:, None]

    def test_it_is_proved(self, rng, tmp_path):
        X, y, mask = self.data(rng)
        proved(self.model(), X, y, shuffle=False)
        proved(self.model(), X, y, mask, shuffle=False)
        proved(self.model(), X, y, mask, accumulate=2, shuffle=False)
        goes_on_alike(self.model(), tmp_path, X, y, mask)

    def test_against_pytorch(self, rng):
        torch = pytest.importorskip("torch")
        X, _, _ = self.data(rng)
        x = nbbp.Input((5, 3))
        model = nbbp.Model(x, ToyRecurrence(4)(x), dtype="float64")
        p = {name: torch.tensor(value) for name, value in model.named_params().items()}
        cell = torch.nn.RNN(3, 4, bias=False, batch_first=True).double()
        with torch.no_grad():
            cell.weight_ih_l0[:], cell.weight_hh_l0[:] = p["toyrecurrence_0.w"].T, p["toyrecurrence_0.u"].T
        target = rng.standard_normal((36, 5, 4))
        y, _ = cell(torch.tensor(X))
        torch.nn.functional.mse_loss(y, torch.tensor(target)).backward()
        slopes = model.gradients(X, target)
        np.testing.assert_allclose(model.predict(X), y.detach(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(slopes["toyrecurrence_0.w"], cell.weight_ih_l0.grad.T, rtol=1e-9, atol=1e-13)
        np.testing.assert_allclose(slopes["toyrecurrence_0.u"], cell.weight_hh_l0.grad.T, rtol=1e-9, atol=1e-13)

    @pytest.mark.parametrize("rows", [36, 1100])
    def test_padding_changes_no_bit_of_a_row(self, rows, rng):
        X, _, mask = self.data(rng, rows)
        padded = np.full((rows, 9, 3), np.nan)
        padded[:, :5] = np.where(mask[..., None], X, np.nan)
        long = np.zeros((rows, 9), bool)
        long[:, :5] = mask
        short = self.model()
        other = self.model(9)
        other.params = short.params
        expected, got = short.predict(X, mask=mask), other.predict(padded, mask=long)[:, :5]
        assert got[mask].tobytes() == expected[mask].tobytes()
        for i in range(3):
            n = int(mask[i].sum())
            alone = self.model(n)
            alone.params = short.params
            assert alone.predict(X[i : i + 1, :n]).tobytes() == expected[i, :n].tobytes()

    def test_the_state_lives_from_step_to_step(self, rng):
        """A long sequence in two pieces of a step is the sequence in one; and in training the state goes on."""
        X, _, _ = self.data(rng, 6, 10)
        x = nbbp.Input((5, 3))
        model = nbbp.Model(x, ToyRecurrence(4)(x), dtype="float64")
        whole_x = nbbp.Input((10, 3))
        whole = nbbp.Model(whole_x, ToyRecurrence(4)(whole_x), dtype="float64")
        whole.params = model.params
        expected = whole.predict(X)
        for training in (True, False):
            step = model.step(6, training=training)
            pieces = [step.forward(X[:, :5]).copy(), step.forward(X[:, 5:]).copy()]
            np.testing.assert_array_equal(np.concatenate(pieces, axis=1), expected)
            assert list(step.carried) == ["toyrecurrence_0.h"]
            step.carried["toyrecurrence_0.h"][:3] = 0  # the first rows begin anew
            again = step.forward(X[:, :5]).copy()
            np.testing.assert_array_equal(again[:3], expected[:3, :5])
            assert not np.array_equal(again[3:], expected[3:, :5])
            step.carried["toyrecurrence_0.h"][:] = 0
            np.testing.assert_array_equal(step.forward(X[:2, :5]), expected[:2, :5])  # fewer rows: the first ones'
            np.testing.assert_array_equal(step.forward(X[:, 5:])[:2], expected[:2, 5:])

    def test_predictions_and_gradients_leave_no_state(self, rng):
        X, y, mask = self.data(rng, 700)
        model = self.model()
        predictions = model.predict(X, mask=mask)
        for part in (slice(0, 30), slice(600, 700), slice(690, 691)):
            assert model.predict(X[part], mask=mask[part]).tobytes() == predictions[part].tobytes()
        gradients = [{k: g.copy() for k, g in model.gradients(X, y, mask).items()} for _ in range(2)]
        for name in gradients[0]:
            np.testing.assert_array_equal(gradients[0][name], gradients[1][name])
        jacobians = [model.jacobian(X[:2], mask[:2]) for _ in range(2)]
        np.testing.assert_array_equal(*jacobians)

    def test_the_state_reaches_from_batch_to_batch_of_a_fit(self, rng):
        """With a rate of 0 in effect, the losses of the second mini-batch are those of a sequence twice as long."""
        X, _, _ = self.data(rng, 6, 10)
        target = rng.standard_normal((6, 10, 4))
        x, whole_x = nbbp.Input((5, 3)), nbbp.Input((10, 3))
        model = nbbp.Model(x, ToyRecurrence(4)(x), optimizer=nbbp.SGD(1e-300), dtype="float64")
        whole = nbbp.Model(whole_x, ToyRecurrence(4)(whole_x), dtype="float64")
        whole.params = model.params
        pieces = [np.concatenate([a[:, :5], a[:, 5:]]) for a in (X, target)]
        for _ in range(2):  # a fit begins with 0
            history = model.fit(*pieces, batch_size=6, shuffle=False, verbose=0)
            expected = [np.mean((whole.predict(X) - target)[:, part] ** 2) for part in (slice(5), slice(5, 10))]
            np.testing.assert_allclose(history.step_loss, expected, rtol=1e-12)

    @pytest.mark.parametrize("stop", [3, 6, 8], ids=["in an epoch", "between epochs", "in the last epoch"])
    def test_stopped_and_resumed(self, stop, rng, tmp_path):
        X, y, mask = self.data(rng, 64)
        settings = {"epochs": 3, "batch_size": 12, "shuffle": False, "verbose": 0, "mask": mask}  # 6 steps an epoch
        settings["validation_data"] = (X[:9], y[:9], None, mask[:9])
        whole = self.model()
        expected = whole.fit(X, y, **settings)

        class Stop(nbbp.callbacks.Callback):
            every = stop

            def on_step(self, fit):
                fit.stop("enough")

        folder = tmp_path / "checkpoints"
        self.model().fit(X, y, callbacks=[nbbp.Checkpoint(folder, every=100), Stop()], **settings)
        assert nbbp.load(next(iter(folder.iterdir()))).steps == stop
        resumed = self.model()
        history = resumed.fit(X, y, callbacks=[nbbp.Checkpoint(folder, every=100)], resume=folder, **settings)
        assert history.step_loss.tobytes() == expected.step_loss.tobytes()
        assert resumed.params.tobytes() == whole.params.tobytes()
        assert history.epochs == expected.epochs


class TestSchedule:
    """A rate that changes from step to step."""

    rate = nbbp.schedules.Exponential(1.0, steps=5, factor=0.5)

    def model(self, **settings) -> nbbp.Model:
        x = nbbp.Input(3)
        settings = {"optimizer": nbbp.SGD(0.1), "dtype": "float64"} | settings
        return nbbp.Model(x, Faded(self.rate)(nbbp.Dense(2, use_bias=False)(x)), **settings)

    def data(self, rng, rows: int = 40):
        return rng.standard_normal((rows, 3)), rng.standard_normal((rows, 2))

    def test_it_is_proved(self, rng, tmp_path):
        X, y = self.data(rng)
        proved(self.model(), X, y)
        goes_on_alike(self.model(), tmp_path, X, y)

    def test_its_summary_has_no_step(self):
        assert "for each row" in self.model().summary()

    def steps(self, w, X, y, first: int, count: int):
        losses = []
        for t in range(first, first + count):
            rate = self.rate.value(t)
            error = rate * (X @ w) - y
            losses.append(np.mean(error**2))
            w = w - 0.1 * rate * X.T @ error * 2 / error.size
        return w, losses

    def test_in_a_fit(self, rng):
        X, y = self.data(rng)
        model = self.model()
        w = model.named_params()["dense_0.w"].copy()
        _, losses = self.steps(w, X, y, 0, 12)
        got = [model.fit(X, y, epochs=6, batch_size=40, shuffle=False, verbose=0).step_loss for _ in range(2)]
        np.testing.assert_allclose(np.concatenate(got), losses, rtol=1e-12)
        slopes = model.gradients(X, y)["dense_0.w"].copy()  # at the present step
        w = model.named_params()["dense_0.w"]
        rate = self.rate.value(12)
        np.testing.assert_allclose(slopes, rate * X.T @ (rate * X @ w - y) * 2 / y.size, rtol=1e-12)
        np.testing.assert_allclose(model.predict(X), X @ w, rtol=1e-12)

    def test_in_shards(self, rng):
        X, y = self.data(rng, 512)
        model = self.model()
        _, losses = self.steps(model.named_params()["dense_0.w"].copy(), X, y, 0, 4)
        got = model.fit(X, y, epochs=4, batch_size=512, shuffle=False, verbose=0).step_loss
        np.testing.assert_allclose(got, losses, rtol=1e-12)

    def test_in_steps(self, rng):
        X, _ = self.data(rng)
        model = self.model()
        w = model.named_params()["dense_0.w"].copy()
        step = model.step(40)
        for k in range(600):  # beyond a table of numbers known beforehand
            rows = 40 if k % 7 else 11  # fewer rows are bound when they come first
            z = step.forward(X[:rows])
            np.testing.assert_allclose(z, self.rate.value(k) * (X[:rows] @ w), rtol=1e-12, atol=1e-300)

    def test_stopped_and_resumed(self, rng, tmp_path):
        X, y = self.data(rng)
        settings = {"batch_size": 12, "verbose": 0}
        whole = self.model()
        expected = whole.fit(X, y, epochs=4, **settings)
        self.model().fit(X, y, epochs=4, callbacks=[nbbp.Checkpoint(tmp_path), StopAt(6)], **settings)
        resumed = self.model()
        history = resumed.fit(X, y, epochs=4, resume=tmp_path, **settings)
        assert history.step_loss.tobytes() == expected.step_loss.tobytes()
        assert resumed.params.tobytes() == whole.params.tobytes()


class StopAt(nbbp.callbacks.Callback):
    def __init__(self, step: int) -> None:
        self.every = step

    def on_step(self, fit):
        fit.stop("enough")


class TestTwoInputsUsedTwice:
    """One layer of two inputs, called twice: its parameters are shared, their gradients added."""

    def model(self, **settings) -> nbbp.Model:
        a, b = nbbp.Input(3, name="a"), nbbp.Input(4, name="b")
        joined = Joined(3)
        first = nbbp.Activation("tanh")(joined(a, b))
        return nbbp.Model([a, b], joined(first, b), **{"optimizer": nbbp.SGD(0.05)} | settings)

    def data(self, rng, rows: int = 30):
        return [rng.standard_normal((rows, 3)), rng.standard_normal((rows, 4))], rng.standard_normal((rows, 3))

    def test_it_is_proved(self, rng, tmp_path):
        X, y = self.data(rng)
        assert list(self.model().named_params()) == ["joined_0.u", "joined_0.v"]
        proved(self.model(), X, y)
        goes_on_alike(self.model(), tmp_path, X, y)

    def test_against_numpy(self, rng):
        (a, b), y = self.data(rng)
        model = self.model(dtype="float64")
        u, v = model.named_params().values()
        h = np.tanh(a @ u + b @ v)
        slope = 2 * (h @ u + b @ v - y) / y.size
        inner = (slope @ u.T) * (1 - h**2)
        slopes = model.gradients([a, b], y)
        np.testing.assert_allclose(slopes["joined_0.u"], h.T @ slope + a.T @ inner, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(slopes["joined_0.v"], b.T @ slope + b.T @ inner, rtol=1e-10, atol=1e-14)
        da, db = model.input_gradients([a, b], y)
        np.testing.assert_allclose(da, inner @ u.T, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(db, inner @ v.T + slope @ v.T, rtol=1e-10, atol=1e-14)

    def test_parameters_of_other_shapes_cannot_be_shared(self):
        a, dense = nbbp.Input(3), nbbp.Dense(4)
        with pytest.raises(ValueError, match=r"dense_0 is called again on .*'w': \(4, 4\).*they have .*'w': \(3, 4\)"):
            nbbp.Model(a, dense(dense(a)))


@pytest.mark.parametrize(
    "layer",
    [
        nbbp.Dense(5, "tanh"),
        nbbp.Residual([nbbp.Dense(6, "relu"), nbbp.Dense(7)]),
        nbbp.Bidirectional(nbbp.GRU(3, return_sequences=True)),
        nbbp.MultiHeadAttention(2, rotary=True),
        nbbp.TransformerBlock(2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_that_consists_of_others_shares_all_their_parameters(layer, rng, tmp_path):
    a, b = nbbp.Input((3, 4)), nbbp.Input((3, 4))
    once, twice = nbbp.Model(a, layer(a)), nbbp.Model([a, b], [layer(a), layer(b)])
    assert twice.params.size == once.params.size
    twice.params[:] = rng.standard_normal(twice.params.size)
    X = rng.standard_normal((6, 3, 4))
    np.testing.assert_array_equal(*twice.predict([X, X]))
    np.testing.assert_array_equal(*loaded(twice, tmp_path).predict([X, X]))


class TestIntegers:
    """Bytes and tokens reach a layer as they are."""

    @pytest.mark.parametrize("dtype", ["uint8", "int32"])
    def test_it_is_proved(self, dtype, rng, tmp_path):
        x = nbbp.Input((4, 3), dtype=dtype)
        h = nbbp.Dense(2)(ToyRescale(1 / 255)(ToyReshape((12,))(x)))
        model = nbbp.Model(x, h, optimizer=nbbp.SGD(0.1))
        X, y = rng.integers(0, 256, (1100, 4, 3)).astype(dtype), rng.standard_normal((1100, 2))
        proved(model, X[:30], y[:30])
        goes_on_alike(model, tmp_path, X[:30], y[:30])
        w, bias = model.copy(dtype="float64").named_params().values()
        np.testing.assert_allclose(model.predict(X), X.reshape(1100, 12) / 255 @ w + bias, rtol=1e-4, atol=1e-5)
        assert model.predict(X)[600:610].tobytes() == model.predict(X[600:610].tolist()).tobytes()
        assert model.input_gradients(X, y) is None
        step = model.step(8)
        assert step.backward(np.ones_like(step.forward(X[:8]))) is None

    def test_numbers_that_do_not_fit_are_refused(self):
        x = nbbp.Input(2, dtype="uint8")
        model = nbbp.Model(x, nbbp.Dense(1)(ToyRescale(1.0)(x)))
        for wrong in (0.5, 256, -1):
            with pytest.raises(ValueError, match=rf"X must hold numbers of uint8, got {wrong} in row 1"):
                model.predict([[1, 2], [3, wrong]])

    def test_layers_say_whether_they_take_integers(self):
        x = nbbp.Input(4, dtype="int32")
        with pytest.raises(TypeError, match=r"Dense does not take integers, got Input\(\(4,\), int32"):
            nbbp.Dense(2)(x)
        with pytest.raises(TypeError, match="Dense does not take integers"):
            nbbp.Dense(2)(ToyReshape((2, 2))(x))
        with pytest.raises(ValueError, match="dtype must be uint8 or int32, or left out"):
            nbbp.Input(4, dtype="float32")

    def test_column_embedding_takes_integers(self, rng):
        x = nbbp.Input(3, dtype="int32")
        model = nbbp.Model(x, nbbp.ColumnEmbedding({0: 4, 1: 5, 2: 6}, 2)(x), dtype="float64")
        floats = nbbp.Sequential([nbbp.ColumnEmbedding({0: 4, 1: 5, 2: 6}, 2)], dtype="float64")
        X, y = rng.integers(0, 4, (20, 3)), rng.standard_normal((20, 6))
        losses = [m.fit(X, y, epochs=2, verbose=0).step_loss for m in (model, floats)]
        np.testing.assert_array_equal(*losses)


class TestSeveralOutputs:
    """Two inputs and two outputs with a loss each."""

    def model(self, **settings) -> nbbp.Model:
        board, clock = nbbp.Input(5, name="board"), nbbp.Input(2, name="clock")
        h = nbbp.Dense(8, "tanh")(nbbp.Concatenate()(board, clock))
        outputs = {"policy": nbbp.Dense(3)(h), "value": nbbp.Dense(1)(h)}
        settings = {
            "loss": {"policy": "softmax_cross_entropy", "value": "mse"}, "optimizer": nbbp.Adam(0.01),
            "metrics": {"policy": ["accuracy"], "value": ["mae"]}, "loss_weights": {"policy": 1.0, "value": 0.5},
        } | settings  # fmt: skip
        return nbbp.Model({"board": board, "clock": clock}, outputs, **settings)

    def data(self, rng, rows: int = 40):
        X = {"board": rng.standard_normal((rows, 5)), "clock": rng.standard_normal((rows, 2))}
        return X, {"policy": rng.integers(0, 3, rows), "value": rng.standard_normal(rows)}

    def test_it_is_proved(self, rng, tmp_path):
        X, y = self.data(rng)
        proved(self.model(), X, y)
        goes_on_alike(self.model(), tmp_path, X, y)

    def test_lists_have_the_numbers_of_dicts(self, rng):
        X, y = self.data(rng)
        model = self.model()
        entries, ends = list(model.inputs.things), list(model.outputs.things)
        listed = nbbp.Model(
            entries, ends, ["softmax_cross_entropy", "mse"], nbbp.Adam(0.01), loss_weights=[1.0, 0.5]
        )  # fmt: skip
        history = listed.fit(list(X.values()), list(y.values()), epochs=2, verbose=0)
        expected = model.fit(X, y, epochs=2, verbose=0)
        assert history.step_loss.tobytes() == expected.step_loss.tobytes()
        assert list(history.epochs) == ["loss", "output_0_loss", "output_1_loss"]
        policy, value = listed.predict(list(X.values()))
        assert policy.tobytes() == model.predict(X)["policy"].tobytes()
        assert value.tobytes() == model.predict(X)["value"].tobytes()

    def test_history_evaluate_and_predict(self, rng):
        X, y = self.data(rng)
        model = self.model(dtype="float64")
        history = model.fit(X, y, epochs=3, batch_size=12, validation_data=(X, y), verbose=0)
        names = ["loss", "policy_loss", "value_loss", "policy_accuracy", "value_mae"]
        assert list(history.epochs) == names + [f"val_{name}" for name in names]
        values, predictions = model.evaluate(X, y), model.predict(X)
        assert {f"val_{name}": value for name, value in values.items()} == {
            name: history[name][-1] for name in history.epochs if name.startswith("val_")
        }
        p, v = predictions["policy"], predictions["value"][:, 0]
        policy_loss = -np.log(p[np.arange(40), y["policy"]]).mean()
        assert values["policy_loss"] == pytest.approx(policy_loss, rel=1e-12)
        assert values["value_loss"] == pytest.approx(np.mean((v - y["value"]) ** 2), rel=1e-12)
        assert values["loss"] == pytest.approx(values["policy_loss"] + 0.5 * values["value_loss"], rel=1e-12)
        assert values["policy_accuracy"] == np.mean(p.argmax(axis=1) == y["policy"])
        assert values["value_mae"] == pytest.approx(np.abs(v - y["value"]).mean(), rel=1e-12)
        for k in range(3):
            parts = history["policy_loss"][k] + 0.5 * history["value_loss"][k]
            assert history["loss"][k] == pytest.approx(parts, rel=1e-12)

    def test_weights_of_rows_at_each_output(self, rng):
        X, y = self.data(rng)
        weights = {"policy": rng.uniform(0, 2, 40), "value": None}
        model = self.model(dtype="float64", optimizer=nbbp.SGD(0.1))
        predictions, before = model.predict(X), model.evaluate(X, y, weights)
        log_p = np.log(predictions["policy"][np.arange(40), y["policy"]])
        assert before["policy_loss"] == pytest.approx(-np.mean(log_p * weights["policy"]), rel=1e-12)
        history = model.fit(X, y, batch_size=40, sample_weight=weights, verbose=0)
        assert history["policy_loss"][0] == pytest.approx(before["policy_loss"], rel=1e-12)
        assert history["value_loss"][0] == pytest.approx(before["value_loss"], rel=1e-12)
        assert history["policy_accuracy"][0] == pytest.approx(before["policy_accuracy"], rel=1e-12)
        both = model.evaluate(X, y, weights["policy"])  # one array is for all outputs
        assert both["value_loss"] != model.evaluate(X, y, weights)["value_loss"]

    def test_early_stopping_watches_an_output(self, rng):
        X, y = self.data(rng)
        patient = nbbp.callbacks.EarlyStopping("val_policy_loss", patience=2)
        held_out = self.data(rng)
        model = self.model(optimizer=nbbp.Adam(0.1))
        history = model.fit(X, y, epochs=100, validation_data=held_out, callbacks=[patient], verbose=0)
        assert len(history) < 100
        assert patient.best_epoch == 1 + int(np.argmin(history["val_policy_loss"]))
        assert model.evaluate(*held_out)["policy_loss"] == min(history["val_policy_loss"])

    def test_stopped_and_resumed_in_an_epoch(self, rng, tmp_path):
        X, y = self.data(rng)
        settings = {"epochs": 4, "batch_size": 12, "verbose": 0, "validation_data": self.data(rng, 20)}
        whole = self.model(loss_weights={"value": np.float32(0.5), "policy": 1})
        expected = whole.fit(X, y, **settings)
        callbacks = [nbbp.Checkpoint(tmp_path, every=100), StopAt(6)]
        stopped = self.model().fit(X, y, callbacks=callbacks, **settings)
        assert (len(stopped), stopped.steps) == (1, 6)
        resumed = self.model()
        history = resumed.fit(X, y, resume=tmp_path, **settings)
        assert history.epochs == expected.epochs
        assert history.step_loss.tobytes() == expected.step_loss.tobytes()
        assert resumed.params.tobytes() == whole.params.tobytes()

    def test_one_edge_at_two_outputs_has_an_activation_at_each(self, rng):
        x = nbbp.Input(3)
        h = nbbp.Dense(4)(x)
        outputs = {"a": h, "b": h, "c": ToyReshape((2, 2))(h)}
        losses = {"a": "softmax_cross_entropy", "b": "mse", "c": "binary_cross_entropy"}
        model = nbbp.Model(x, outputs, losses, dtype="float64")
        X = rng.standard_normal((700, 3))
        w, bias = model.named_params().values()
        z = X @ w + bias
        p = model.predict(X)
        np.testing.assert_allclose(p["a"], np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), rtol=1e-12)
        np.testing.assert_allclose(p["b"], z, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(p["c"], 1 / (1 + np.exp(-z.reshape(-1, 2, 2))), rtol=1e-12)
        y = {"a": rng.integers(0, 4, 700), "b": rng.standard_normal((700, 4)), "c": rng.integers(0, 2, (700, 2, 2))}
        rows = {name: values[:9] for name, values in y.items()}
        assert max(nbbp.check_gradients(model, X[:9], rows).values()) < 1e-6
        values = model.evaluate(X, y)
        assert values["b_loss"] == pytest.approx(np.mean((z - y["b"]) ** 2), rel=1e-12)


class TestStep:
    """A function called between backward and update."""

    def model(self, **settings) -> nbbp.Sequential:
        layers = [nbbp.Input(5), nbbp.Dense(6, "tanh", l2=0.01, max_norm=0.8), nbbp.Dense(2)]
        return nbbp.Sequential(layers, **{"dtype": "float64"} | settings)

    @pytest.mark.parametrize("backend", ["numba", "numpy"])
    def test_clipping_by_hand_equals_clip_norm(self, backend, rng):
        X, y = rng.standard_normal((20, 5)), rng.standard_normal((20, 2))
        clipped = self.model(optimizer=nbbp.Adam(0.05, clip_norm=0.1), backend=backend)
        by_hand = self.model(optimizer=nbbp.Adam(0.05), backend=backend)
        losses = clipped.fit(X, y, epochs=5, batch_size=20, shuffle=False, verbose=0).step_loss
        step = by_hand.step(20)
        w = by_hand.named_params()["dense_0.w"]
        for k in range(5):
            z = step.forward(X)
            assert np.mean((z - y) ** 2) + 0.01 * np.sum(w**2) == pytest.approx(losses[k], rel=1e-10)
            step.backward(2 * (z - y) / z.size)
            penalty = {"dense_0.w": 2 * 0.01 * w}
            norm = np.sqrt(sum(np.sum((g + penalty.get(name, 0)) ** 2) for name, g in named_gradients(by_hand).items()))
            scale = min(1, 0.1 / norm)
            by_hand.grads *= scale
            named_gradients(by_hand)["dense_0.w"] += (scale - 1) * penalty["dense_0.w"]  # update adds the whole of it
            step.update()
        np.testing.assert_allclose(by_hand.params, clipped.params, rtol=1e-9)

    def test_what_is_pruned_after_the_first_update_stays_0(self, rng):
        X, y = rng.standard_normal((20, 5)), rng.standard_normal((20, 2))
        model = self.model(optimizer=nbbp.Adam(0.05))
        step = model.step(20)
        for k in range(4):
            if k == 1:
                nbbp.prune(model, 0.5)
                zeros = model.params == 0
                assert zeros.any()
            z = step.forward(X)
            step.backward(2 * (z - y) / z.size)
            step.update()
        assert not model.params[zeros].any()
        assert (model.params != 0)[~zeros].all()

    def test_a_step_takes_a_mask(self, rng):
        x = nbbp.Input((4, 3))
        model = nbbp.Model(x, nbbp.Dense(2)(ToyRecurrence(5)(x)), optimizer=nbbp.SGD(0.1), dtype="float64")
        X, y = rng.standard_normal((9, 4, 3)), rng.standard_normal((9, 4, 2))
        mask = rng.integers(0, 2, (9, 4)).astype(bool)
        mask[:, 0] = True
        X[~mask], y[~mask] = np.nan, np.nan
        other = model.copy()
        expected = other.train_on_batch(X, y, mask=mask)
        step = model.step(9)
        z = step.forward(X, mask)
        error = np.where(mask[..., None], z - np.nan_to_num(y), 0)
        assert np.sum(error**2) / (2 * mask.sum()) == pytest.approx(expected, rel=1e-12)
        dX = step.backward(error / mask.sum())
        assert not dX[~mask].any()
        step.update()
        np.testing.assert_allclose(model.params, other.params, rtol=1e-12)


def named_gradients(model: nbbp.Model) -> dict[str, np.ndarray]:
    return model.network.layout.named(model.grads)


class TestFrozenAndTuned:
    """Frozen parameters, and factors of the learning rate and the weight decay."""

    def layers(self):
        return [nbbp.Input(5), Tuned(6, rate=0.1, decay=3.0), nbbp.Activation("tanh"), Tuned(4, trained=False),
                nbbp.LayerNorm(), Tuned(2, use_bias=False, rate=2.0, decay=0.5)]  # fmt: skip

    def test_it_is_proved(self, rng, tmp_path):
        X, y = rng.standard_normal((30, 5)), rng.standard_normal((30, 2))
        model = nbbp.Sequential(self.layers(), optimizer=nbbp.AdamW(0.01))
        assert "tuned_1.w" not in nbbp.check_gradients(model, X, y)
        proved(model, X, y)
        goes_on_alike(model, tmp_path, X, y)

    @pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw", "adamw on matrices", "clipped"])
    def test_against_parameter_groups_of_pytorch(self, optimizer, rng):
        torch = pytest.importorskip("torch")
        X, y = rng.standard_normal((30, 5)), rng.standard_normal((30, 2))
        ours = {
            "sgd": nbbp.SGD(0.05), "momentum": nbbp.SGD(0.05, momentum=0.9),
            "adamw": nbbp.AdamW(0.01, weight_decay=0.1), "clipped": nbbp.SGD(0.05, clip_norm=0.2),
            "adamw on matrices": nbbp.AdamW(0.01, weight_decay=0.1, decay_vectors=False),
        }[optimizer]  # fmt: skip
        model = nbbp.Sequential(self.layers(), optimizer=ours, dtype="float64")
        frozen = model.named_params()["tuned_1.w"].copy()
        p = {name: torch.tensor(value.copy(), requires_grad=True) for name, value in model.named_params().items()}
        rate, decay = (0.01, 0.1) if "adamw" in optimizer else (0.05, 0.0)
        factors = {"tuned_0.w": (0.1, 3.0), "tuned_2.w": (2.0, 0.5)}
        groups = []
        for name in p:
            if name != "tuned_1.w":
                r, d = factors.get(name, (1.0, 1.0))
                d *= optimizer != "adamw on matrices" or p[name].ndim > 1
                groups.append({"params": [p[name]], "lr": rate * r, "weight_decay": decay * d})
        theirs = torch.optim.AdamW(groups, eps=ours.epsilon) if "adamw" in optimizer else torch.optim.SGD(
            groups, momentum=0.9 if optimizer == "momentum" else 0.0)  # fmt: skip
        p["tuned_1.w"].requires_grad_(False)
        trained = [value for name, value in p.items() if name != "tuned_1.w"]
        for _ in range(5):
            theirs.zero_grad()
            h = (torch.tensor(X) @ p["tuned_0.w"] + p["tuned_0.b"]).tanh() @ p["tuned_1.w"] + p["tuned_1.b"]
            h = torch.nn.functional.layer_norm(h, (4,), p["layernorm_0.gamma"], p["layernorm_0.beta"], 1e-5)
            loss = torch.nn.functional.mse_loss(h @ p["tuned_2.w"], torch.tensor(y))
            loss.backward()
            if optimizer == "clipped":
                norm = torch.sqrt(sum((w.grad**2).sum() for w in trained))
                for w in trained:
                    w.grad *= min(1.0, 0.2 / norm)
            theirs.step()
            step_loss = model.fit(X, y, batch_size=30, shuffle=False, verbose=0).step_loss[0]
            assert step_loss == pytest.approx(loss.item(), rel=1e-9)
        for name, value in model.named_params().items():
            np.testing.assert_allclose(value, p[name].detach(), rtol=1e-7, atol=1e-12, err_msg=name)
        np.testing.assert_array_equal(model.named_params()["tuned_1.w"], frozen)

    def test_frozen_ones_have_no_gradient_whatever_is_asked(self, rng):
        """Noise, a penalty and a bound leave them, and clip_norm does not count them."""
        X, y = rng.standard_normal((30, 5)), rng.standard_normal((30, 2))
        layers = [nbbp.Input(5), Tuned(6, l1=0.1, l2=0.1, max_norm=0.01, trained=False), nbbp.Dense(2)]
        model = nbbp.Sequential(layers, optimizer=nbbp.SGD(0.1, gradient_noise=0.1, clip_norm=0.5), dtype="float64")
        frozen = model.named_params()["tuned_0.w"].copy()
        loss = np.mean((model.predict(X) - y) ** 2)
        assert model.evaluate(X, y)["loss"] == pytest.approx(loss, rel=1e-12)
        for accumulate in (1, 2):
            model.fit(X, y, epochs=3, batch_size=15, accumulate=accumulate, verbose=0)
        np.testing.assert_array_equal(model.named_params()["tuned_0.w"], frozen)
        slopes = named_gradients(model)
        assert not slopes["tuned_0.w"].any()
        assert np.linalg.norm(model.grads) <= 0.5 + 1e-12
        step = model.step(30)
        z = step.forward(X)
        step.backward(2 * (z - y) / z.size)
        step.update()
        np.testing.assert_array_equal(model.named_params()["tuned_0.w"], frozen)


class TestTargetsOfOtherColumns:
    """A loss whose targets have other columns than the outputs."""

    @pytest.fixture(autouse=True)
    def entered(self, monkeypatch):
        monkeypatch.setitem(nbbp.LOSSES, gaussian_nll.name, gaussian_nll)

    def model(self, **settings) -> nbbp.Sequential:
        layers = [nbbp.Input(4), nbbp.Dense(6, "tanh"), nbbp.Dense(4)]
        return nbbp.Sequential(layers, **{"loss": gaussian_nll, "optimizer": nbbp.Adam(0.01)} | settings)

    def test_it_is_proved(self, rng, tmp_path):
        X, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 2))
        proved(self.model(), X, y)
        goes_on_alike(self.model(), tmp_path, X, y)

    def test_against_its_equation(self, rng):
        X, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 2))
        model = self.model(loss="toy_gaussian_nll", dtype="float64")
        mean, log_variance = np.split(model.predict(X), 2, axis=1)
        expected = (0.5 * (log_variance + (mean - y) ** 2 / np.exp(log_variance))).sum(axis=1)
        weights = rng.uniform(0, 1, 30)
        assert model.evaluate(X, y)["loss"] == pytest.approx(expected.mean(), rel=1e-12)
        assert model.evaluate(X, y, weights)["loss"] == pytest.approx((expected * weights).mean(), rel=1e-12)
        with pytest.raises(ValueError, match="y needs 2 columns in all for each of the model's 4 outputs"):
            model.fit(X, np.zeros((30, 4)), verbose=0)


class TestOrder:
    """Nodes of a graph that comes from elsewhere go with those that were made here."""

    def test_a_copy_beside_the_original_in_one_graph(self, rng):
        x = nbbp.Input(3)
        model = nbbp.Model(x, nbbp.Dense(4, "tanh")(nbbp.Dense(5, "tanh")(x)), dtype="float64")
        twin = pickle.loads(pickle.dumps(model))
        both = nbbp.Add()(model.outputs.things[0], twin.outputs.things[0])
        joined = nbbp.Model([x, twin.inputs.things[0]], both, dtype="float64")
        X = rng.standard_normal((5, 3))
        assert len(joined.layers) == 9
        assert len(joined.params) == 2 * len(model.params)
        own = {value.shape: value for value in model.named_params().values()}
        for value in joined.named_params().values():
            value[:] = own[value.shape]
        np.testing.assert_allclose(joined.predict([X, X]), 2 * model.predict(X), rtol=1e-12)

    def test_a_deep_graph_is_copied(self):
        x = h = nbbp.Input(2)
        for _ in range(300):
            h = nbbp.Add()(h, nbbp.Activation("tanh")(h))
        model = nbbp.Model(x, h, backend="numpy", dtype="float64")
        X = np.ones((2, 2)) / 1000
        for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            np.testing.assert_array_equal(twin.predict(X), model.predict(X))
