"""Curves, images and convolutions: what is drawn where, and in which style."""

import numpy as np
import pytest
from matplotlib.text import Text

import nbbp


def history(epochs: int = 3, steps: int = 4, **recorded) -> nbbp.History:
    made = nbbp.History(steps)
    made.add_steps(np.linspace(2, 1, epochs * steps))
    for epoch in range(epochs):
        made.add_epoch(loss=2 - epoch / epochs, **{name: values[epoch] for name, values in recorded.items()})
    return made


def lines(axis) -> dict:
    return {line.get_label(): line for line in axis.lines}


def overlap(figure) -> bool:
    """Whether a legend lies on the axes."""
    figure.draw_without_rendering()
    return any(axis.get_legend().get_window_extent().overlaps(axis.get_window_extent()) for axis in figure.axes)


def test_validation_is_dashed_in_the_colour_of_its_training_curve():
    one = history(val_loss=[3, 2, 2], accuracy=[0.1, 0.2, 0.3], val_accuracy=[0.1, 0.1, 0.2])
    losses, metrics = one.plot().axes
    pairs = [
        (lines(losses)["training"], lines(losses)["validation"]),
        (lines(metrics)["accuracy"], lines(metrics)["validation accuracy"]),
        nbbp.plots.small_curve(one).axes[0].lines[-2:],
    ]
    (several,) = nbbp.plots.loss_curves({"a": one, "b": one}).axes
    pairs += [several.lines[:2], several.lines[2:]]
    for training, validation in pairs:
        assert training.get_linestyle() == "-"
        assert validation.get_linestyle() == "--"
        assert training.get_color() == validation.get_color()
        assert (validation.get_marker(), validation.get_fillstyle()) == ("o", "none")
    assert several.get_legend().get_title().get_text() == "dashed: validation"


def test_validation_is_seen_where_it_lies_on_the_training_curve():
    one = history(100, 1, val_loss=[1.0] * 100)
    training, validation = one.plot().axes[0].lines[-2:]
    assert training.get_marker() == ""
    assert (validation.get_marker(), validation.get_markevery()) == ("o", 5)


@pytest.mark.parametrize(("rates", "scale"), [([0.1, 0.05, 0.02], "linear"), ([0.1, 0.01, 0.01], "log")])
def test_a_learning_rate_has_an_axis_of_its_own(rates, scale):
    one = history(accuracy=[0.1, 0.2, 0.3], learning_rate=rates)
    _, metrics, rate = one.plot().axes
    assert set(lines(metrics)) == {"accuracy"}
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), rates)
    assert (rate.get_ylabel(), rate.get_yscale()) == ("learning rate", scale)


def test_a_learning_rate_that_ends_at_zero_is_drawn_to_its_end():
    rate = history(learning_rate=[0.1, 0.01, 0.0]).plot().axes[1]
    assert rate.get_yscale() == "linear"


def test_one_epoch_is_seen():
    one = history(epochs=1, val_loss=[3], accuracy=[0.5], val_accuracy=[0.4], learning_rate=[0.1])
    for axis in one.plot().axes:
        assert all(line.get_marker() == "o" for line in axis.lines if len(line.get_xdata()) == 1)
        assert axis.get_xlim()[0] == 0
        assert axis.get_xlim()[1] > 1
    full_batch = history(epochs=1, steps=1)
    assert full_batch.plot().axes[0].lines[0].get_marker() == "o"


@pytest.mark.parametrize("runs", [5, 12, 30])
def test_the_legend_of_many_runs_covers_no_curve(runs):
    figure = nbbp.plots.loss_curves({f"a long name of run {k}": history(val_loss=[3, 2, 2]) for k in range(runs)})
    assert not overlap(figure)
    (axis,) = figure.axes
    assert axis.get_window_extent().width > 5 * figure.dpi
    assert len(axis.get_legend().get_texts()) == runs
    assert len({str(line.get_color()) for line in axis.lines}) == runs


def test_a_fit_that_went_on_is_drawn_where_it_was_measured():
    first, second = history(2, 4), history(3, 2, val_loss=[3, 2, 1], val_accuracy=[0.1, 0.2, 0.3])
    first.extend(second)
    losses, metrics = first.plot().axes
    np.testing.assert_allclose(
        lines(losses)["training"].get_xdata(), [*(np.arange(8) + 0.5) / 4, *2 + (np.arange(6) + 0.5) / 2]
    )
    for line in (lines(losses)["validation"], lines(metrics)["validation accuracy"]):
        np.testing.assert_array_equal(line.get_xdata()[np.isfinite(line.get_ydata())], [3, 4, 5])
    first.extend(history(1, 3))
    assert first.curve()[0][-1] == 5 + 2.5 / 3


def test_an_epoch_that_was_broken_off_is_not_drawn_over_the_one_that_follows():
    first = history(2, 4)
    first.add_steps(np.ones(3))
    assert first.curve()[0].max() == 2.625
    first.extend(history(1, 4))
    epochs, losses = first.curve()
    np.testing.assert_array_equal(epochs, (np.arange(12) + 0.5) / 4)
    np.testing.assert_array_equal(losses, [*np.linspace(2, 1, 8), *np.linspace(2, 1, 4)])


def test_a_history_from_a_file_is_extended(tmp_path):
    history(2).to_csv(tmp_path / "history.csv")
    loaded = nbbp.History.from_csv(tmp_path / "history.csv")
    loaded.extend(history(2))
    np.testing.assert_array_equal(loaded.plot().axes[0].lines[0].get_xdata(), [1, 2, 3, 4])
    np.testing.assert_array_equal(loaded.plot().axes[0].lines[0].get_ydata(), loaded["loss"])


def test_overfitting_is_judged_in_the_epochs_that_were_validated():
    falling = [3, 2, 1.5, 1.4, 1.6, 2.0, 2.5, 3.0, 3.5]
    before, after = history(4), history(9, val_loss=falling)
    before.extend(after)
    before.epochs["loss"] = list(np.linspace(2, 0.1, 13))
    diagnosis = nbbp.diagnose(before)
    assert "lowest in epoch 8, 1.4" in str(diagnosis)
    few = history(9)
    few.extend(history(2, val_loss=[3, 2]))
    assert "overfitting: it needs validation data in 8 epochs, and had them in 2" in nbbp.diagnose(few).not_judged


def texts(figure) -> list[Text]:
    """All texts that are drawn: ticks beyond the limits of an axis are not."""
    found = list(figure.texts)
    for axes in figure.axes:
        found += [axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                found += [text for text in (tick.label1, tick.label2) if low <= tick.get_loc() <= high]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def cut_off(figure) -> list[str]:
    """Texts that reach beyond the figure, or lie on another."""
    figure.draw_without_rendering()
    drawn = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    width, height = figure.bbox.size
    outside = [text for text, box in drawn if min(box.x0, box.y0) < -1 or box.x1 > width + 1 or box.y1 > height + 1]
    return outside + [
        f"{a} on {b}" for k, (a, box) in enumerate(drawn) for b, other in drawn[:k] if box.overlaps(other)
    ]


DIGITS = nbbp.datasets.load_digits()
NAMES = ["zero", "one", "two", "three", "four", "a name that is rather long", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def convolutional():
    layers = [
        nbbp.Reshape((8, 8, 1)), nbbp.Conv2D(5, 3, activation="relu"), nbbp.BatchNorm(), nbbp.Conv2D(3, (2, 3)),
        nbbp.Dropout(0.2), nbbp.Activation("tanh"), nbbp.Flatten(), nbbp.Dense(10),
    ]  # fmt: skip
    model = nbbp.Sequential(layers, "softmax_cross_entropy", "adam", dtype="float64")
    model.fit(DIGITS[0][:200], DIGITS[1][:200], epochs=2, verbose=0)
    return model


@pytest.mark.parametrize("names", [None, NAMES])
@pytest.mark.parametrize("count", [1, 7, 30])
def test_images_have_their_classes_and_wrong_predictions(names, count):
    X, y = DIGITS[0][:40].reshape(-1, 8, 8), DIGITS[1][:40]
    guess = np.where(np.arange(40) % 5 == 2, 5, y)
    known = [str(k) for k in range(10)] if names is None else names
    wrong = [known[g] if g != t else "" for g, t in zip(guess, y, strict=True)][:count]
    for truth, predicted in ((y, guess), (np.eye(10)[y], 0.5 * np.eye(10)[guess])):
        figure = nbbp.plots.images(X, truth, predicted, names, count)
        assert [axis.get_title() for axis in figure.axes] == [known[k] for k in y[:count]]
        assert [axis.get_xlabel() for axis in figure.axes] == wrong
        assert {axis.xaxis.label.get_color() for axis in figure.axes} == {nbbp.plots.COLORS[1]}
        assert figure.get_suptitle().startswith(f"{wrong.count('')} of {count} right")
        assert not cut_off(figure)
    for axis, picture in zip(figure.axes, X, strict=False):
        np.testing.assert_array_equal(axis.images[0].get_array(), picture)
    assert [axis.get_title() for axis in nbbp.plots.images(X, predicted=guess, count=3).axes] == list(
        map(str, guess[:3])
    )


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 1), (6, 4, 3)])
def test_images_are_bytes_or_floats_of_any_range(shape, rng, tmp_path):
    bytes_ = rng.integers(0, 255, (3, *shape), dtype=np.uint8)
    bytes_.flat[:2] = 0, 255
    plain = bytes_[..., 0] if shape[2:] == (1,) else bytes_
    for given, expected in ((bytes_, plain), (bytes_ / 255, plain / 255), (bytes_ - 99.0, plain / 255)):
        figure = nbbp.plots.images(given, path=tmp_path / "images.png")
        for axis, picture in zip(figure.axes, expected, strict=True):
            np.testing.assert_allclose(axis.images[0].get_array(), picture, atol=1e-12)
            assert axis.images[0].get_clim() == (0, 255 if given.dtype == np.uint8 else 1)
    assert (tmp_path / "images.png").read_bytes()[:4] == b"\x89PNG"


def test_what_images_refuse():
    X, y = DIGITS[0][:4].reshape(-1, 8, 8), DIGITS[1][:4]
    for wrong, message in (
        (lambda: nbbp.plots.images(DIGITS[0]), r"X must be images .*reshape"),
        (lambda: nbbp.plots.images(np.ones((2, 3, 3, 4))), "1 or 3 channels"),
        (lambda: nbbp.plots.images(X, y[:3]), "y has 3 rows, and there are 4 images"),
        (lambda: nbbp.plots.images(X, [0, 1, 2, 3], names=["a", "b"]), "y: labels must lie in 0 to 1"),
        (lambda: nbbp.plots.images(X, np.eye(3)[[0, 1, 2, 1]], names=["a", "b"]), "3 columns, and there are 2 classes"),
        (lambda: nbbp.plots.images(X, [0.5, 1, 2, 3]), "y must be labels or probabilities"),
        (lambda: nbbp.plots.images(X, np.full((4, 8), np.nan)), "y must be finite"),
        (lambda: nbbp.plots.images(np.ones((999, 2, 2)), count=999), "room for 200 images"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


def mosaic(figure) -> tuple[np.ndarray, np.ndarray]:
    """The image of a figure, and the limits of its colours."""
    (image,) = figure.axes[0].images
    return np.ma.filled(image.get_array(), np.nan), np.array(image.get_clim())


def test_filters_are_one_table_of_their_weights(convolutional, tmp_path):
    first, second = (convolutional.named_params()[f"conv2d_{k}.w"] for k in (0, 1))
    figure = nbbp.plots.filters(convolutional, path=tmp_path / "filters.png")
    table, limits = mosaic(figure)
    np.testing.assert_array_equal(table, np.concatenate([first[:, :, 0, k] for k in range(5)], axis=1))
    np.testing.assert_array_equal(limits, np.abs(first).max() * np.array([-1, 1]))
    assert figure.axes[0].get_title() == "conv2d_0: 5 filters of 3 x 3, 1 channel"
    figure = nbbp.plots.filters(convolutional, "conv2d_1")
    np.testing.assert_array_equal(
        mosaic(figure)[0], np.block([[second[:, :, c, f] for c in range(5)] for f in range(3)])
    )
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("channel", "filter")
    assert not cut_off(figure)
    for wrong in (2, -1, "dense_0"):
        with pytest.raises(ValueError, match=r"layer must be a convolution: 0 to 1, or one of conv2d_0, conv2d_1; got"):
            nbbp.plots.filters(convolutional, wrong)
    dense = nbbp.Sequential([nbbp.Dense(1)])
    dense.build(2)
    with pytest.raises(ValueError, match="the model has no convolution"):
        nbbp.plots.filters(dense)


def test_filters_in_time_and_of_transposed_convolutions():
    layers = [nbbp.Conv1D(4, 3), nbbp.Conv1D(2, 5), nbbp.Reshape((-1, 2, 2)), nbbp.Conv2DTranspose(6, (2, 3))]
    model = nbbp.Sequential(layers)
    model.build((30, 1))
    one, two, back = (w for name, w in model.named_params().items() if name.endswith(".w"))
    np.testing.assert_array_equal(mosaic(nbbp.plots.filters(model))[0], one[:, 0].T)
    np.testing.assert_array_equal(mosaic(nbbp.plots.filters(model, 1))[0], np.hstack([two[..., 0].T, two[..., 1].T]))
    table = np.block([[back[:, :, f, c] for f in range(6)] for c in range(2)])
    np.testing.assert_array_equal(mosaic(nbbp.plots.filters(model, 2))[0], table)
    for k in range(3):
        assert not cut_off(nbbp.plots.filters(model, k))


def test_feature_maps_are_what_the_layers_give(convolutional, tmp_path):
    """A model that ends with the layer gives the same, whatever overwrites the outputs in the whole one."""
    x, before = DIGITS[0][300], convolutional.params.copy()
    figure = nbbp.plots.feature_maps(convolutional, x, path=tmp_path / "maps.png")
    assert not cut_off(figure)
    ends = {"conv2d_0, relu": 2, "batchnorm_0": 3, "conv2d_1": 4, "dropout_0, tanh": 6}
    maps = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title().partition("\n")[0] for axis in maps] == list(ends)
    assert figure.get_figwidth() == pytest.approx(3.8 * maps[0].get_gridspec().ncols)
    for axis, end in zip(maps, ends.values(), strict=True):
        part = nbbp.Sequential(convolutional.layers[:end], dtype="float64")
        part.build(64)
        part.params[:] = before[: part.params.size]
        part.network.state[:] = convolutional.network.state[: part.network.state.size]
        (expected,) = part.predict([x])
        table = np.ma.filled(axis.images[0].get_array(), np.nan)
        high, wide, channels = expected.shape
        tiles = table.reshape(-1, high, table.shape[1] // wide, wide).swapaxes(1, 2).reshape(-1, high, wide)
        np.testing.assert_allclose(tiles[:channels], expected.transpose(2, 0, 1), rtol=1e-12, atol=1e-14)
        assert np.isnan(tiles[channels:]).all()
    for one in (nbbp.plots.feature_maps(convolutional, x, "conv2d_1"), nbbp.plots.feature_maps(convolutional, x, 2)):
        assert one.axes[0].get_title().startswith("conv2d_1\n3 channels of 5 x 4")
    np.testing.assert_array_equal(convolutional.params, before)
    with pytest.raises(ValueError, match=r"0 to 3, or one of conv2d_0, batchnorm_0, conv2d_1, dropout_0; got 'flatten"):
        nbbp.plots.feature_maps(convolutional, x, "flatten_0")


def test_feature_maps_of_a_series_and_of_features(rng):
    model = nbbp.Sequential([nbbp.Conv1D(4, 3, activation="tanh"), nbbp.Flatten(), nbbp.Dense(1)])
    model.build((20, 2))
    x = rng.standard_normal((20, 2)).astype(np.float32)
    figure = nbbp.plots.feature_maps(model, x)
    part = nbbp.Sequential(model.layers[:1])
    part.build((20, 2), params=model.params[: 3 * 2 * 4 + 4])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), part.predict([x])[0].T, rtol=1e-6)
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("time", "channel")
    assert not cut_off(figure)
    dense = nbbp.Sequential([nbbp.Dense(1)])
    dense.build(2)
    with pytest.raises(ValueError, match="no layer whose outputs have positions"):
        nbbp.plots.feature_maps(dense, [1.0, 2.0])


@pytest.mark.parametrize("given", [False, True])
def test_saliency_is_the_size_of_the_gradient_of_the_classs_output(given, convolutional, tmp_path):
    X, y = DIGITS[0][300:305].astype(float), np.array([3, 1, 4, 1, 5])
    grads, predicted = convolutional.grads.copy(), convolutional.predict(X).argmax(axis=1)
    figure = nbbp.plots.saliency(convolutional, X, y if given else None, tmp_path / "saliency.png")
    assert not cut_off(figure)
    np.testing.assert_array_equal(convolutional.grads, grads)
    step = convolutional.step(64 * 2, training=False)
    for axis, x, label in zip(figure.axes, X, y if given else predicted, strict=True):
        moved = np.concatenate([x + 1e-6 * np.eye(64), x - 1e-6 * np.eye(64)])
        above, below = step.forward(moved)[:, label].copy().reshape(2, 64)
        slopes = np.abs(above - below) / 2e-6
        image, drawn = (shown.get_array() for shown in axis.images)
        np.testing.assert_array_equal(image, x.reshape(8, 8))
        np.testing.assert_allclose(drawn, (slopes / slopes.max()).reshape(8, 8), rtol=1e-5, atol=1e-7)
        assert axis.get_title() == f"class {label}"


def test_saliency_of_colours_and_of_two_classes(rng):
    model = nbbp.Sequential([nbbp.Flatten(), nbbp.Dense(1)], "binary_cross_entropy")
    model.build((2, 5, 3))
    model.named_params()["dense_0.b"][:] = 1
    X = rng.random((2, 2, 5, 3)).astype(np.float32) * 1e-3
    figure = nbbp.plots.saliency(model, X)
    slopes = np.abs(model.named_params()["dense_0.w"]).reshape(2, 5, 3).max(axis=2)
    for axis in figure.axes:
        np.testing.assert_allclose(axis.images[1].get_array(), slopes / slopes.max(), rtol=1e-6)
        assert axis.get_title() == "class 1"


def test_what_saliency_refuses(convolutional):
    for wrong, message in (
        (lambda m: nbbp.plots.saliency(m, DIGITS[0][:3], [0, 1, 10]), "y: labels must lie in 0 to 9"),
        (lambda m: nbbp.plots.saliency(m, DIGITS[0][:3], [0, 1]), "y has 2 rows, and there are 3 images"),
        (lambda m: nbbp.plots.saliency(m, DIGITS[0][:201]), "room for 200 images"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong(convolutional)
    dense = nbbp.Sequential([nbbp.Dense(2)])
    dense.build(4)
    with pytest.raises(ValueError, match=r"a model of images, and the input's shape is \(4,\)"):
        nbbp.plots.saliency(dense, np.ones((2, 4)))
    tagger = nbbp.Sequential([nbbp.Dense(2)])
    tagger.build((4, 4))
    with pytest.raises(ValueError, match="one output for each class"):
        nbbp.plots.saliency(tagger, np.ones((2, 4, 4)))


def test_single_steps_do_not_stretch_the_axis_of_losses(rng):
    def top(losses, val_losses):
        history = nbbp.History(steps_per_epoch=100)
        history.add_steps(losses)
        for value in val_losses:
            history.add_epoch(loss=1.0, val_loss=value)
        return nbbp.plots.loss_curves(history).axes[0].get_ylim()[1]

    losses, val_losses = np.abs(rng.standard_normal(2000)) * 0.1 + 1, np.full(25, 1.1)
    quiet = top(losses, val_losses)
    losses[[3, 700]], val_losses[5] = 500, 90
    assert top(losses, val_losses) < quiet
    losses[:1000] = 10  # which is no exception
    assert top(losses, val_losses) > 10
    falling = 100 * 0.5 ** np.arange(300)
    assert top(falling, val_losses) > 100


def test_calibrated_probabilities_lie_on_the_line():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=4000)
    y = (rng.uniform(size=4000) < p).astype(int)
    figures = [nbbp.plots.reliability(y, p), nbbp.plots.reliability(y, np.stack([1 - p, p], axis=1))]
    for figure in figures:
        (axis,) = figure.axes
        said, seen = axis.lines[1].get_data()
        assert len(said) == 10
        np.testing.assert_allclose(said, np.sort(p).reshape(10, 400).mean(axis=1))
        np.testing.assert_allclose(seen, y[np.argsort(p)].reshape(10, 400).mean(axis=1))
        error = np.abs(said - seen).mean()
        assert axis.get_title() == f"expected calibration error {error:.3f}"
        assert error < 0.03


def test_intervals_of_a_reliability_diagram_are_wilsons():
    p = np.full(20, 0.5)
    (axis,) = nbbp.plots.reliability([1] * 20, np.stack([p - 0.1, p, p - 0.4], axis=1)).axes
    low, high = axis.collections[0].get_segments()[0][:, 1]
    assert (low, high) == (
        pytest.approx(0.7225, abs=1e-4),
        1.0,
    )  # scipy: binomtest(10, 10).proportion_ci(method="wilson")
    assert axis.get_ylabel() == "share that is right"


def test_residuals_are_what_predictions_lack():
    y, prediction = np.array([1.0, 2, 4, 8]), np.array([1.0, 3, 3, 8])
    points, counts = nbbp.plots.residuals(y, prediction).axes
    np.testing.assert_array_equal(points.lines[-1].get_data(), [prediction, [0, -1, 1, 0]])
    assert sum(bar.get_width() for bar in counts.patches) == 4
    (both,) = nbbp.plots.predicted_and_true(y, prediction).axes
    np.testing.assert_array_equal(both.lines[-1].get_data(), [prediction, y])
    with pytest.raises(ValueError, match=r"y \(4, 1\) and prediction \(3, 1\) must have one value for each row"):
        nbbp.plots.residuals(y, prediction[:3])
    many = np.arange(5000.0)
    assert len(nbbp.plots.residuals(many, many).axes[0].lines[-1].get_xdata()) == 1000


def test_dependence_on_numbers_and_on_categories():
    (numbers,) = nbbp.plots.dependence([1.0, 2, 4], [[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]], ["a", "$b$"], (0, 1)).axes
    np.testing.assert_array_equal(lines(numbers)["a"].get_data(), [[1, 2, 4], [0.1, 0.2, 0.7]])
    assert numbers.get_ylim() == (0, 1)
    (categories,) = nbbp.plots.dependence(["<b>", None], [3.0, 4.0], limits=(2, 5)).axes
    np.testing.assert_array_equal(categories.lines[0].get_data(), [[3, 4], [0, 1]])
    assert [label.get_text() for label in categories.get_yticklabels()] == ["<b>", "(missing)"]
    assert categories.get_xlim() == (2, 5)
