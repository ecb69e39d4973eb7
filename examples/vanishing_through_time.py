"""How much of a gradient is left after many steps of a recurrent network, and what to do where it grows.

The loss depends on the state after 100 steps, and its gradient with respect to the input of an earlier step says how
much can be learned from there. In a network without gates, each step between the two multiplies it with the recurrent
weights and the slopes of tanh: it shrinks or grows exponentially, according to their size (Hochreiter, diploma thesis,
1991; Bengio, Simard and Frasconi, "Learning long-term dependencies with gradient descent is difficult", 1994).

An LSTM (Hochreiter and Schmidhuber, "Long short-term memory", 1997) or a GRU (Cho et al., "Learning phrase
representations using RNN encoder-decoder", 2014) has gates that decide how much of its state is kept. They are no
remedy as long as they keep little: with its first weights, an LSTM forgets a quarter of its state in each step, a GRU
half of it. With biases that say "keep", the gradient of step 1 has the size of that of step 100; as a rule, training
has to find them.

Where gradients grow, a step of the optimizer may lead far away from all that was learned. Clipping scales them down to
a norm (Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013). To show it, a
SimpleRNN learns to add two marked numbers of 30, see `adding_problem.py`.
"""

import pathlib
import sys

import adding_problem
import numpy as np
from matplotlib.figure import Figure

import nbbp

STEPS, UNITS = 100, 32
CLIPS = (None, 1.0, 0.3)


def orthogonal(factor: float):
    """An initializer: rotations and reflections, times a factor."""
    return lambda shape, rng: factor * nbbp.INITIALIZERS["orthogonal"](shape, rng)


def networks() -> dict[str, tuple[nbbp.Layer, float | None]]:
    """Recurrent layers; and the bias that those have whose gate is to keep their state."""
    plain = {
        f"SimpleRNN, {factor:g} x orthogonal": (nbbp.SimpleRNN(UNITS, recurrent_initializer=orthogonal(factor)), None)
        for factor in (0.7, 1, 2)
    }
    return plain | {
        "GRU": (nbbp.GRU(UNITS), None),
        "GRU, bias 5": (nbbp.GRU(UNITS), 5.0),
        "LSTM": (nbbp.LSTM(UNITS), None),
        "LSTM, bias 5": (nbbp.LSTM(UNITS), 5.0),
    }


def norms(layer: nbbp.Layer, keep: float | None) -> np.ndarray:
    """The norm of the gradient of each step's inputs, as a multiple of that of the last one's (steps,)."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((64, STEPS, 2)), rng.standard_normal((64, 1))
    model = nbbp.Sequential([layer, nbbp.Dense(1)], loss="mse")
    model.build((STEPS, 2))
    if keep is not None:
        first = UNITS if isinstance(layer, nbbp.LSTM) else 0  # the second gate of an LSTM, the first of a GRU
        bias = next(value for value in model.named_params().values() if value.ndim == 1)
        bias[first : first + UNITS] = keep
    found = np.linalg.norm(np.float64(model.input_gradients(X, y)), axis=(0, 2))  # squares of 1e-22 too
    return found / found[-1]


def train(clip_norm: float | None, epochs: int = 20) -> np.ndarray:
    """The training loss of each epoch of a SimpleRNN on 2,000 sequences."""
    optimizer = nbbp.SGD(0.05, momentum=0.9, clip_norm=clip_norm)
    model = nbbp.Sequential([nbbp.SimpleRNN(UNITS), nbbp.Dense(1)], loss="mse", optimizer=optimizer)
    return np.array(model.fit(*adding_problem.data(2000, 30, seed=0), epochs, batch_size=20, verbose=0)["loss"])


def draw(gradients: dict[str, np.ndarray], losses: dict[float | None, np.ndarray], path) -> None:
    figure = Figure(figsize=(11.5, 4.4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    for (name, sizes), color in zip(gradients.items(), nbbp.plots.COLORS, strict=True):
        left.plot(np.arange(1, STEPS + 1), sizes, color=color, label=name)
    left.set(xlabel="step", ylabel="norm, times that of step 100", yscale="log", ylim=(1e-28, 1e8), xlim=(1, STEPS))
    left.set_title("gradient with respect to a step's input, before training")
    left.legend(frameon=False, fontsize="small", loc="lower right")
    for (clip, loss), color in zip(losses.items(), nbbp.plots.COLORS, strict=False):
        label = "no clipping" if clip is None else f"clipped to {clip:g}"
        right.plot(np.arange(1, len(loss) + 1), loss, "o-", color=color, markersize=4, label=label)
    right.set(xlabel="epoch", xticks=range(0, 21, 5), yscale="log", title="training loss: two of 30 numbers")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/vanishing_through_time.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    gradients = {name: norms(*network) for name, network in networks().items()}
    for name, sizes in gradients.items():
        print(
            f"{name}: the gradient of step 1 is {sizes[0]:.1e} times, of step 50 {sizes[49]:.1e} times that of step 100"
        )
    losses = {clip: train(clip) for clip in CLIPS}
    for clip, loss in losses.items():
        print(f"clip_norm {clip}: largest loss {loss.max():.3g}, last {loss[-1]:.4f}")
    draw(gradients, losses, picture)
