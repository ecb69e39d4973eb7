"""The step in the user's hands: the bits of a fit, the gradients of autograd, and what it refuses."""

import threading

import numpy as np
import pytest

import nbbp
from nbbp.engine import planner


def tiny(**settings) -> nbbp.Sequential:
    """A network of 3 inputs and 2 outputs, built."""
    model = nbbp.Sequential([nbbp.Dense(5, "tanh"), nbbp.Dense(2)], **{"optimizer": nbbp.SGD(0.1)} | settings)
    model.build(3)
    return model


def data(rows: int, rng, dtype="float32") -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((rows, 3)).astype(dtype), rng.standard_normal((rows, 2)).astype(dtype)


def half_squares(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient of half_mse as its kernel rounds it: mean over rows of half the squared distance."""
    return (z - y) * z.dtype.type(1 / len(z))


def train(step, X, y, times: int = 1) -> None:
    for _ in range(times):
        step.backward(half_squares(step.forward(X), y))
        step.update()


def arrays(model) -> list[np.ndarray]:
    """All that an update changes."""
    mean = [] if model.update.mean is None else [model.update.mean]
    return [model.params, model.grads, model.network.state, *model.update.moments, *mean]


def assert_equal_bits(model, other) -> None:
    for mine, theirs in zip(arrays(model), arrays(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert model.steps == other.steps


NETWORKS = {
    "dense": ([nbbp.Dense(8, "relu")], {}),
    "dropout": ([nbbp.Dense(8, "relu"), nbbp.Dropout(0.4)], {}),
    "noise": ([nbbp.GaussianNoise(0.3), nbbp.Dense(8, "relu")], {}),
    "penalties": ([nbbp.Dense(8, "relu", l1=0.01, l2=0.02)], {}),
    "max norm": ([nbbp.Dense(8, "relu", max_norm=0.7)], {}),
    "clipping": ([nbbp.Dense(8, "relu")], {"optimizer": nbbp.SGD(0.5, momentum=0.9, clip_norm=0.1)}),
    "gradient noise": ([nbbp.Dense(8, "relu")], {"optimizer": nbbp.SGD(0.1, gradient_noise=0.1, clip_value=0.05)}),
    "schedule": ([nbbp.Dense(8, "relu")], {"optimizer": nbbp.Adam(nbbp.schedules.Cosine(0.1, 10))}),
    "averaging": ([nbbp.Dense(8, "relu")], {"averaging": nbbp.EMA(0.9)}),
    "batch norm": ([nbbp.Dense(8), nbbp.BatchNorm(), nbbp.Activation("relu")], {}),
    "layer norm": ([nbbp.Dense(8), nbbp.LayerNorm(), nbbp.Activation("gelu")], {}),
    "residual": ([nbbp.Dense(8), nbbp.Residual([nbbp.Dense(8, "relu")])], {"optimizer": "adam"}),
}


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("rows", [1, 64, 512])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_has_the_bits_of_a_fit_of_one_mini_batch(name, rows, backend, rng):
    """512 rows are cut into shards, if they do not depend on each other."""
    if name == "batch norm" and rows == 1:
        pytest.skip("a fit of mini-batches of one row is refused")
    layers, settings = NETWORKS[name]
    settings = {"loss": "half_mse", "backend": backend} | settings
    model, other = (nbbp.Sequential([*layers, nbbp.Dense(2)], **settings) for _ in range(2))
    X, y = data(rows, rng)
    X[0, 0] = 1e-42  # denormal
    model.build(3)
    assert (len(planner.shards(model.network, rows)) > 1) == (rows == 512 and name != "batch norm")
    train(model.step(rows), X, y, times=4)
    other.fit(X, y, epochs=4, batch_size=rows, shuffle=False, verbose=0)
    assert_equal_bits(model, other)


@pytest.mark.parametrize("rows", [1, 7, 200])
def test_fewer_rows_than_the_step_was_made_for(rows, rng):
    X, y = data(rows, rng)
    model, other = tiny(loss="half_mse"), tiny(loss="half_mse")
    step = model.step(256)
    train(step, *data(256, np.random.default_rng(5)))
    train(other.step(256), *data(256, np.random.default_rng(5)))
    train(step, X, y, times=2)
    train(other.step(rows), X, y, times=2)
    assert_equal_bits(model, other)


def test_a_rate_on_a_schedule_holds_for_rows_that_are_bound_later(rng):
    """What changes from step to step reaches programs that are bound between two fillings of its table."""
    rate = nbbp.schedules.Exponential(0.5, 10)
    models = [tiny(loss="half_mse", optimizer=nbbp.SGD(rate)) for _ in range(2)]
    X, y = data(8, rng)
    step = models[0].step(8)
    for k in range(20):
        train(step, X[: 8 - k % 3], y[: 8 - k % 3])
        models[1].fit(X[: 8 - k % 3], y[: 8 - k % 3], batch_size=8, shuffle=False, verbose=0)
    assert_equal_bits(*models)


def test_random_numbers_count_forwards_beyond_what_is_known_beforehand(rng):
    model = nbbp.Sequential([nbbp.Dropout(0.5), nbbp.Dense(2)])
    model.build(3)
    X, step = data(64, rng)[0], model.step(64)
    drawn = [step.forward(X).copy() for _ in range(600)]
    assert len({z.tobytes() for z in drawn}) == 600
    again = model.step(64)
    for z in drawn:
        np.testing.assert_array_equal(again.forward(X), z)


def test_without_training_layers_behave_as_in_prediction(rng):
    model = nbbp.Sequential([nbbp.BatchNorm(), nbbp.Dropout(0.5), nbbp.Dense(2)], loss="mse")
    model.build(3)
    X, _ = data(16, rng)
    model.step(16).forward(X)
    before = model.network.state.copy()
    assert np.ptp(before) > 0
    np.testing.assert_array_equal(model.step(16, training=False).forward(X), model.predict(X))
    np.testing.assert_array_equal(model.network.state, before)


def test_outputs_come_before_the_output_activation(rng):
    model = tiny(loss="softmax_cross_entropy")
    X, _ = data(6, rng)
    z = model.step(6, training=False).forward(X)
    np.testing.assert_allclose(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), model.predict(X), rtol=1e-5)


@pytest.mark.parametrize("add", [False, True])
def test_backward_belongs_to_one_forward(add, rng):
    model, (X, y) = tiny(), data(4, rng)
    step = model.step(4)
    with pytest.raises(RuntimeError, match=r"call forward\(X\) before"):
        step.backward(y, add=add)
    step.forward(X)
    step.backward(y, add=add)
    before = model.grads.copy()
    with pytest.raises(RuntimeError, match=r"call forward\(X\) before"):
        step.backward(y, add=add)
    np.testing.assert_array_equal(model.grads, before)


def test_an_update_between_forward_and_backward_is_an_error(rng):
    model, (X, y) = tiny(), data(4, rng)
    step, other = model.step(4), model.step(4)
    step.forward(X)
    train(other, X, y)
    with pytest.raises(RuntimeError, match="call update after backward"):
        step.backward(y)
    step.forward(X)
    step.backward(y)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_gradients_are_added(backend, rng):
    model, (X, y) = tiny(backend=backend), data(300, rng)
    step, parts = model.step(200), []
    for rows in (slice(0, 200), slice(200, 300), slice(50, 60)):
        step.forward(X[rows])
        step.backward(y[rows])
        parts.append(model.grads.copy())
    model.grads[:] = 0
    for rows in (slice(0, 200), slice(200, 300), slice(50, 60)):
        step.forward(X[rows])
        step.backward(y[rows], add=True)
    np.testing.assert_array_equal(model.grads, parts[0] + parts[1] + parts[2])


def test_steps_of_one_model_share_its_parameters(rng):
    model, (X, y) = tiny(loss="half_mse"), data(64, rng)
    one, many, same = model.step(1, training=False), model.step(64), model.step(64)
    seen = []
    for _ in range(5):
        seen.append(one.forward(X[:1]).copy())
        np.testing.assert_allclose(seen[-1], model.predict(X[:1]), rtol=1e-6)
        train(many, X, y)
        train(same, X, y)
    assert len({z.tobytes() for z in seen}) == 5
    other = tiny(loss="half_mse")
    train(other.step(64), X, y, times=10)
    assert_equal_bits(model, other)


def test_another_learning_rate_holds_from_the_next_update(rng):
    (X, y), expected = data(8, rng), tiny(loss="half_mse", optimizer=nbbp.SGD(0.1)).params.copy()
    model = tiny(loss="half_mse", optimizer=nbbp.SGD(0.1))
    step = model.step(8)
    for rate in (0.1, 0.02, 0.3):
        model.learning_rate = rate
        train(step, X, y)
        expected -= np.float32(rate) * model.grads
        np.testing.assert_allclose(model.params, expected, rtol=1e-6, atol=1e-7)


def test_pruned_weights_stay_pruned(rng):
    model, (X, y) = tiny(optimizer="adam"), data(8, rng)
    step = model.step(8)
    train(step, X, y)
    nbbp.prune(model, 0.5)
    train(step, X, y, times=3)
    assert np.count_nonzero(model.params == 0) == np.count_nonzero(model.network.mask == 0) > 0


def test_a_fit_goes_on_from_steps_and_steps_from_a_fit(rng):
    X, y = data(32, rng)
    model, other = (tiny(loss="half_mse", optimizer=nbbp.Adam(0.01)) for _ in range(2))
    step = model.step(32)
    for _ in range(3):
        train(step, X, y)
        model.fit(X, y, batch_size=32, shuffle=False, verbose=0)
        model.train_on_batch(X, y)
    other.fit(X, y, epochs=9, batch_size=32, shuffle=False, verbose=0)
    assert_equal_bits(model, other)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_train_on_batch_is_a_fit_of_all_rows(backend, rng):
    models = [tiny(loss="mse", optimizer="adam", backend=backend) for _ in range(2)]
    for rows in (64, 1, 512, 64):
        X, y = data(rows, rng)
        weights = rng.random(rows)
        loss = models[0].train_on_batch(X, y, sample_weight=weights)
        history = models[1].fit(X, y, batch_size=rows, shuffle=False, verbose=0, sample_weight=weights)
        assert loss == history["loss"][0] == history.step_loss[0]
        assert_equal_bits(*models)


def test_train_on_batch_says_where_it_diverges(rng):
    model, (X, y) = tiny(loss="mse"), data(4, rng)
    model.params[0] = np.nan
    with pytest.raises(nbbp.DivergenceError, match="nan"):
        model.train_on_batch(X, y)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_two_losses_of_ones_own_agree_with_autograd(backend, rng):
    """Several inputs and outputs in dicts, of which paths meet; gradients of parameters and of inputs."""
    torch = pytest.importorskip("torch")
    a, b = nbbp.Input(3, name="a"), nbbp.Input(4, name="b")
    h = nbbp.Dense(6, "tanh")(nbbp.Concatenate()(a, b))
    h = nbbp.Add()(h, nbbp.Dense(6, "gelu")(h))
    outputs = {"policy": nbbp.Dense(2)(h), "value": nbbp.Dense(1)(h)}
    model = nbbp.Model({"a": a, "b": b}, outputs, dtype="float64", backend=backend)
    model.params[:] = rng.normal(0, 0.5, model.params.size)
    X = {"a": rng.standard_normal((5, 3)), "b": rng.standard_normal((5, 4))}
    actions, returns = rng.integers(0, 2, 5), rng.standard_normal((5, 1))

    step = model.step(5)
    z = step.forward(X)
    share = np.exp(z["policy"]) / np.exp(z["policy"]).sum(axis=1, keepdims=True)
    dX = step.backward({"policy": share - np.eye(2)[actions], "value": 2 * (z["value"] - returns)})

    p = {name: torch.tensor(w, requires_grad=True) for name, w in model.named_params().items()}
    x = {name: torch.tensor(array, requires_grad=True) for name, array in X.items()}
    dense = lambda k, t: t @ p[f"dense_{k}.w"] + p[f"dense_{k}.b"]  # noqa: E731
    first = torch.tanh(dense(0, torch.cat([x["a"], x["b"]], 1)))
    second = first + torch.nn.functional.gelu(dense(1, first))
    policy, value = dense(2, second), dense(3, second)
    np.testing.assert_allclose(z["policy"], policy.detach(), rtol=1e-11)
    F = torch.nn.functional
    loss = (
        F.cross_entropy(policy, torch.tensor(actions), reduction="sum") + ((value - torch.tensor(returns)) ** 2).sum()
    )
    loss.backward()
    for name in ("a", "b"):
        np.testing.assert_allclose(dX[name], x[name].grad, rtol=1e-9, atol=1e-13)
    for name, gradient in model.network.named_grads.items():
        np.testing.assert_allclose(gradient, p[name].grad, rtol=1e-9, atol=1e-13)


def test_a_gradient_flows_from_one_model_into_another(rng):
    """An actor that is trained by the gradient of its critic's value with respect to the action."""
    torch = pytest.importorskip("torch")
    actor = nbbp.Sequential([nbbp.Dense(4, "tanh"), nbbp.Dense(1, "tanh")], optimizer=nbbp.SGD(0.1), dtype="float64")
    actor.build(3)
    x = [nbbp.Input(3), nbbp.Input(1)]
    value = nbbp.Dense(1)(nbbp.Dense(5, "tanh")(nbbp.Concatenate()(*x)))
    critic = nbbp.Model(x, value, optimizer=nbbp.SGD(0.1), dtype="float64")
    X, rows = rng.standard_normal((6, 3)), 6
    acting, judging = actor.step(rows), critic.step(rows)
    p = [{n: torch.tensor(w.copy(), requires_grad=True) for n, w in m.named_params().items()} for m in (actor, critic)]
    for _ in range(3):
        action = acting.forward(X)
        q = judging.forward([X, action])
        _, slope = judging.backward(np.full_like(q, -1 / rows))  # up with the value
        acting.backward(slope)
        acting.update()

        dense = lambda m, k, t: t @ p[m][f"dense_{k}.w"] + p[m][f"dense_{k}.b"]  # noqa: E731
        t = torch.tensor(X)
        action = torch.tanh(dense(0, 1, torch.tanh(dense(0, 0, t))))
        judged = dense(1, 1, torch.tanh(dense(1, 0, torch.cat([t, action], 1))))
        (-judged.mean()).backward()
        for name, w in p[0].items():
            np.testing.assert_allclose(actor.network.named_grads[name], w.grad, rtol=1e-9, atol=1e-13)
            w.data -= 0.1 * w.grad
            w.grad = None
    assert critic.steps == 0
    assert actor.steps == 3


def test_masked_elements_are_as_if_they_were_not_there(rng):
    x = nbbp.Input((4, 3))
    model = nbbp.Model(x, nbbp.Dense(2)(nbbp.Dense(5, "tanh")(x)), loss="half_mse", optimizer="adam")
    other = model.copy()
    X, y = rng.standard_normal((6, 4, 3)).astype("f4"), rng.standard_normal((6, 4, 2)).astype("f4")
    mask = rng.random((6, 4)) < 0.6
    X[~mask], y[~mask] = np.inf, 1e30
    X = np.where(mask[..., None], X, 9)
    step = model.step(8)
    z = step.forward(X, mask=mask)
    dX = step.backward((z - y) * np.float32(1 / mask.sum()))
    step.update()
    assert not dX[~mask].any()
    other.fit(X, y, batch_size=6, shuffle=False, verbose=0, mask=mask)
    np.testing.assert_allclose(model.params, other.params, rtol=1e-5, atol=1e-6)
    assert step.forward(X).shape == (6, 4, 2)


@pytest.mark.parametrize(
    ("dz", "message"),
    [
        (np.ones((2, 4), "f4"), r"shape of the outputs \(4, 2\), got float32 \(2, 4\)"),
        (np.ones((4, 1), "f4"), r"got float32 \(4, 1\)"),
        (np.ones(8, "f4"), r"got float32 \(8,\)"),
        (1.0, r"got float64 \(\)"),
        (np.ones((4, 2), complex), "got complex128"),
        (None, "got object"),
    ],
)
def test_a_gradient_of_another_shape_is_refused_and_the_right_one_taken(dz, message, rng):
    model, (X, y) = tiny(), data(4, rng)
    step = model.step(8)
    step.forward(X)
    with pytest.raises(ValueError, match=message):
        step.backward(dz)
    assert step.backward(y).shape == (4, 3)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (3, "a row for each sample, got the single number 3"),
        (np.ones(3), "must have two axes"),
        (np.ones((4, 5)), "the model takes 3 features, got 5"),
        (np.ones((9, 3)), "X has 9 rows and the step takes 8 at most"),
        (np.ones((0, 3)), "X is empty"),
        (np.full((4, 3), np.nan), "X must be finite, got nan in row 0, column 0"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_and_leave_the_last_forward(X, message, rng):
    model, (given, y) = tiny(), data(4, rng)
    step = model.step(8)
    step.forward(given)
    with pytest.raises(ValueError, match=message):
        step.forward(X)
    step.backward(y)


def test_integers_and_other_floats_are_cast(rng):
    model = tiny()
    X = rng.integers(-3, 4, (4, 3))
    expected = model.step(4).forward(X.astype("f4")).copy()
    for given in (X, X.astype("f8"), X.tolist(), np.asfortranarray(X.astype("f4"))):
        np.testing.assert_array_equal(model.step(4).forward(given), expected)


def test_a_step_needs_a_model_that_knows_its_inputs_and_some_rows():
    with pytest.raises(RuntimeError, match="build"):
        nbbp.Sequential([nbbp.Dense(1)]).step(4)
    for batch_size, error in ((0, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="batch_size"):
            tiny().step(batch_size)


def test_callers_arrays_stay_as_they_are(rng):
    model, (X, y) = tiny(), data(8, rng)
    given = X.copy(), y.copy()
    step = model.step(8)
    z = step.forward(X)
    z[:] = 0  # the caller's to change: backward reads nothing of it
    step.backward(y)
    first = model.grads.copy()
    step.forward(X)
    step.backward(y)
    np.testing.assert_array_equal(model.grads, first)
    np.testing.assert_array_equal(X, given[0])
    np.testing.assert_array_equal(y, given[1])


def test_models_train_in_threads_of_their_own(rng):
    X, y = data(300, rng)
    models = [tiny(loss="half_mse", seed=seed) for seed in range(4)]
    threads = [threading.Thread(target=lambda m=m: train(m.step(300), X, y, times=20)) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, model in enumerate(models):
        other = tiny(loss="half_mse", seed=seed)
        train(other.step(300), X, y, times=20)
        assert_equal_bits(model, other)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("loss", ["mse", "softmax_cross_entropy", "binary_cross_entropy"])
def test_input_gradients_and_jacobian_agree_with_central_differences(loss, backend, rng):
    model = tiny(loss=loss, dtype="float64", backend=backend)
    model.params[:] = rng.normal(0, 0.7, model.params.size)
    X, y = rng.standard_normal((5, 3)), np.eye(2)[rng.integers(0, 2, 5)]
    grads, state = model.grads.copy(), model.network.state.copy()
    jacobian, gradients = model.jacobian(X), None
    np.testing.assert_array_equal(model.grads, grads)
    gradients = model.input_gradients(X, y)
    assert (jacobian.shape, jacobian.dtype, gradients.shape) == ((5, 2, 3), np.float64, (5, 3))
    for j in range(3):
        aside = 1e-6 * np.eye(3)[j]
        up, down = X + aside, X - aside
        np.testing.assert_allclose(
            jacobian[:, :, j], (model.predict(up) - model.predict(down)) / 2e-6, rtol=1e-6, atol=1e-9
        )
        for i in range(5):
            rows = np.where(np.arange(5)[:, None] == i, aside, 0)
            slope = (model.evaluate(X + rows, y)["loss"] - model.evaluate(X - rows, y)["loss"]) / 2e-6
            np.testing.assert_allclose(gradients[i, j], slope, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(model.network.state, state)


def test_jacobian_agrees_with_autograd_at_several_outputs(rng):
    torch = pytest.importorskip("torch")
    x = nbbp.Input(3)
    h = nbbp.Dense(4, "tanh")(x)
    model = nbbp.Model(x, [nbbp.Dense(2)(h), nbbp.Dense(1)(h)], ["softmax_cross_entropy", "mse"], dtype="float64")
    p = {name: torch.tensor(w) for name, w in model.named_params().items()}

    def forward(row):
        hidden = torch.tanh(row @ p["dense_0.w"] + p["dense_0.b"])
        policy, value = (hidden @ p[f"dense_{k}.w"] + p[f"dense_{k}.b"] for k in (1, 2))
        return torch.cat([torch.softmax(policy, 0), value])

    X = rng.standard_normal((4, 3))
    expected = np.stack([torch.autograd.functional.jacobian(forward, torch.tensor(row)) for row in X])
    np.testing.assert_allclose(model.jacobian(X), expected, rtol=1e-10, atol=1e-13)


def test_integers_have_no_gradient(rng):
    x = nbbp.Input(3, dtype="int32")
    model = nbbp.Model(x, nbbp.Dense(1)(nbbp.ColumnEmbedding({0: 5, 1: 5, 2: 5})(x)))
    X = rng.integers(0, 5, (600, 3))  # more rows than a block of predictions has
    step = model.step(600)
    np.testing.assert_array_equal(step.forward(X), model.predict(X))
    assert step.backward(np.ones((600, 1))) is None
    assert model.grads.any()
    with pytest.raises(TypeError, match="no derivatives"):
        model.jacobian(X)


def test_blend_moves_parameters_and_running_statistics_and_no_moments(rng):
    layers = [nbbp.Dense(4), nbbp.BatchNorm(), nbbp.Dense(2)]
    model, other = (nbbp.Sequential(layers, optimizer="adam", seed=seed) for seed in (1, 2))
    for each in (model, other):
        each.fit(*data(32, rng), epochs=2, verbose=0)
    mine, theirs, moments = model.params.copy(), other.params.copy(), [m.copy() for m in model.update.moments]
    running = model.network.state.copy(), other.network.state.copy()
    model.blend(other, share=0.25)
    np.testing.assert_allclose(model.params, 0.75 * mine + 0.25 * theirs, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(model.network.state, 0.75 * running[0] + 0.25 * running[1], rtol=1e-5, atol=1e-7)
    model.blend(other, share=0)
    np.testing.assert_array_equal(other.params, theirs)
    model.params[0] = np.nan
    model.blend(other, share=1)
    np.testing.assert_array_equal(model.params, theirs)
    np.testing.assert_array_equal(model.network.state, running[1])
    for before, after in zip(moments, model.update.moments, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("share", [-0.1, 1.5, np.nan])
def test_blend_refuses_other_shares(share):
    with pytest.raises(ValueError, match="share must be"):
        tiny().blend(tiny(), share=share)


def test_blend_refuses_other_layers():
    wider = nbbp.Sequential([nbbp.Dense(6, "tanh"), nbbp.Dense(2)])
    wider.build(3)
    with pytest.raises(ValueError, match=r"same layers; the other has dense_0.w \(3, 6\)"):
        tiny().blend(wider, share=0.5)
    deeper = nbbp.Sequential([nbbp.Dense(5, "tanh"), nbbp.Dense(2), nbbp.Dense(2)])
    deeper.build(3)
    with pytest.raises(ValueError, match="dense_2"):
        tiny().blend(deeper, share=0.5)
    with pytest.raises(ValueError, match="fewer parameters"):
        deeper.blend(tiny(), share=0.5)


def test_what_is_bound_is_not_bound_again(rng, monkeypatch):
    """A second call on as many rows of other arrays makes no program."""
    model = tiny(loss="mse")
    calls = {
        "gradients": lambda X, y: model.gradients(X, y), "input_gradients": lambda X, y: model.input_gradients(X, y),
        "jacobian": lambda X, y: model.jacobian(X), "train_on_batch": lambda X, y: model.train_on_batch(X, y),
        "fit": lambda X, y: model.fit(X, y, verbose=0), "evaluate": lambda X, y: model.evaluate(X, y),
        "predict": lambda X, y: model.predict(X),
    }  # fmt: skip
    for call in calls.values():
        call(*data(16, rng))

    def refuse(*arguments, **settings):
        raise AssertionError("bound again")

    monkeypatch.setattr("nbbp.engine.program.Program.__init__", refuse)
    for call in calls.values():
        call(*data(16, rng))
