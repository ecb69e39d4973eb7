"""The loop of `dqn.py`, in the same folder, with a learner in PyTorch: equal network, replay memory and mini-batches.

PyTorch runs on as many threads as are fastest here, which is tried first. The figure has the returns of both learners
over the seconds that they take.
"""

import copy
import pathlib
import sys

import dqn
import numba
import numpy as np
import torch
from matplotlib.figure import Figure


class Learner:
    """The counterpart of `dqn.Learner`, with autograd."""

    def __init__(self, seed: int, steps: int) -> None:
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2)
        )
        for layer in self.model[::2]:
            torch.nn.init.xavier_uniform_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
        self.target = copy.deepcopy(self.model)
        self._optimizer = torch.optim.Adam(self.model.parameters(), dqn.RATE, fused=True)
        self._done, self._steps = 0, steps

    def act(self, state: tuple) -> int:
        with torch.inference_mode():
            left, right = self.model(torch.tensor([state]))[0].tolist()
        return int(right > left)

    def learn(self, states, actions, after, discounts) -> None:
        with torch.no_grad():
            goal = 1 + torch.from_numpy(discounts) * self.target(torch.from_numpy(after)).amax(1)
        values = self.model(torch.from_numpy(states)).gather(1, torch.from_numpy(actions)[:, None])[:, 0]
        loss = torch.nn.functional.mse_loss(values, goal) / 2
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.param_groups[0]["lr"] = dqn.RATE * (1 - self._done / self._steps) ** 2
        self._optimizer.step()
        self._done += 1

    def copy(self) -> None:
        self.target.load_state_dict(self.model.state_dict())


def draw(runs: dict[str, dqn.Run], path) -> None:
    figure = Figure(figsize=(8.4, 4.2), dpi=120, layout="constrained")
    axis = figure.subplots()
    for (name, run), color in zip(runs.items(), ("#0072b2", "#d55e00"), strict=True):
        smooth = np.convolve(run.returns, np.full(20, 1 / 20), "valid")
        axis.plot(run.ends[19:] / run.speed, smooth, color=color, label=f"{name}: {run.speed:,.0f} steps a second")
    axis.set(xlabel="seconds", ylabel="return of an episode, mean of 20", ylim=(0, 515))
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/dqn_torch.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    runs = {}
    for name, learner, set_threads in (
        ("PyTorch", Learner, torch.set_num_threads),
        ("nbbp", dqn.Learner, numba.set_num_threads),
    ):
        threads = dqn.use_fastest(set_threads, learner)
        runs[name] = run = dqn.train(learner(0, dqn.STEPS), 0)
        print(f"{name} on {threads} thread{'s' * (threads > 1)}: {run.speed:,.0f} steps a second, ", end="")
        print(f"mean return {run.last():.1f} in the last 100 episodes", flush=True)
    draw(runs, picture)
