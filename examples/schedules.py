"""Learning-rate schedules, and the loss that each reaches in 20 epochs on the digits, from five seeds.

A large rate makes fast progress in the first epochs but never converges; a schedule then makes it smaller. Schedules
mostly make too large a rate usable: a well-chosen constant rate, 0.1, reaches a median of 0.006.
`nbbp.schedules` also has Polynomial (including linear), and WarmUp before any other.
"""

import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp
from nbbp.schedules import Constant, Cosine, Exponential, InverseTime, OneCycle, Step

RATE, EPOCHS, BATCH = 0.3, 20, 32
SEEDS = range(5)


def schedules(steps: int) -> dict[str, nbbp.schedules.Schedule]:
    """Each over this many steps."""
    return {
        "constant": Constant(RATE),
        "step": Step(RATE, every=steps // 3),
        "exponential": Exponential(RATE, steps, factor=0.01),
        "inverse time": InverseTime(RATE, steps, rate=20.0),
        "cosine": Cosine(RATE, steps),
        "cosine, restarts": Cosine(RATE, steps // 7 + 1, restarts=True, growth=2),
        "one cycle": OneCycle(RATE, steps),
    }


def train(name: str, epochs: int = EPOCHS, seed: int = 0, verbose: int = 0) -> nbbp.History:
    X, y = nbbp.datasets.load_digits()
    schedule = schedules(epochs * -(-len(X) // BATCH))[name]
    model = nbbp.Sequential(
        [nbbp.Dense(64, activation="relu"), nbbp.Dense(10)],
        loss="softmax_cross_entropy",
        optimizer=nbbp.SGD(schedule, momentum=0.9),
        seed=seed,
    )
    return model.fit(X, y, epochs=epochs, batch_size=BATCH, verbose=verbose)


def draw(losses: dict[str, list[float]], path) -> None:
    figure = Figure(figsize=(10.5, 4.2), dpi=120, layout="constrained")
    rates, reached = figure.subplots(1, 2)
    steps = np.arange(EPOCHS * 57)
    for place, ((name, last), color) in enumerate(zip(losses.items(), nbbp.plots.COLORS, strict=True)):
        rates.plot(steps / 57, schedules(len(steps))[name](steps), color=color, linewidth=1.8)
        reached.plot(last, np.full(len(last), place), "o", color=color, alpha=0.4, markersize=6)
        reached.plot(np.median(last), place, "|", color=color, markersize=22, markeredgewidth=3)
    rates.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None), xlim=(0, EPOCHS))
    rates.set_xticks(range(0, EPOCHS + 1, 5))
    reached.set(xscale="log", xlabel="training loss of the last epoch: five seeds and their median")
    reached.set_yticks(range(len(losses)), list(losses))
    reached.invert_yaxis()
    for label, color in zip(reached.get_yticklabels(), nbbp.plots.COLORS, strict=True):
        label.set(color=color, fontweight="bold")
    for axis in (rates, reached):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/schedules.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    losses = {name: [train(name, seed=seed)["loss"][-1] for seed in SEEDS] for name in schedules(100)}
    for name, last in losses.items():
        print(f"{name}: " + ", ".join(f"{loss:.4f}" for loss in last))
    draw(losses, picture)
