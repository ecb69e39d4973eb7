"""Other ways to train and to test, and to make a network smaller."""

from nbbp.recipes.backtesting import Backtest, Forecasts, backtest, seasonal_naive

__all__ = ["Backtest", "Forecasts", "backtest", "seasonal_naive"]
