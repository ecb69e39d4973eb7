"""A deep Q-network balances a pole on a cart; the loss is written by hand between `step.forward` and `step.backward`.

Mnih et al., "Human-level control through deep reinforcement learning", 2015: mini-batches from a replay memory, a
target network that is copied from time to time, random actions with a decreasing probability. The gradient of the
squared temporal-difference error reaches only the outputs of the actions that were taken. (Mnih et al. clip the error
to 1. Here falls are few: their errors then count too little, and the values rise without end.) The cart-pole is that of
Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve difficult learning control problems", 1983,
with the numbers of Gym's CartPole-v1: a reward of 1 a step, for 500 steps at most. `dqn_torch.py` has a learner in
PyTorch for the same loop.
"""

import math
import pathlib
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from matplotlib.figure import Figure

import nbbp

STEPS, WARM_UP, MEMORY, BATCH = 100_000, 1_000, 100_000, 64
DISCOUNT, RATE, COPY_EVERY = 0.99, 1e-3, 50
EXPLORE, LEAST_EPSILON = 10_000, 0.01  # steps in which the share of random actions falls from 1
MOST_STEPS = 500  # in an episode
SEEDS = range(5)


class CartPole:
    """A pole on a cart that is pushed to the left (0) or to the right (1), in Euler steps of 0.02 s."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def reset(self) -> tuple[float, ...]:
        """The state: position and velocity of the cart, 5 times the angle, and the angular velocity of the pole.

        All four are of similar size.
        """
        self._state = x, v, angle, w = tuple(self._random.uniform(-0.05, 0.05) for _ in range(4))
        return x, v, 5 * angle, w

    def step(self, action: int) -> tuple[tuple[float, ...], bool]:
        """The next state, and whether the pole has fallen or the cart has left the track."""
        x, v, angle, w = self._state
        cos, sin = math.cos(angle), math.sin(angle)
        push = ((10.0 if action else -10.0) + 0.05 * w * w * sin) / 1.1  # pole of 0.1 kg, half a metre to its centre
        turn = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos * cos / 1.1))
        speed_up = push - 0.05 * turn * cos / 1.1
        self._state = x, v, angle, w = x + 0.02 * v, v + 0.02 * speed_up, angle + 0.02 * w, w + 0.02 * turn
        return (x, v, 5 * angle, w), abs(x) > 2.4 or abs(angle) > math.pi / 15


class Replay:
    """The replay memory of the last transitions, from which mini-batches are drawn."""

    def __init__(self, seed: int) -> None:
        self._rng, self._drawn, self.added = np.random.default_rng(seed), 0, 0
        self._states, self._next = np.zeros((MEMORY, 4), np.float32), np.zeros((MEMORY, 4), np.float32)
        self._actions, self._discounts = np.zeros(MEMORY, np.int64), np.zeros(MEMORY, np.float32)

    def add(self, state: tuple, action: int, after: tuple, fallen: bool) -> None:
        k = self.added % MEMORY
        self._states[k], self._actions[k], self._next[k] = state, action, after
        self._discounts[k] = 0.0 if fallen else DISCOUNT
        self.added += 1

    def batch(self) -> tuple[np.ndarray, ...]:
        """States (rows, 4), actions (rows,), next states (rows, 4), and the discounts of their values (rows,)."""
        k = self._drawn % 256  # numbers for as many mini-batches are drawn together
        if k == 0:
            self._numbers = self._rng.random((256, BATCH))
        self._drawn += 1
        rows = (self._numbers[k] * min(self.added, MEMORY)).astype(np.int64)
        return (
            self._states.take(rows, 0),
            self._actions.take(rows),
            self._next.take(rows, 0),
            self._discounts.take(rows),
        )


class Learner:
    """A network of action values, its target network, and their steps."""

    def __init__(self, seed: int, steps: int) -> None:
        rate = nbbp.schedules.Polynomial(RATE, steps, power=2)
        self.model = nbbp.Sequential(
            [nbbp.Dense(64, "relu"), nbbp.Dense(64, "relu"), nbbp.Dense(2)], optimizer=nbbp.Adam(rate), seed=seed
        )
        self.model.build(4)
        self.target = self.model.copy()
        self._one, self._many = self.model.step(1, training=False), self.model.step(BATCH)
        self._target = self.target.step(BATCH, training=False)
        self._state, self._dz, self._rows = (
            np.zeros((1, 4), np.float32),
            np.zeros((BATCH, 2), np.float32),
            np.arange(BATCH),
        )

    def act(self, state: tuple) -> int:
        """The action with the larger value."""
        self._state[0] = state
        left, right = self._one.forward(self._state)[0].tolist()
        return int(right > left)

    def learn(self, states, actions, after, discounts) -> None:
        """Make an update on half the square of value - (reward + discount * largest value afterwards)."""
        goal = 1 + discounts * self._target.forward(after).max(axis=1)
        error = self._many.forward(states)[self._rows, actions] - goal
        self._dz[:] = 0
        self._dz[self._rows, actions] = error / BATCH
        self._many.backward(self._dz)
        self._many.update()

    def copy(self) -> None:
        """Copy the network to the target network."""
        self.target.blend(self.model, share=1)


@dataclass
class Run:
    """The return of every episode and the step of its end; steps per second once learning has begun."""

    returns: np.ndarray
    ends: np.ndarray
    speed: float

    def last(self, episodes: int = 100) -> float:
        return float(self.returns[-episodes:].mean())


def train(learner, seed: int, steps: int = STEPS) -> Run:
    """Make an update after every step, once there are some transitions to draw from."""
    cart, replay, chance = CartPole(seed), Replay(seed), random.Random(seed)
    returns, ends, length, state = [], [], 0, cart.reset()
    begin = time.perf_counter()
    for step in range(steps):
        if step == WARM_UP:
            begin = time.perf_counter()
        epsilon = max(LEAST_EPSILON, 1 - step / EXPLORE)
        action = chance.randrange(2) if chance.random() < epsilon else learner.act(state)
        after, fallen = cart.step(action)
        replay.add(state, action, after, fallen)
        state, length = after, length + 1
        if fallen or length == MOST_STEPS:
            returns.append(length)
            ends.append(step + 1)
            state, length = cart.reset(), 0
        if step >= WARM_UP:
            learner.learn(*replay.batch())
            if step % COPY_EVERY == 0:
                learner.copy()
    return Run(np.array(returns), np.array(ends), (steps - WARM_UP) / (time.perf_counter() - begin))


def use_fastest(set_threads: Callable[[int], None], learner: type, steps: int = 4000) -> int:
    """Set the number of threads with which a short run takes the least time: they wait for busy neighbours."""
    speeds = {}
    for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
        set_threads(threads)
        speeds[threads] = max(train(learner(0, steps), 0, steps).speed for _ in range(2))
    best = max(speeds, key=lambda threads: speeds[threads])
    set_threads(best)
    return best


def draw(runs: list[Run], path) -> None:
    figure = Figure(figsize=(8.4, 4.2), dpi=120, layout="constrained")
    axis = figure.subplots()
    for seed, (run, color) in enumerate(zip(runs, nbbp.plots.COLORS, strict=False)):
        axis.plot(run.ends, run.returns, ".", color=color, alpha=0.3, markersize=4, markeredgewidth=0)
        total = np.cumsum(run.returns)
        smooth = (total[20:] - total[:-20]) / 20
        label = f"seed {seed}: {run.last():.0f} in the last 100"
        axis.plot(run.ends[20:], smooth, color=color, linewidth=1.6, label=label)
    axis.axhline(475, color="0.4", linewidth=0.8, linestyle="--", label="475: the pole counts as balanced")
    axis.set(xlabel="steps, each with an update", ylabel="return of an episode, mean of 20", ylim=(0, 515))
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/dqn.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    threads = use_fastest(numba.set_num_threads, Learner)
    print(f"nbbp on {threads} thread{'s' * (threads > 1)}:")
    runs = []
    for seed in SEEDS:
        run = train(Learner(seed, STEPS), seed)
        print(f"seed {seed}: mean return {run.last():.1f} in the last 100 of {len(run.returns)} episodes, ", end="")
        print(f"{run.speed:,.0f} steps a second", flush=True)
        runs.append(run)
    draw(runs, picture)
