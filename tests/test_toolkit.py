"""What stands around the network in training: penalties, clipping, optimizers, schedules, weights, averages."""

import numpy as np
import pytest

import nbbp
from nbbp import schedules
from nbbp.engine.program import Program
from nbbp.engine.runner import Runner
from nbbp.kernels.gradients import noise

BACKENDS = ["numba", "numpy"]


def linear(optimizer=None, **settings) -> nbbp.Sequential:
    """y = x . w with mean squared error, of which everything is known in closed form."""
    layer = {key: settings.pop(key) for key in ("l1", "l2", "max_norm") if key in settings}
    model = nbbp.Sequential(
        [nbbp.Dense(2, use_bias=False, **layer)],
        **{"optimizer": optimizer or nbbp.SGD(0.1), "dtype": "float64"} | settings,
    )
    model.build(3)
    return model


def mse_gradient(x, y, w):
    return 2 * x.T @ (x @ w - y) / y.size


@pytest.fixture
def data(rng):
    return rng.standard_normal((40, 3)), rng.standard_normal((40, 2))


def one_epoch(model, X, y, **settings):
    return model.fit(X, y, **{"batch_size": 40, "shuffle": False, "verbose": 0} | settings)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("l1", "l2"), [(0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
def test_penalties(l1, l2, backend, data):
    X, y = data
    model = linear(l1=l1, l2=l2, backend=backend)
    w = model.params.reshape(3, 2)
    w[0, 0] = 0  # where |w| has slope 0
    loss = np.mean((X @ w - y) ** 2) + l1 * np.abs(w).sum() + l2 * np.square(w).sum()
    gradient = mse_gradient(X, y, w) + l1 * np.sign(w) + 2 * l2 * w
    assert model.evaluate(X, y)["loss"] == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(model.gradients(X, y)["dense_0.w"], gradient, rtol=1e-12)
    expected = w - 0.1 * gradient
    history = one_epoch(model, X, y, validation_data=(X, y))
    assert history["loss"][0] == pytest.approx(loss, rel=1e-12)
    assert history["val_loss"][0] == pytest.approx(model.evaluate(X, y)["loss"], rel=1e-12)
    np.testing.assert_allclose(w, expected, rtol=1e-12)


@pytest.mark.parametrize("settings", [{"batch_size": 7}, {"batch_size": 3, "accumulate": 4}])
def test_penalties_count_once_in_each_mini_batch(settings, data):
    X, y = data
    model = linear(nbbp.SGD(1e-12), l1=0.1, l2=0.2)
    w = model.params
    penalty = 0.1 * np.abs(w).sum() + 0.2 * np.square(w).sum()
    history = one_epoch(model, X, y, **settings)
    rows = settings["batch_size"] * settings.get("accumulate", 1)
    plain = [np.mean((X[i : i + rows] @ w.reshape(3, 2) - y[i : i + rows]) ** 2) for i in range(0, 40, rows)]
    np.testing.assert_allclose(history.step_loss, np.array(plain) + penalty, rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_max_norm_holds_after_every_step(backend, data):
    X, y = data
    model = linear(nbbp.SGD(0.5), max_norm=0.3, backend=backend)
    w = model.params.reshape(3, 2)
    w[:] = [[0.1, 1.0], [0.0, 1.0], [0.0, 1.0]]
    for begin in range(0, 40, 8):
        x, t = X[begin : begin + 8], y[begin : begin + 8]
        free = w - 0.5 * mse_gradient(x, t, w)
        norms = np.linalg.norm(free, axis=0)
        expected = free * np.minimum(1, 0.3 / norms)
        one_epoch(model, x, t)
        np.testing.assert_allclose(w, expected, rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_clip_value(backend, data):
    X, y = data
    model = linear(nbbp.SGD(1.0, clip_value=0.4), backend=backend)
    w = model.params.reshape(3, 2).copy()
    gradient = mse_gradient(X, y, w)
    assert np.abs(gradient).min() < 0.4 < np.abs(gradient).max()
    one_epoch(model, X, y)
    np.testing.assert_allclose(model.params.reshape(3, 2), w - np.clip(gradient, -0.4, 0.4), rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_clip_norm_agrees_with_pytorch(limit, backend, rng):
    """Over all parameters together, of which there are several pieces."""
    torch = pytest.importorskip("torch")
    X, y = rng.standard_normal((20, 60)), rng.standard_normal((20, 2))
    layers = [nbbp.Dense(150, activation="tanh"), nbbp.Dense(2)]
    model = nbbp.Sequential(layers, optimizer=nbbp.SGD(1.0, clip_norm=limit), dtype="float64", backend=backend)
    model.build(60)
    parameters = []
    for gradient in model.gradients(X, y).values():
        parameters.append(torch.zeros(gradient.shape, dtype=torch.float64))
        parameters[-1].grad = torch.tensor(gradient.copy())
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit).item()
    expected = np.concatenate([p.grad.numpy().ravel() for p in parameters])
    model.fit(X, y, batch_size=20, shuffle=False, verbose=0)
    assert np.linalg.norm(model.grads) == pytest.approx(min(norm, limit), rel=1e-12)
    np.testing.assert_allclose(model.grads, expected, rtol=1.1e-6 / norm)  # PyTorch adds 1e-6 to the norm


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("step", [0, 999])
def test_gradient_noise_has_the_variance_of_its_step(step, backend):
    program, g = Program(backend, np.float64, 1), np.zeros(50_000)
    program.clock.set(before=step // 2, step=step - step // 2)
    program.call(noise, g, np.array([0.3]), np.array([5], np.uint64), program.clock.record)
    Runner(program).once()
    assert g.var() == pytest.approx(0.3 / (1 + step) ** 0.55, rel=5 * (2 / g.size) ** 0.5)
    assert g.mean() == pytest.approx(0, abs=5 * (g.var() / g.size) ** 0.5)


def test_gradient_noise_is_new_at_each_step_and_the_same_in_both_backends(data):
    X, y = data
    steps = []
    for backend in BACKENDS:
        model = linear(nbbp.SGD(1.0, gradient_noise=0.1), backend=backend)
        clean = [model.gradients(X, y)["dense_0.w"].copy()]
        one_epoch(model, X, y)
        steps.append(model.grads.reshape(3, 2) - clean[0])
        clean = model.gradients(X, y)["dense_0.w"].copy()
        one_epoch(model, X, y)
        steps.append(model.grads.reshape(3, 2) - clean)
    np.testing.assert_allclose(steps[:2], steps[2:], rtol=1e-9)
    assert np.abs(steps[0] - steps[1]).min() > 1e-6


def test_gradient_noise_does_not_follow_dropout():
    """Their random numbers come from different streams, however the mini-batch is cut."""
    X, y = np.ones((512, 8)), np.zeros((512, 8))
    found = []
    for layers in ([], [nbbp.Dropout(0.5)]):
        for rows in (512, 16):
            model = nbbp.Sequential(
                [nbbp.Dense(8, use_bias=False, initializer="zeros"), *layers],
                optimizer=nbbp.SGD(1.0, gradient_noise=0.1), dtype="float64",
            )  # fmt: skip
            model.fit(X[:rows], y[:rows], batch_size=rows, verbose=0)
            found.append(model.params.copy())
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nadam_agrees_with_pytorch(backend, rng):
    torch = pytest.importorskip("torch")
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of the product of its momenta
    try:
        X, y = rng.standard_normal((120, 3)), rng.standard_normal((120, 2))
        model = linear(nbbp.Nadam(), backend=backend)
        w = torch.tensor(model.params.reshape(3, 2).copy(), requires_grad=True)
        stepper = torch.optim.NAdam([w])
        for begin in range(0, 120, 4):
            x, t = X[begin : begin + 4], y[begin : begin + 4]
            one_epoch(model, x, t)
            stepper.zero_grad()
            torch.nn.functional.mse_loss(torch.tensor(x) @ w, torch.tensor(t)).backward()
            stepper.step()
            np.testing.assert_allclose(model.params.reshape(3, 2), w.detach().numpy(), rtol=1e-9)
    finally:
        torch.set_default_dtype(default)


def test_nadam_follows_its_equation_and_not_that_of_keras(rng):
    """They have 0.96^(t / 250) and 0.96^t."""
    X, y = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    model = linear(nbbp.Nadam(0.01))
    for power, same in ((1 / 250, True), (1, False)):
        model.build(3)
        w, m, v, product = model.params.reshape(3, 2).copy(), 0.0, 0.0, 1.0
        for t, begin in enumerate(range(0, 40, 4), 1):
            one_epoch(model, X[begin : begin + 4], y[begin : begin + 4])
            g = X[begin : begin + 4].T @ (X[begin : begin + 4] @ w - y[begin : begin + 4]) / 4
            now, following = (0.9 * (1 - 0.5 * 0.96 ** (step * power)) for step in (t, t + 1))
            m, v, product = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2, product * now
            ahead = following * m / (1 - product * following) + (1 - now) * g / (1 - product)
            w -= 0.01 * ahead / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert np.allclose(model.params.reshape(3, 2), w, rtol=1e-9) == same


@pytest.mark.parametrize("backend", BACKENDS)
def test_lion(backend, data):
    X, y = data
    model = linear(nbbp.Lion(0.01, weight_decay=0.1), backend=backend)
    w, m = model.params.reshape(3, 2).copy(), np.zeros((3, 2))
    one_epoch(model, X, y, epochs=3, batch_size=8)
    for begin in [*range(0, 40, 8)] * 3:
        g = mse_gradient(X[begin : begin + 8], y[begin : begin + 8], w)
        w = w - 0.01 * (np.sign(0.9 * m + 0.1 * g) + 0.1 * w)
        m = 0.99 * m + 0.01 * g
    np.testing.assert_allclose(model.params.reshape(3, 2), w, rtol=1e-11)


TORCH_SCHEDULES = {
    "step": (schedules.Step(0.4, 7, 0.5), lambda s, o: s.StepLR(o, 7, 0.5)),
    "exponential": (schedules.Exponential(0.4, 10, 0.3), lambda s, o: s.ExponentialLR(o, 0.3**0.1)),
    "polynomial": (schedules.Polynomial(0.4, 33, power=2.0), lambda s, o: s.PolynomialLR(o, 33, 2.0)),
    "linear": (schedules.Polynomial(0.4, 33), lambda s, o: s.PolynomialLR(o, 33)),
    "cosine": (schedules.Cosine(0.4, 50, 0.01), lambda s, o: s.CosineAnnealingLR(o, 50, 0.01)),
    "restarts": (
        schedules.Cosine(0.4, 11, 0.01, restarts=True), lambda s, o: s.CosineAnnealingWarmRestarts(o, 11, 1, 0.01)
    ),
    "longer restarts": (
        schedules.Cosine(0.4, 6, restarts=True, growth=2), lambda s, o: s.CosineAnnealingWarmRestarts(o, 6, 2)
    ),
    "one cycle": (schedules.OneCycle(0.4, 50), lambda s, o: s.OneCycleLR(o, 0.4, 50)),
    "early peak": (schedules.OneCycle(0.4, 50, 0.1), lambda s, o: s.OneCycleLR(o, 0.4, 50, pct_start=0.1)),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH_SCHEDULES)
def test_schedules_agree_with_pytorch(name):
    torch = pytest.importorskip("torch")
    schedule, theirs = TORCH_SCHEDULES[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.4, momentum=0.9)
    stepper, rates = theirs(torch.optim.lr_scheduler, optimizer), []
    for _ in range(50):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        stepper.step() if len(rates) < 50 else None
    np.testing.assert_allclose(schedule(np.arange(50)), rates, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        (schedules.Constant(0.2), lambda t: 0.2 + 0 * t),
        (schedules.InverseTime(0.2, 10, 3.0), lambda t: 0.2 / (1 + 0.3 * t)),
        (schedules.Polynomial(0.2, 20, 0.1), lambda t: np.where(t < 20, 0.2 - 0.1 * t / 20, 0.1)),
        (schedules.Cosine(0.2, 20, 0.1), lambda t: np.where(t < 20, 0.15 + 0.05 * np.cos(np.pi * t / 20), 0.1)),
        (schedules.WarmUp(schedules.Step(0.2, 5), 4),
         lambda t: np.where(t < 4, 0.05 * (t + 1), 0.2 * 0.1 ** np.floor((t - 4) / 5))),
        (schedules.FlatCosine(0.2, 20, 0.1, flat=0.4),
         lambda t: 0.15 + 0.05 * np.cos(np.pi * np.clip((t - 8) / 12, 0, 1))),
        (schedules.CosLog(0.2, 45),
         lambda t: 0.1 * (1 - np.cos(2 * np.pi * np.log2(1 + 15 * np.minimum(t / 45, 1))))),
        (schedules.SutskeverMomentum(0.99),
         lambda t: np.minimum(1 - 2 ** (-1 - np.log2(np.floor(t / 250) + 1)), 0.99)),
    ],
)  # fmt: skip
def test_schedules_are_their_formulas(schedule, formula):
    t = np.array([*range(30), 249, 250, 500, 12_499, 100_000])
    values = schedule(t)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, formula(t), rtol=1e-12)


def test_restarts_are_fast_far_from_the_beginning():
    far = 10**12 + 3
    assert schedules.Cosine(0.2, 10, restarts=True)(np.array([far]))[0] == schedules.Cosine(0.2, 10)(np.array([3]))[0]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "nadam", "lion", "rmsprop"])
def test_a_schedule_in_an_optimizer_equals_rates_set_by_hand(name, data):
    X, y = data
    schedule = schedules.Exponential(0.02, 6)
    kind = nbbp.OPTIMIZERS[name]
    whole, by_hand = linear(kind(schedule)), linear(kind(0.02))
    one_epoch(whole, X, y, epochs=3, batch_size=15)
    for step in range(9):
        by_hand.learning_rate = float(schedule([step])[0])
        rows = slice(step % 3 * 15, step % 3 * 15 + 15)
        one_epoch(by_hand, X[rows], y[rows])
    np.testing.assert_allclose(whole.params, by_hand.params, rtol=1e-12)


def test_a_schedule_goes_on_in_the_next_fit(data):
    X, y = data
    models = [linear(nbbp.SGD(schedules.WarmUp(schedules.Cosine(0.1, 9), 3), momentum=schedules.Constant(0.5)))
              for _ in range(2)]  # fmt: skip
    one_epoch(models[0], X, y, epochs=4, batch_size=15)
    for epochs in (1, 3):
        one_epoch(models[1], X, y, epochs=epochs, batch_size=15)
    assert models[0].params.tobytes() == models[1].params.tobytes()


def dropout_net(**settings) -> nbbp.Sequential:
    layers = [nbbp.Dense(8, activation="tanh", l2=0.01), nbbp.Dropout(0.3), nbbp.GaussianNoise(0.1), nbbp.Dense(3)]
    model = nbbp.Sequential(layers, **{
        "loss": "softmax_cross_entropy", "optimizer": nbbp.Adam(0.01), "metrics": ["accuracy"], "dtype": "float64",
    } | settings)  # fmt: skip
    model.build(4)
    return model


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("batch", "parts"), [(8, 4), (7, 3), (50, 2), (200, 3)])
def test_accumulated_parts_equal_a_larger_batch(batch, parts, weighted, backend, rng):
    """100 rows: a short last mini-batch, a short last part of it, and parts larger than the data."""
    X, y = rng.standard_normal((100, 4)), rng.integers(0, 3, 100)
    weights = rng.uniform(0, 2, 100) if weighted else None
    whole, in_parts = dropout_net(backend=backend), dropout_net(backend=backend)
    a = whole.fit(X, y, epochs=3, batch_size=batch * parts, sample_weight=weights, verbose=0)
    b = in_parts.fit(X, y, epochs=3, batch_size=batch, accumulate=parts, sample_weight=weights, verbose=0)
    np.testing.assert_allclose(a.step_loss, b.step_loss, rtol=1e-11)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-11)
    np.testing.assert_allclose(a["accuracy"], b["accuracy"], rtol=1e-12)
    np.testing.assert_allclose(whole.params, in_parts.params, rtol=1e-8, atol=1e-11)
    assert whole.steps == in_parts.steps == 3 * -(-100 // (batch * parts))


@pytest.mark.parametrize("backend", BACKENDS)
def test_accumulation_in_lanes_and_with_gradient_noise(backend, rng):
    X, y = rng.standard_normal((512, 4)), rng.integers(0, 3, 512)
    models = [dropout_net(optimizer=nbbp.SGD(0.1, gradient_noise=0.01), backend=backend) for _ in range(2)]
    models[0].fit(X, y, epochs=2, batch_size=512, verbose=0)
    models[1].fit(X, y, epochs=2, batch_size=256, accumulate=2, verbose=0)
    np.testing.assert_allclose(models[0].params, models[1].params, rtol=1e-10, atol=1e-13)


def test_batch_norm_takes_the_statistics_of_each_part(rng):
    X, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    model = nbbp.Sequential([nbbp.BatchNorm(0.5), nbbp.Dense(2)], dtype="float64")
    model.build(3)
    one_epoch(model, X, y, batch_size=10, accumulate=2)
    means = X[:10].mean(axis=0), X[10:].mean(axis=0)
    np.testing.assert_allclose(model.network.state[:3], means[0] / 4 + means[1] / 2, rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_weight_of_2_is_the_row_twice(backend, data):
    X, y = data
    weights = np.where(np.arange(40) % 4 == 0, 2.0, 1.0)
    twice = np.repeat(np.arange(40), weights.astype(int))
    weighted, repeated = linear(metrics=["mse"], backend=backend), linear(metrics=["mse"], backend=backend)
    a = one_epoch(weighted, X, y, sample_weight=weights * 40 / 50)
    b = one_epoch(repeated, X[twice], y[twice], batch_size=50)
    np.testing.assert_allclose(weighted.grads, repeated.grads, rtol=1e-12)
    np.testing.assert_allclose(weighted.params, repeated.params, rtol=1e-12)
    for name in ("loss", "mse"):
        assert a[name][0] == pytest.approx(b[name][0], rel=1e-12)
    ours, theirs = weighted.evaluate(X, y, weights * 40 / 50), repeated.evaluate(X[twice], y[twice])
    assert ours == pytest.approx(theirs, rel=1e-12)
    history = one_epoch(weighted, X, y, validation_data=(X, y, weights))
    assert history["val_loss"][0] == pytest.approx(weighted.evaluate(X, y, weights)["loss"], rel=1e-12)


@pytest.mark.parametrize("settings", [{"batch_size": 40}, {"batch_size": 10, "accumulate": 4}])
def test_a_weight_of_0_is_absence(settings, data):
    X, y = data
    weights = (np.arange(40) < 30).astype(float)
    X[30:], y[30:] = 1e6, -1e6
    weighted, fewer = linear(), linear()
    a = one_epoch(weighted, X, y, sample_weight=weights, **settings)
    b = one_epoch(fewer, X[:30], y[:30])
    np.testing.assert_allclose(weighted.grads, 0.75 * fewer.grads, rtol=1e-12)
    assert a["loss"][0] == pytest.approx(0.75 * b["loss"][0], rel=1e-12)


def test_weights_follow_their_rows_when_these_are_shuffled(rng):
    X, y = rng.standard_normal((300, 3)), rng.standard_normal((300, 2))
    weights = rng.uniform(0, 3, 300)
    model = linear(nbbp.SGD(1e-12), metrics=["mse"])
    history = model.fit(X, y, batch_size=130, sample_weight=weights, verbose=0)
    squares = np.square(X @ model.params.reshape(3, 2) - y).mean(axis=1)
    assert history["loss"][0] == pytest.approx(np.mean(squares * weights), rel=1e-9)
    assert history["mse"][0] == pytest.approx(np.average(squares, weights=weights), rel=1e-9)


def classes(**settings) -> nbbp.Sequential:
    settings = {"loss": "softmax_cross_entropy", "dtype": "float64"} | settings
    outputs = 1 if settings["loss"] == "binary_cross_entropy" else 3
    model = nbbp.Sequential([nbbp.Dense(outputs)], **settings)
    model.build(4)
    return model


@pytest.mark.parametrize("form", ["labels", "one-hot"])
def test_class_weights_are_weights_of_rows(form, rng):
    X, labels = rng.standard_normal((60, 4)), rng.choice(3, 60, p=[0.6, 0.3, 0.1])
    y = labels if form == "labels" else np.eye(3)[labels]
    by_class, by_row, both = classes(), classes(), classes()
    by_class.fit(X, y, epochs=3, class_weight={0: 0.5, 1: 1.0, 2: 4.0}, verbose=0)
    by_row.fit(X, y, epochs=3, sample_weight=np.array([0.5, 1.0, 4.0])[labels], verbose=0)
    assert by_class.params.tobytes() == by_row.params.tobytes()
    own = rng.uniform(1, 2, 60)
    both.fit(X, y, epochs=1, sample_weight=own, class_weight={0: 0.5, 1: 1.0, 2: 4.0}, verbose=0)
    product = classes()
    product.fit(X, y, epochs=1, sample_weight=own * np.array([0.5, 1.0, 4.0])[labels], verbose=0)
    assert both.params.tobytes() == product.params.tobytes()


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "binary_cross_entropy"])
def test_balanced_agrees_with_scikit_learn(loss, rng):
    compute_sample_weight = pytest.importorskip("sklearn.utils.class_weight").compute_sample_weight
    X, y = rng.standard_normal((60, 4)), rng.choice(3 if loss.startswith("softmax") else 2, 60)
    y[:20] = 0
    balanced, by_hand = classes(loss=loss), classes(loss=loss)
    balanced.fit(X, y, epochs=2, class_weight="balanced", verbose=0)
    by_hand.fit(X, y, epochs=2, sample_weight=compute_sample_weight("balanced", y), verbose=0)
    np.testing.assert_allclose(balanced.params, by_hand.params, rtol=1e-13)


def test_weights_that_make_no_sense_are_refused(rng):
    X, y = rng.standard_normal((10, 4)), np.arange(10) % 3
    for weights, message in ((np.ones(9), "each of 10 rows"), (-np.ones(10), "0 or more"), (np.zeros(10), "all rows")):
        with pytest.raises(ValueError, match=message):
            classes().fit(X, y, sample_weight=weights, verbose=0)
    with pytest.raises(ValueError, match="no entry for class 2"):
        classes().fit(X, y, class_weight={0: 1, 1: 1}, verbose=0)
    with pytest.raises(ValueError, match="balanced"):
        classes().fit(X, y, class_weight="balance", verbose=0)


@pytest.mark.parametrize("form", ["labels", "one-hot"])
def test_label_smoothing_agrees_with_pytorch(form, rng):
    torch = pytest.importorskip("torch")
    X, labels = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
    y = labels if form == "labels" else np.eye(3)[labels]
    model = classes(label_smoothing=0.2, metrics=["accuracy"])
    w = torch.tensor(model.named_params()["dense_0.w"].copy(), requires_grad=True)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.2)(torch.tensor(X) @ w, torch.tensor(y))
    loss.backward()
    assert model.evaluate(X, y)["loss"] == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(model.gradients(X, y)["dense_0.w"], w.grad, rtol=1e-11, atol=1e-14)
    plain = classes(metrics=["accuracy"])
    plain.params[:] = model.params
    assert model.evaluate(X, y)["accuracy"] == plain.evaluate(X, y)["accuracy"]
    assert model.fit(X, y, batch_size=30, verbose=0)["loss"][0] == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize("outputs", [1, 3])
def test_label_smoothing_of_yes_and_no(outputs, rng):
    """Every output is a question of its own, whose two answers share what is taken away."""
    X, y = rng.standard_normal((30, 4)), rng.integers(0, 2, (30, outputs)).astype(float)
    models = [nbbp.Sequential([nbbp.Dense(outputs)], loss="binary_cross_entropy", dtype="float64", label_smoothing=s)
              for s in (0.2, 0.0)]  # fmt: skip
    smoothed, plain = models
    assert smoothed.evaluate(X, y)["loss"] == pytest.approx(plain.evaluate(X, 0.8 * y + 0.1)["loss"], rel=1e-12)


def test_metrics_see_the_targets_as_they_are(rng):
    X, y = rng.standard_normal((30, 4)), np.eye(3)[rng.integers(0, 3, 30)]
    results = []
    for smoothing in (0.0, 0.3):
        model = nbbp.Sequential([nbbp.Dense(3)], loss="binary_cross_entropy", metrics=["mse", "accuracy"],
                                optimizer=nbbp.SGD(1e-9), label_smoothing=smoothing)  # fmt: skip
        history = model.fit(X, y, validation_data=(X, y), verbose=0)
        results.append([history[name][0] for name in ("mse", "accuracy", "val_mse", "val_accuracy")])
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def paths(model, X, y, steps: int) -> list[np.ndarray]:
    """Parameters after each of some steps of a twin."""
    twin, path = linear(model.optimizer), []
    twin.params[:] = model.params
    for step in range(steps):
        rows = slice(step % 5 * 8, step % 5 * 8 + 8)
        one_epoch(twin, X[rows], y[rows])
        path.append(twin.params.copy())
    return path


@pytest.mark.parametrize("backend", BACKENDS)
def test_ema(backend, data):
    X, y = data
    model = linear(averaging=nbbp.EMA(0.3), backend=backend)
    mean = model.params.copy()
    for t, params in enumerate(paths(model, X, y, 10), 1):
        decay = min(0.3, (1 + t) / (10 + t))
        mean = decay * mean + (1 - decay) * params
    last = paths(model, X, y, 10)[-1]
    one_epoch(model, X, y, epochs=2, batch_size=8)
    np.testing.assert_allclose(model.averaged().params, mean, rtol=1e-12)
    np.testing.assert_allclose(model.params, last, rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("begin", "every", "kept"), [(4, 1, range(3, 15)), (5, 5, (4, 9, 14)), (20, 1, (14,))])
def test_swa(begin, every, kept, backend, data):
    """The mean of chosen steps; before the first of them, the parameters themselves."""
    X, y = data
    model = linear(averaging=nbbp.SWA(begin, every), backend=backend)
    path = paths(model, X, y, 15)
    for epochs in (1, 2):
        one_epoch(model, X, y, epochs=epochs, batch_size=8)
    np.testing.assert_allclose(model.averaged().params, np.mean([path[k] for k in kept], axis=0), rtol=1e-12)


def test_averaged_is_a_model_of_its_own(data):
    X, y = data
    model = linear(averaging=nbbp.EMA(0.9))
    one_epoch(model, X, y, epochs=3, batch_size=8)
    before = model.params.copy()
    averaged = model.averaged()
    w = model.update.mean.reshape(3, 2)
    np.testing.assert_allclose(averaged.predict(X), X @ w, rtol=1e-12)
    one_epoch(averaged, X, y)
    np.testing.assert_array_equal(model.params, before)
    with pytest.raises(RuntimeError, match="there is no average"):
        linear().averaged()
