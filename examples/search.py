"""A search for layers, units, learning rate and dropout for the digits by Optuna, which prunes unpromising trials.

The sampler is a tree of Parzen estimators (Bergstra et al., "Algorithms for hyper-parameter optimization", 2011); a
network is pruned, from the third epoch on, if its validation loss is above the median of the others at the same
epoch (Golovin et al., "Google Vizier", 2017). The choice by validation digits is evaluated on test digits.
"""

import pathlib
import sys

import numpy as np
import optuna
from matplotlib.figure import Figure

import nbbp

COMPLETE, PRUNED = "COMPLETE", "PRUNED"


def data() -> tuple[tuple, tuple, tuple]:
    """(X, y) to train on, for validation, and for the test."""
    X, y = nbbp.datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(X))
    return tuple((X[rows], y[rows]) for rows in (order[:1000], order[1000:1400], order[1400:]))


def network(settings: dict) -> nbbp.Sequential:
    hidden = [nbbp.Dense(settings["units"], "relu"), nbbp.Dropout(settings["dropout"])] * settings["layers"]
    optimizer = nbbp.Adam(settings["learning_rate"])
    return nbbp.Sequential([*hidden, nbbp.Dense(10)], "softmax_cross_entropy", optimizer, ["accuracy"])


def search(trials: int = 60, epochs: int = 20, seed: int = 0) -> optuna.Study:
    """Every trial is one fit; its value is the validation loss at the end."""
    train, validation, _ = data()

    def objective(trial: optuna.Trial) -> float:
        model = network(
            {
                "layers": trial.suggest_int("layers", 1, 3),
                "units": trial.suggest_int("units", 8, 256, log=True),
                "learning_rate": trial.suggest_float("learning_rate", 1e-4, 0.1, log=True),
                "dropout": trial.suggest_float("dropout", 0.0, 0.6),
            }
        )
        pruning = nbbp.trackers.OptunaPruning(trial, "val_loss")
        history = model.fit(*train, epochs, 32, validation_data=validation, verbose=0, callbacks=[pruning])
        return history["val_loss"][-1]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=8, n_warmup_steps=3)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)
    study.optimize(objective, n_trials=trials)
    return study


def judge(settings: dict, epochs: int = 20) -> float:
    """Accuracy on the test digits of a network with these settings."""
    train, _, test = data()
    model = network(settings)
    model.fit(*train, epochs, 32, verbose=0)
    return model.evaluate(*test)["accuracy"]


def draw(study: optuna.Study, path) -> None:
    figure = Figure(figsize=(10.5, 4.2), dpi=120, layout="constrained")
    losses, tried = figure.subplots(1, 2)
    blue, orange, green = nbbp.plots.COLORS[:3]
    best = study.best_trial
    for state, color, marker in ((PRUNED, orange, "x"), (COMPLETE, blue, "o")):
        trials = [trial for trial in study.trials if trial.state.name == state]
        rates, dropouts = ([trial.params[name] for trial in trials] for name in ("learning_rate", "dropout"))
        what = "trained to the end" if state == COMPLETE else "pruned"
        tried.plot(rates, dropouts, marker, color=color, label=f"{what}: {len(trials)}")
        for trial in trials:
            epochs, values = zip(*trial.intermediate_values.items(), strict=True)
            losses.plot(epochs, values, color=color, alpha=0.35, linewidth=1)
            losses.plot(epochs[-1], values[-1], marker, color=color, markersize=4)
    losses.plot(*zip(*best.intermediate_values.items(), strict=True), color=green, linewidth=2.4, label="best")
    tried.plot(best.params["learning_rate"], best.params["dropout"], "*", color=green, markersize=15, label="best")
    losses.set(xlabel="epoch", ylabel="validation loss", yscale="log")
    losses.set_xlim(left=0)
    losses.xaxis.get_major_locator().set_params(integer=True)
    tried.set(xlabel="learning rate", ylabel="dropout", xscale="log")
    for axis in (losses, tried):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    tried.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/search.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    study = search()
    epochs = sum(len(trial.intermediate_values) for trial in study.trials)
    print(f"{len(study.trials)} networks, {epochs} epochs; the best has validation loss {study.best_value:.4f}")
    print(f"{study.best_params}: accuracy {judge(study.best_params):.4f} on the test digits")
    draw(study, picture)
