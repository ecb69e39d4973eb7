"""Rolling-origin evaluation: nothing later than a cut is seen, errors by the instants ahead, figures."""

import numpy as np
import pytest

import nbbp
from nbbp.losses import Pinball
from nbbp.metrics import METRICS
from nbbp.recipes import Forecasts, backtest, seasonal_naive

QUANTILES = (0.1, 0.5, 0.9)


@pytest.fixture
def series(rng):
    return np.sin(2 * np.pi * np.arange(300) / 12) + rng.normal(0, 0.2, 300)


def forecaster(future: int = 4, quantiles=QUANTILES) -> nbbp.Sequential:
    layers = [nbbp.Flatten(), nbbp.Dense(16, "relu"), nbbp.Dense(future * len(quantiles))]
    return nbbp.Sequential([*layers, nbbp.Reshape((future, len(quantiles)))], Pinball(quantiles), nbbp.Adam(0.01))


def run(series, model=None, **settings):
    settings = {"past": 12, "future": 4, "cuts": [200, 240], "epochs": 5, "season": 12, "verbose": 0} | settings
    return backtest(forecaster() if model is None else model, series, **settings)


def test_every_instant_after_the_first_cut_is_forecast_from(series):
    result = run(series)
    assert result.origins.tolist() == list(range(200, 297))
    for row in (0, 39, 40, 96):
        origin = result.origins[row]
        np.testing.assert_array_equal(result.model.truth[row], series[origin : origin + 4])
    assert result.model.values.shape == result.naive.values.shape == (97, 4, 3)


def test_forecasts_are_those_of_a_model_trained_up_to_the_cut(series):
    result = run(series)
    for cut, rows in ((200, slice(0, 40)), (240, slice(40, None))):
        model = forecaster()
        model.fit(*nbbp.streams.windows(series[:cut], 12, 4), epochs=5, verbose=0)
        X, _ = nbbp.streams.windows(series[cut - 12 : 300], 12, 4)
        np.testing.assert_array_equal(result.model.values[rows], model.predict(X)[: len(result.origins[rows])])


def test_nothing_later_than_a_cut_changes_a_forecast(series):
    changed = series.copy()
    changed[240:] += 5
    before, after = run(series), run(changed)
    np.testing.assert_array_equal(before.model.values[:41], after.model.values[:41])  # whose past ends at 240
    np.testing.assert_array_equal(before.naive.values[:41], after.naive.values[:41])
    assert (before.model.values[41:] != after.model.values[41:]).any()


def test_one_model_may_serve_all_cuts(series):
    once, each = run(series, retrain=False), run(series)
    np.testing.assert_array_equal(once.model.values[:40], each.model.values[:40])
    assert (once.model.values[40:] != each.model.values[40:]).any()
    np.testing.assert_array_equal(once.model.values, run(series, cuts=[200]).model.values)


def test_the_model_stays_as_it_is(series):
    model = forecaster()
    model.build((12, 1))
    params = model.params.copy()
    run(series, model)
    np.testing.assert_array_equal(model.params, params)
    assert model.steps == 0


def test_the_naive_forecast_repeats_the_last_season():
    series = np.arange(20.0)
    values = seasonal_naive(series, [9, 12], future=5, season=3)
    np.testing.assert_array_equal(values[..., 0], [[6, 7, 8, 6, 7], [9, 10, 11, 9, 10]])
    np.testing.assert_array_equal(seasonal_naive(series, [9], 3, season=1)[..., 0], [[8, 8, 8]])


def test_intervals_of_the_naive_forecast_are_those_of_its_errors(rng):
    series = rng.standard_normal(5_000).cumsum()
    values = seasonal_naive(series, np.arange(4_000, 4_990), 9, 1, QUANTILES)
    errors = np.array([series[t : t + 9] - series[t - 1] for t in range(1, 4_000 - 9 + 1)])
    np.testing.assert_allclose(values[0] - series[3_999], np.quantile(errors, QUANTILES, axis=0).T)
    width = values[0, :, 2] - values[0, :, 0]
    assert width[8] / width[0] == pytest.approx(3, rel=0.2)  # a random walk's grow with the root of time


def test_errors_by_the_instants_ahead_are_the_metrics(series):
    forecasts = run(series).model
    for k in range(4):
        y, prediction = forecasts.truth[:, k : k + 1], forecasts.values[:, k]
        assert forecasts.mae[k] == pytest.approx(METRICS["mae"](y, prediction[:, 1:2]))
        assert forecasts.pinball[k] == pytest.approx(METRICS["pinball"](y, prediction))
        assert forecasts.coverage[k] == METRICS["coverage"](y, prediction)
    assert forecasts.nominal == 0.8


def test_a_forecast_of_one_value_is_a_median(series):
    model = nbbp.Sequential([nbbp.Flatten(), nbbp.Dense(4)], "mae", nbbp.Adam(0.01))
    result = run(series, model)
    assert result.model.quantiles == (0.5,)
    np.testing.assert_allclose(result.model.pinball, result.model.mae / 2)
    assert "coverage" not in repr(result)


def test_known_columns_are_inputs_of_their_own(series):
    table = np.column_stack([np.arange(300) % 7 == 0, series])
    past, ahead = nbbp.Input((12, 2)), nbbp.Input((4, 1))
    joined = nbbp.Concatenate()(nbbp.Flatten()(past), nbbp.Flatten()(ahead))
    model = nbbp.Model([past, ahead], nbbp.Dense(4)(joined), "mae")
    result = run(table, model, target=1, known=[0])
    np.testing.assert_array_equal(result.model.truth[0], series[200:204])
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("narwhals")
    named = run(pandas.DataFrame(table, columns=["sunday", "load"]), model, target="load", known="sunday")
    np.testing.assert_array_equal(named.model.values, result.model.values)
    with pytest.raises(
        ValueError, match="target is 'loud', and the series is a table with the columns 'sunday', 'load'"
    ):
        run(pandas.DataFrame(table, columns=["sunday", "load"]), model, target="loud")


def test_the_table_has_a_line_for_each_instant_and_one_for_all(series):
    result = run(series)
    lines = repr(result).splitlines()
    assert lines[0] == ("97 forecasts after 2 cuts; naive is the last season, 12 long; coverage should be 0.80")
    assert [line.split()[0] for line in lines[1:]] == ["mae", "ahead", "1", "2", "3", "4", "all"]
    assert lines[2].split() == ["ahead", *["model", "naive"] * 3]
    assert float(lines[-1].split()[1]) == pytest.approx(result.model.mae.mean(), rel=1e-3)


def test_the_bar_counts_epochs_even_if_fits_stop_early(series, capfd):
    run(series, verbose=1, callbacks=[nbbp.callbacks.StopBelow(1e9)])
    assert "10/10" in capfd.readouterr().err


def test_errors_say_what_fits(series):
    for cuts in ([], [240, 200], [200, 200]):
        with pytest.raises(ValueError, match="cuts must be instants that increase"):
            run(series, cuts=cuts)
    with pytest.raises(ValueError, match="the last cut is 297, and the last forecast that the series can check begins"):
        run(series, cuts=[297])
    with pytest.raises(ValueError, match="at each of 4 positions; got 5"):
        run(series, forecaster(4), future=5)
    with pytest.raises(ValueError, match="the series has 14 instants, and a window takes 16"):
        run(series, cuts=[14], season=1)
    with pytest.raises(ValueError, match="no season of 400 before it"):
        run(series, season=400)
    for column, words in (
        (1, "target is column 1, and the series has 1, from 0 to 0"),
        (-2, "target must be -1 or more"),
    ):
        with pytest.raises(ValueError, match=words):
            run(series, target=column)
    with pytest.raises(ValueError, match="known is 'sunday', and the series is an array, without names"):
        run(series, known=["sunday"])
    trained = forecaster()
    trained.fit(*nbbp.streams.windows(series, 12, 4), verbose=0)
    with pytest.raises(ValueError, match="the model has made 9 steps, perhaps on what it is to forecast"):
        run(series, trained)


def test_figures_show_bands_and_both_errors(series, tmp_path):
    result = run(series)
    figure = result.plot(tmp_path / "backtest.png")
    assert (tmp_path / "backtest.png").stat().st_size > 10_000
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[3:] == ["mean absolute error", "pinball loss", "coverage"]
    labels = [line.get_label() for line in figure.axes[5].lines]
    assert labels == ["model", "seasonal naive", "nominal"]
    fan = nbbp.plots.fan(series[:20], result.model.values[0], QUANTILES, result.model.truth[0], tmp_path / "fan.png")
    assert [text.get_text() for text in fan.axes[0].get_legend().get_texts()] == [
        "80% interval", "past", "median", "truth",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="a column for each quantile"):
        nbbp.plots.fan(series[:20], result.model.values[0], (0.1, 0.9))


def test_forecasts_of_others_are_measured_alike(rng):
    truth = rng.standard_normal((50, 3))
    flat = Forecasts(truth, np.broadcast_to([-10.0, 0.0, 10.0], (50, 3, 3)), QUANTILES)
    np.testing.assert_array_equal(flat.coverage, 1)
    np.testing.assert_allclose(flat.mae, np.abs(truth).mean(axis=0))
