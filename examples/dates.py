"""Dates as people write them become 2009-05-03: an encoder and a decoder, joined by attention.

A GRU in both directions reads the characters of "Sunday, 3rd of May 2009". Another GRU writes the ten characters of the
date; at each of them, attention looks where in what was read the next one is, after Bahdanau, Cho and Bengio, "Neural
machine translation by jointly learning to align and translate", 2015. In training the decoder is given the characters
that are right so far; afterwards it goes on from its own.

Usage: python dates.py [PICTURE]
"""

import datetime
import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import nbbp
from nbbp.insight.attention import attention_weights

READ = "\0 ,./0123456789ADFJMNOSTWabcdefghilmnoprstuvy"  # the first is padding
WRITTEN = "0123456789-\0"  # the last begins a date
LENGTH, DATE = 33, 10
FORMS = (
    "{day} {month} {year}", "{month} {day}, {year}", "{nth} of {month} {year}", "{month} {nth}, {year}",
    "{weekday}, {nth} of {month} {year}", "{weekday}, {month} {day}, {year}", "{short} {day} {year}",
    "{day}.{number}.{year}", "{day:02}/{number:02}/{year}", "the {nth} of {short} {year}",
)  # fmt: skip


def write(date: datetime.date, form: str) -> str:
    """A date in one of the forms; days come before months in figures."""
    ending = "th" if 10 < date.day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(date.day % 10, "th")
    return form.format(
        day=date.day, nth=f"{date.day}{ending}", number=date.month, year=date.year, weekday=f"{date:%A}",
        month=f"{date:%B}", short=f"{date:%b}",
    )  # fmt: skip


def encode(texts: list[str], alphabet: str, length: int) -> np.ndarray:
    return np.array([[alphabet.index(character) for character in text.ljust(length, "\0")] for text in texts], np.int32)


def data(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Dates of two centuries in random forms, no two alike, and as they should be written."""
    rng, found = np.random.default_rng(seed), {}
    first, days = datetime.date(1850, 1, 1), 200 * 365
    while len(found) < count:
        date = first + datetime.timedelta(int(rng.integers(days)))
        found[write(date, FORMS[rng.integers(len(FORMS))])] = date.isoformat()
    return list(found), list(found.values())


def inputs(texts: list[str], dates: np.ndarray) -> tuple[list[np.ndarray], list]:
    """The characters that are read and those before each that is written, and their masks."""
    X = encode(texts, READ, LENGTH)
    before = np.pad(dates[:, :-1], ((0, 0), (1, 0)), constant_values=WRITTEN.index("\0"))
    return [X, before], [X > 0, None]


def network(units: int = 64, seed: int = 0) -> nbbp.Model:
    text, before = nbbp.Input(LENGTH, "int32"), nbbp.Input(DATE, "int32")
    both = nbbp.Bidirectional(nbbp.GRU(units, return_sequences=True))
    memory = both(nbbp.Embedding(len(READ), 32)(text))
    state = nbbp.GRU(units, return_sequences=True)(nbbp.Embedding(len(WRITTEN), 32)(before))
    seen = nbbp.MultiHeadAttention(heads=1)(state, memory)
    joined = nbbp.Dense(units, "tanh")(nbbp.Concatenate()(state, seen))
    return nbbp.Model(
        [text, before], nbbp.Dense(len(WRITTEN) - 1)(joined), "softmax_cross_entropy", nbbp.Adam(0.003, clip_norm=1.0),
        metrics=["accuracy"], seed=seed,
    )  # fmt: skip


def translate(model: nbbp.Model, texts: list[str]) -> list[str]:
    """Each character is the likeliest after those that are written."""
    dates = np.zeros((len(texts), DATE), np.int32)
    for k in range(DATE):
        X, mask = inputs(texts, dates)
        dates[:, k] = model.predict(X, mask=mask)[:, k].argmax(axis=1)
    return ["".join(WRITTEN[token] for token in date) for date in dates]


def train(count: int = 5000, held_out: int = 1000, epochs: int = 6, verbose: int = 1):
    """The model, its history, and the share of new dates that are right in every character after each epoch."""
    texts, dates = data(count + held_out)
    X, mask = inputs(texts[held_out:], y := encode(dates[held_out:], WRITTEN, DATE))
    model, right = network(), []

    def measure(fit) -> None:
        written = translate(model, texts[:held_out])
        right.append(np.mean([mine == date for mine, date in zip(written, dates, strict=False)]))

    call = nbbp.callbacks.Call(measure)
    history = model.fit(X, y, mask=mask, epochs=epochs, batch_size=64, callbacks=[call], verbose=verbose)
    return model, history, right


def draw(model: nbbp.Model, history, right: list[float], texts: list[str], path) -> None:
    figure = Figure(figsize=(13, 8), layout="constrained")
    curves, *maps = figure.subplots(2, 3).ravel()
    epochs = np.arange(1, len(right) + 1)
    curves.plot(
        epochs, 100 * np.array(history["accuracy"]), "o-", color=nbbp.plots.COLORS[0], label="characters, in training"
    )
    curves.plot(epochs, 100 * np.array(right), "o-", color=nbbp.plots.COLORS[1], label="whole dates, new ones")
    curves.set(xlabel="epoch", ylabel="right (%)", ylim=(0, 102))
    curves.legend(loc="lower right", frameon=False)
    curves.grid(alpha=0.25, linewidth=0.6)
    curves.spines[["top", "right"]].set_visible(False)
    written = translate(model, texts)
    X, mask = inputs(texts, encode(written, WRITTEN, DATE))
    (weights,) = attention_weights(model, X, mask=mask).values()
    for axis, text, date, seen in zip(maps, texts, written, weights[:, 0], strict=True):
        axis.imshow(seen[:, : len(text)].T, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(DATE), date)
        axis.set_yticks(range(len(text)), text, fontsize=7)
        axis.set_title(text, fontsize=9)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/dates.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    model, history, right = train()
    print(f"{100 * right[-1]:.1f} % of new dates are right")
    days = [
        datetime.date(2009, 5, 3),
        datetime.date(1984, 11, 21),
        datetime.date(1912, 2, 29),
        datetime.date(2031, 8, 12),
    ]
    texts = [write(day, FORMS[k]) for day, k in zip(days, (4, 7, 3, 8), strict=True)] + ["1st of April 1905"]
    draw(model, history, right, texts, picture)
