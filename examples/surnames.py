"""New names are written letter by letter, by a network that has read 80,000 surnames.

Karpathy's makemore (2022) does it with first names: a GRU reads a name from its beginning, and says at each step which
letter follows, or that the name ends. How well it guesses is the cross-entropy per letter on names that it has not
seen, beside that of tables which count what follows the last few letters. A context that was rarely seen leans on the
shorter one there (MacKay and Peto, "A hierarchical Dirichlet language model", 1995). To write, the network goes on from
a letter that is drawn from its own probabilities; at a temperature below 1 it prefers what is probable.

The surnames are those of the census of the United States of 1990, in the package names: pip install names.
"""

import importlib.util
import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp

LETTERS = ".ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # the dot is before a name and behind it
LONGEST = 14  # letters and the end
HELD_OUT = 5000
TEMPERATURES = (0.4, 0.7, 1.0, 1.3)


def data() -> list[str]:
    """The surnames, shuffled."""
    package = importlib.util.find_spec("names")
    if package is None:
        raise SystemExit("the surnames are in the package names: pip install names")
    lines = (pathlib.Path(package.origin).parent / "dist.all.last").read_text(encoding="utf-8").splitlines()
    names = [line.split()[0] for line in lines]
    return [names[k] for k in np.random.default_rng(0).permutation(len(names))]


def encoded(names: list[str]) -> tuple[nbbp.Ragged, nbbp.Ragged]:
    """The letters that are read, from the dot on, and those that follow, up to the dot."""
    return tuple(
        nbbp.Ragged([[LETTERS.index(letter) for letter in text] for text in texts])
        for texts in ([f".{name}" for name in names], [f"{name}." for name in names])
    )


def network(steps: int) -> nbbp.Sequential:
    return nbbp.Sequential(
        [
            nbbp.Input(LONGEST, dtype="int32"),
            nbbp.Embedding(len(LETTERS), 32),
            nbbp.GRU(128, return_sequences=True),
            nbbp.Dense(len(LETTERS)),
        ],
        loss="softmax_cross_entropy",
        optimizer=nbbp.Adam(nbbp.schedules.Cosine(0.005, steps), clip_norm=1.0),
    )


def train(names: list[str], held_out: list[str], epochs: int = 8, batch_size: int = 128, verbose: int = 1):
    """The network, and its history with the loss per letter of both."""
    model = network(epochs * -(-len(names) // batch_size))
    history = model.fit(*encoded(names), epochs, batch_size, validation_data=encoded(held_out), verbose=verbose)
    return model, history


def windows(names: list[str], before: int) -> tuple[np.ndarray, ...]:
    """Each letter of the names, and the dot behind them, after so many letters before it: an array for each place."""
    texts = ["." * before + name + "." for name in names]
    found = "".join(text[k : k + before + 1] for text in texts for k in range(len(text) - before))
    return tuple(np.array([LETTERS.index(letter) for letter in found]).reshape(-1, before + 1).T)


def counted(names: list[str], held_out: list[str], most: int = 5, strength: float = 5.0) -> list[float]:
    """The cross-entropy of the held-out letters by tables of 1, 2, ... `most` letters, with the one that follows."""
    table, losses = np.full(len(LETTERS), 1 / len(LETTERS), np.float32), []
    for before in range(most):
        counts = np.zeros((len(LETTERS),) * (before + 1), np.float32)
        np.add.at(counts, windows(names, before), 1)
        table = (counts + strength * table) / (counts.sum(axis=-1, keepdims=True) + strength)
        losses.append(float(-np.log(table[windows(held_out, before)]).mean()))
    return losses


def write(model: nbbp.Sequential, count: int, temperature: float, seed: int = 0) -> list[str]:
    """New names: the letters after a dot, up to the next one."""
    begun = np.full((count, 1), LETTERS.index("."))
    written = nbbp.recipes.generate(model, begun, LONGEST, temperature, seed=seed)
    return ["".join(LETTERS[k] for k in row[1:]).split(".")[0] for row in written]


def draw(results, path) -> None:
    """`results` has the history, the losses of n-grams, names by temperature, and the probabilities along a name."""
    history, tables, written, (name, probabilities) = results
    figure = Figure(figsize=(12, 7.4), dpi=120, layout="constrained")
    upper, lower = figure.subfigures(2, 1)
    left, right = upper.subplots(1, 2)
    epochs = np.arange(1, len(history) + 1)
    for values, style, label in (
        (history["loss"], "--", "GRU, names it reads"),
        (history["val_loss"], "-", "GRU, other names"),
    ):
        left.plot(epochs, values, style, color=nbbp.plots.COLORS[0], linewidth=1.8, label=label)
    for k, loss in enumerate(tables, 1):
        left.axhline(loss, color="0.6", linewidth=0.9, linestyle=":")
        label = f"{('letters', 'pairs')[k - 1] if k < 3 else f'{k} letters'} counted"
        side = "top" if k == len(tables) else "bottom"
        left.annotate(label, (len(history), loss), ha="right", va=side, fontsize=8)
    left.set(xlabel="epoch", title="cross-entropy per letter")
    left.legend(frameon=False)
    left.spines[["top", "right"]].set_visible(False)
    right.imshow(probabilities.T, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    places, letters = np.arange(len(name) + 1), [LETTERS.index(letter) for letter in f"{name}."]
    right.plot(places, letters, "s", color=nbbp.plots.COLORS[1], markersize=9, markerfacecolor="none")
    right.set_xticks(places, [f"{name[:k]}_" for k in places], rotation=30, ha="right", fontsize=8)
    right.set_yticks(np.arange(len(LETTERS)), ["end", *LETTERS[1:]], fontsize=6)
    right.set(title=f"{name}: what the GRU expects (grey), and what comes", ylim=(len(LETTERS) - 0.5, -0.9))
    for panel, (temperature, names) in zip(
        lower.subplots(1, len(written), squeeze=False)[0], written.items(), strict=True
    ):
        panel.axis("off")
        panel.set_title(f"new, temperature {temperature}", loc="left")
        panel.text(0, 0.97, "\n".join(names), va="top", family="monospace", fontsize=10, transform=panel.transAxes)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/surnames.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    names = data()
    held_out, names = names[:HELD_OUT], names[HELD_OUT:]
    tables = counted(names, held_out)
    for k, loss in enumerate(tables, 1):
        print(f"{k} letters counted: {loss:.3f}")
    model, history = train(names, held_out)
    print(f"GRU: {history['val_loss'][-1]:.3f}")
    known, written = set(names), {}
    for k, temperature in enumerate(TEMPERATURES):
        drawn = write(model, 1000, temperature, seed=k)
        new = written[temperature] = [name for name in drawn if name not in known]
        print(f"temperature {temperature}: {len(new) / len(drawn):.0%} are new, such as {', '.join(new[:5])}")
    name = next(name for name in held_out if len(name) == 9)
    shown = {temperature: new[:18] for temperature, new in written.items()}
    draw((history, tables, shown, (name, model.predict(encoded([name])[0])[0])), picture)
