"""Curves of histories: what is drawn where, and in which style."""

import numpy as np
import pytest

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
