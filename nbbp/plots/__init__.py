"""Figures. Each function returns a matplotlib Figure, and saves it if a path is given.

Figures are made without pyplot: they need no display, and no figure stays open.
"""

from nbbp.plots.benchmarks import benchmark, comparison, errors_and_seconds
from nbbp.plots.convolutions import feature_maps, filters
from nbbp.plots.curves import learning_rate, loss_curves, small_curve, smoothed
from nbbp.plots.figure import COLORS
from nbbp.plots.forecasts import backtest, draw_errors, draw_fan, fan
from nbbp.plots.networks import gradient_flow, weights
from nbbp.plots.pictures import images, saliency
from nbbp.plots.predictions import confusion_matrix, decision_boundary
from nbbp.plots.tables import dependence, predicted_and_true, reliability, residuals

__all__ = [
    "COLORS",
    "backtest",
    "benchmark",
    "comparison",
    "confusion_matrix",
    "decision_boundary",
    "dependence",
    "draw_errors",
    "draw_fan",
    "errors_and_seconds",
    "fan",
    "feature_maps",
    "filters",
    "gradient_flow",
    "images",
    "learning_rate",
    "loss_curves",
    "predicted_and_true",
    "reliability",
    "residuals",
    "saliency",
    "small_curve",
    "smoothed",
    "weights",
]
