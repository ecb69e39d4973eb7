"""Nine speakers are told apart by how they say two vowels, in 7 to 29 instants.

Kudo, Toyama and Shimbo, "Multidimensional curve classification using passing-through regions", 1999: male speakers of
Japanese say /ae/, and each instant of an utterance is 12 cepstral coefficients of linear prediction. There are 30
utterances of each speaker to train on, and 370 others. A recurrent network in both directions reads the utterances as
they are, in an nbbp.Ragged. Its settings were chosen by threefold cross-validation on the utterances to train on.

Convolutions do not follow lengths. For the fully convolutional network of Wang, Yan and Oates (2017) all utterances are
stretched to 29 instants by interpolation, as by Ismail Fawaz et al., "Deep learning for time series classification: a
review", 2019, whose accuracy it has beside it, of ten runs with 2,000 epochs and cubic interpolation.

Usage: python speech.py [PICTURE [SEEDS]]; a seed takes some seconds.
The utterances are in the package aeon. Only its files are read, so that its dependencies are not needed:
pip install --no-deps aeon.
"""

import importlib.util
import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp

LONGEST, COEFFICIENTS, SPEAKERS = 29, 12, 9
PUBLISHED = 99.3, 0.2  # mean and standard deviation of the accuracy in %


def read(path: pathlib.Path) -> tuple[nbbp.Ragged, np.ndarray]:
    """Utterances (instants, 12) and speakers from 0 to 8, from a .ts file."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] not in "#@"]
    utterances = [line.split(":") for line in lines]
    X = [np.array([values.split(",") for values in series], np.float32).T for *series, _ in utterances]
    return nbbp.Ragged(X), np.array([int(speaker) - 1 for *_, speaker in utterances])


def data():
    """(X, y), (X_test, y_test); the coefficients have mean 0 and standard deviation 1 in X."""
    package = importlib.util.find_spec("aeon")
    if package is None:
        raise SystemExit("the utterances are in the package aeon: pip install --no-deps aeon")
    folder = pathlib.Path(package.origin).parent / "datasets" / "data" / "JapaneseVowels"
    (X, y), (X_test, y_test) = (read(folder / f"JapaneseVowels_{part}.ts") for part in ("TRAIN", "TEST"))
    mean, deviation = X.values.mean(axis=0), X.values.std(axis=0)
    X, X_test = (nbbp.Ragged.from_flat((x.values - mean) / deviation, x.offsets) for x in (X, X_test))
    return (X, y), (X_test, y_test)


def recurrent(seed: int, epochs: int = 60, units: int = 128) -> tuple[nbbp.Sequential, int]:
    """A GRU in both directions, the mean of its outputs, and its epochs; 99.3 % of held-out utterances are right."""
    layers = [
        nbbp.Input((LONGEST, COEFFICIENTS)),
        nbbp.GaussianNoise(0.6),
        nbbp.Bidirectional(nbbp.GRU(units, return_sequences=True)),
        nbbp.GlobalAveragePool(),
        nbbp.Dropout(0.5),
        nbbp.Dense(SPEAKERS),
    ]
    return compiled(layers, 0.005, epochs, seed), epochs


def convolutional(seed: int, epochs: int = 60) -> tuple[nbbp.Sequential, int]:
    """The network of series.py for 12 coefficients."""
    layers: list = [nbbp.Input((LONGEST, COEFFICIENTS))]
    for filters, length in ((128, 8), (256, 5), (128, 3)):
        layers += [nbbp.Conv1D(filters, length, padding="same"), nbbp.BatchNorm(), nbbp.Activation("relu")]
    return compiled([*layers, nbbp.GlobalAveragePool(), nbbp.Dense(SPEAKERS)], 0.001, epochs, seed), epochs


def compiled(layers: list, rate: float, epochs: int, seed: int) -> nbbp.Sequential:
    return nbbp.Sequential(
        layers,
        loss="softmax_cross_entropy",
        optimizer=nbbp.Adam(nbbp.schedules.Cosine(rate, 14 * epochs), clip_norm=1.0),
        metrics=["accuracy"],
        seed=seed,
    )


def train(network, X, y, seed: int = 0, verbose: int = 1, **settings) -> nbbp.Sequential:
    model, epochs = network(seed, **settings)
    model.fit(X, y, epochs, batch_size=20, verbose=verbose)
    return model


def stretched(utterances: nbbp.Ragged) -> np.ndarray:
    """All of them with 29 instants (rows, 29, 12), by linear interpolation."""
    return np.array(
        [
            [np.interp(np.linspace(0, len(u) - 1, LONGEST), np.arange(len(u)), values) for values in u.T]
            for u in utterances
        ],
        np.float32,
    ).swapaxes(1, 2)


def heard(model: nbbp.Sequential, utterances: nbbp.Ragged) -> np.ndarray:
    """Probabilities (rows, 29, speakers) after the first 1, 2, ... instants of each utterance, up to its end."""
    X, lengths = utterances.padded(LONGEST), utterances.lengths
    parts = [model.predict(X, lengths=np.minimum(lengths, instants)) for instants in range(1, LONGEST + 1)]
    return np.stack(parts, axis=1)


def draw(accuracies: dict[str, list[float]], probabilities: np.ndarray, X: nbbp.Ragged, y: np.ndarray, path) -> None:
    """`probabilities` are those of `heard` for the utterances X of the speakers y."""
    right = probabilities.argmax(axis=2) == y[:, np.newaxis]
    figure = Figure(figsize=(11.5, 7), dpi=120, layout="constrained")
    (first, second), (third, fourth) = figure.subplots(2, 2)
    late = np.where(right[:, -1], np.argmax(np.cumsum(~right, axis=1), axis=1), 0)  # the last wrong answer
    shown = int(np.argmax(late))
    coefficients, curves = X[shown], probabilities[shown]
    image = first.imshow(
        coefficients.T,
        cmap="coolwarm",
        vmin=-3,
        vmax=3,
        aspect="auto",
        extent=(0.5, len(coefficients) + 0.5, 12.5, 0.5),
    )
    first.set(ylabel="coefficient", xlabel="instant", title=f"an utterance of speaker {y[shown] + 1}")
    figure.colorbar(image, ax=first, label="standard deviations")
    times = np.arange(1, LONGEST + 1)
    for speaker in np.argsort(-curves.max(axis=0)):
        likely = curves[: len(coefficients), speaker].max() > 0.2
        color = nbbp.plots.COLORS[speaker % len(nbbp.plots.COLORS)] if likely else "0.8"
        second.plot(
            times[: len(coefficients)],
            curves[: len(coefficients), speaker],
            color=color,
            linewidth=1.8 if likely else 1,
            label=f"speaker {speaker + 1}" if likely else None,
        )
    second.set(xlabel="instants heard", title="whose it is, of what was heard by then", ylim=(0, 1.02))
    second.legend(frameon=False)
    third.plot(times, 100 * right.mean(axis=0), "o-", color=nbbp.plots.COLORS[0], markersize=4)
    ended = [100 * np.mean(X.lengths <= instants) for instants in times]
    third.fill_between(times, 0, ended, color="0.9")
    third.text(19, 30, "utterances\nthat have ended", color="0.4")
    third.set(xlabel="instants heard", title="test utterances that are right, %", ylim=(0, 102))
    for place, runs in enumerate(accuracies.values()):
        fourth.plot(np.full(len(runs), place), runs, "o", color=nbbp.plots.COLORS[place], alpha=0.5, markersize=5)
        fourth.plot(place, np.mean(runs), "D", color=nbbp.plots.COLORS[place])
    mean, deviation = PUBLISHED
    fourth.errorbar(len(accuracies), mean, 2 * deviation, fmt="s", color="0.4", capsize=4)
    fourth.set_xticks(range(len(accuracies) + 1), [*accuracies, "convolutional, published:\n2 standard deviations"])
    fourth.set(title="test accuracy, %: runs and means", xlim=(-0.5, len(accuracies) + 0.5), ylim=(98, 100))
    for axis in (second, third, fourth):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/speech.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    seeds = range(int(sys.argv[2]) if len(sys.argv) > 2 else 3)
    (X, y), (X_test, y_test) = data()
    accuracies = {}
    recurrents = [train(recurrent, X, y, seed, verbose=0) for seed in seeds]
    accuracies["recurrent"] = [100 * model.evaluate(X_test, y_test)["accuracy"] for model in recurrents]
    convolutionals = [train(convolutional, stretched(X), y, seed, verbose=0) for seed in seeds]
    accuracies["convolutional"] = [
        100 * model.evaluate(stretched(X_test), y_test)["accuracy"] for model in convolutionals
    ]
    for name, runs in accuracies.items():
        print(f"{name}: {np.mean(runs):.2f} % ({', '.join(f'{run:.2f}' for run in runs)})")
    draw(accuracies, heard(recurrents[0], X_test), X_test, y_test, picture)
