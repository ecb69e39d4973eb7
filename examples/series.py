"""Time series are classified by a fully convolutional network, from the raw series.

Three convolutions, each with batch normalization and relu, the mean over time, and a dense layer: Wang, Yan and Oates,
"Time series classification from scratch with deep neural networks: a strong baseline", 2017. The published accuracies
are means and standard deviations of ten runs by Ismail Fawaz et al., "Deep learning for time series classification: a
review", 2019, who train for 2,000 epochs and halve the learning rate on plateaus; here it falls along a cosine in a few
hundred. The class activation map of a series is the dense layer, applied to the last feature maps at every instant;
the first instants also see the zeros of the padding.

Usage: python series.py [PICTURE [SEEDS]]; a seed takes some minutes.
The series are those of the UCR archive in the package aeon. Only its files are read, so that its dependencies are not
needed: pip install --no-deps aeon.
"""

import importlib.util
import pathlib
import sys

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import nbbp

# name: (epochs here, published mean and standard deviation of the accuracy in %)
SETS = {
    "ArrowHead": (500, 84.3, 1.5),
    "GunPoint": (400, 100.0, 0.0),
    "ItalyPowerDemand": (200, 96.1, 0.3),
    "OSULeaf": (200, 97.7, 0.9),
}


def read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Series (rows, time, 1), each with mean 0 and standard deviation 1, and their labels, from a .ts file."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] not in "#@"]
    values, labels = zip(*(line.rsplit(":", 1) for line in lines), strict=True)
    X = np.array([series.split(",") for series in values], np.float32)
    X = (X - X.mean(axis=1, keepdims=True)) / X.std(axis=1, keepdims=True)
    return X[..., np.newaxis], np.unique(labels, return_inverse=True)[1]


def data(name: str):
    """(X, y), (X_test, y_test)."""
    package = importlib.util.find_spec("aeon")
    if package is None:
        raise SystemExit("the series are in the package aeon: pip install --no-deps aeon")
    folder = pathlib.Path(package.origin).parent / "datasets" / "data" / name
    return read(folder / f"{name}_TRAIN.ts"), read(folder / f"{name}_TEST.ts")


def network(classes: int, steps: int, seed: int) -> nbbp.Sequential:
    layers: list[nbbp.Layer] = []
    normal = nbbp.BatchNorm(momentum=0.99, epsilon=0.001)  # as in Keras
    for filters, length in ((128, 8), (256, 5), (128, 3)):
        layers += [nbbp.Conv1D(filters, length, padding="same"), normal, nbbp.Activation("relu")]
    return nbbp.Sequential(
        [*layers, nbbp.GlobalAveragePool(), nbbp.Dense(classes)],
        loss="softmax_cross_entropy",
        optimizer=nbbp.Adam(nbbp.schedules.Cosine(0.001, steps)),
        metrics=["accuracy"],
        seed=seed,
    )


def train(train_set, epochs: int, seed: int = 0, verbose: int = 1) -> tuple[nbbp.Sequential, nbbp.History]:
    (X, y), batch_size = train_set, min(len(train_set[0]) // 10, 16)
    model = network(int(y.max()) + 1, epochs * -(-len(X) // batch_size), seed)
    return model, model.fit(X, y, epochs, batch_size, verbose=verbose)


def activation_maps(model: nbbp.Sequential, X: np.ndarray) -> np.ndarray:
    """The evidence for every class at every instant (rows, time, classes): the same network without the mean."""
    layers = [layer for layer in model.layers if not isinstance(layer, nbbp.GlobalAveragePool)]
    local = nbbp.Sequential(layers)
    local.build(X.shape[1:], model.params, model.network.state)
    return local.predict(X)


def draw(histories: dict[str, nbbp.History], accuracies: dict[str, list[float]], maps, path) -> None:
    """Curves; accuracies beside the published ones; `maps` has series, their labels and their activation maps."""
    figure = Figure(figsize=(10.5, 7.4), dpi=120, layout="constrained")
    upper, lower = figure.subfigures(2, 1)
    left, right = upper.subplots(1, 2)
    for (name, history), color in zip(histories.items(), nbbp.plots.COLORS, strict=False):
        losses = np.mean(np.reshape(history["loss"], (-1, 10)), axis=1)
        left.plot(10 * np.arange(1, len(losses) + 1), losses, color=color, linewidth=1.6, label=name)
    left.set(xlabel="epoch", title="training loss, means of ten epochs", yscale="log")
    left.legend(frameon=False)
    places = np.arange(len(accuracies))
    published = [SETS[name][1:] for name in accuracies]
    right.errorbar(
        places - 0.1, [mean for mean, _ in published], [2 * deviation for _, deviation in published],
        fmt="s", color="0.4", capsize=4, label="published: mean and two standard deviations",
    )  # fmt: skip
    ours = nbbp.plots.COLORS[1]
    for place, runs in zip(places, accuracies.values(), strict=True):
        right.plot(np.full(len(runs), place + 0.1), runs, "o", color=ours, alpha=0.5, markersize=4)
        right.plot(place + 0.1, np.mean(runs), "D", color=ours, label="nbbp: runs and mean" if place == 0 else None)
    right.set_xticks(places, list(accuracies))
    right.set(title="test accuracy, %", xlim=(-0.5, len(places) - 0.5))
    right.legend(frameon=False, loc="center right")
    for axis in (left, right):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    X, y, evidence = maps
    gun = evidence[:, :, 0] - evidence[:, :, 1]
    limit = np.percentile(np.abs(gun), 98)
    panels = lower.subplots(1, 2, sharey=True)
    for label, (panel, title) in enumerate(zip(panels, ("a gun is drawn", "a finger points"), strict=True)):
        for series, local in zip(X[y == label], gun[y == label], strict=True):
            points = np.stack([np.arange(len(series)), series[:, 0]], axis=1)
            lines = LineCollection(np.stack([points[:-1], points[1:]], axis=1), linewidth=1.6, clim=(-limit, limit))
            lines.set_array(local)
            panel.add_collection(lines)
        panel.autoscale()
        panel.set(xlabel="time", title=title)
        panel.spines[["top", "right"]].set_visible(False)
    bar = lower.colorbar(lines, ax=list(panels), ticks=[-limit, 0, limit])
    bar.set_ticklabels(["finger", "neither", "gun"])
    lower.suptitle("where GunPoint's test series are evidence for either class", fontsize=12)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/series.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    seeds = range(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    histories, accuracies = {}, {}
    for name, (epochs, mean, deviation) in SETS.items():
        train_set, test_set = data(name)
        runs = [train(train_set, epochs, seed) for seed in seeds]
        histories[name] = runs[0][1]
        accuracies[name] = [100 * model.evaluate(*test_set)["accuracy"] for model, _ in runs]
        print(f"{name:16} {np.mean(accuracies[name]):5.1f} %, published {mean:5.1f} ({deviation})", flush=True)
        if name == "GunPoint":
            X, y = test_set
            maps = X[:20], y[:20], activation_maps(runs[0][0], X[:20])
    draw(histories, accuracies, maps, picture)
