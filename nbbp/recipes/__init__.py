"""Other ways to train and to test, tokens from a trained network, and how to make a network smaller."""

from nbbp.recipes.backtesting import Backtest, Forecasts, backtest, seasonal_naive
from nbbp.recipes.generation import generate

__all__ = ["Backtest", "Forecasts", "backtest", "generate", "seasonal_naive"]
