"""Other ways to train and to test, networks with tuned defaults, tokens from a trained network, smaller networks."""

from nbbp.recipes.backtesting import Backtest, Forecasts, backtest, seasonal_naive
from nbbp.recipes.generation import generate
from nbbp.recipes.realmlp import realmlp
from nbbp.recipes.tabular import TableModel

__all__ = ["Backtest", "Forecasts", "TableModel", "backtest", "generate", "realmlp", "seasonal_naive"]
