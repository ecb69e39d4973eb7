"""The network of `nanogpt.py`, in the same folder, in PyTorch: equal weights and mini-batches, and their seconds.

PyTorch's attention and AdamW are its fused ones. The figure has the losses of both over the seconds that they take.

Usage: python nanogpt_torch.py [PICTURE]
"""

import pathlib
import sys
import time

import nanogpt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

import nbbp


def turned(name: str, w):
    """A parameter or a gradient of the model as PyTorch has it, (n_out, n_in)."""
    return w.T if name.endswith(".w") else w


class Block(nn.Module):
    """x = x + attention(norm(x)); y = x + dense(dense(norm(x)))."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_0 = nn.LayerNorm(features)
        self.in_proj, self.out_proj = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.norm_1 = nn.LayerNorm(features)
        self.dense_0, self.dense_1 = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)

    def forward(self, x):
        parts = self.in_proj(self.norm_0(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*parts, is_causal=True)  # (rows, heads, time, features of a head)
        x = x + self.out_proj(attended.transpose(1, 2).flatten(2))
        return x + self.dense_1(F.gelu(self.dense_0(self.norm_1(x))))


class GPT(nn.Module):
    """The network of a model that `nanogpt.network` made, with its weights."""

    def __init__(self, model: nbbp.Sequential) -> None:
        super().__init__()
        tokens, features = model.named_params()["embedding_0.table"].shape
        self.embedding = nn.Embedding(tokens, features)
        self.positions = nn.Parameter(torch.empty(nanogpt.LENGTH, features))
        self.blocks = nn.ModuleList(Block(features, nanogpt.HEADS) for _ in range(nanogpt.BLOCKS))
        self.norm = nn.LayerNorm(features)
        with torch.no_grad():
            for name, w in self.named(model).items():
                w.copy_(torch.from_numpy(turned(name, model.named_params()[name])))
        matrices = [w for w in self.parameters() if w.ndim > 1]
        vectors = [w for w in self.parameters() if w.ndim == 1]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, nanogpt.RATE, (0.9, 0.99), fused=True)

    def named(self, model: nbbp.Sequential) -> dict[str, torch.Tensor]:
        """The parameters by the model's names."""
        own = [self.embedding.weight, self.positions, *self.blocks.parameters(), *self.norm.parameters()]
        return dict(zip(model.named_params(), own, strict=True))

    def forward(self, x):
        x = self.embedding(x) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.embedding.weight.T

    def gradient(self, X, y) -> torch.Tensor:
        """The loss; the gradients are in the parameters."""
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self(X).flatten(0, 1), y.flatten())
        loss.backward()
        return loss

    def learn(self, X, y, rate: float, clip_norm: float) -> float:
        loss = self.gradient(X, y)
        nn.utils.clip_grad_norm_(self.parameters(), clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return loss.item()


def train(model: nbbp.Sequential, pieces: tuple[np.ndarray, np.ndarray]) -> dict[str, tuple[list[float], float]]:
    """Losses and seconds of both on the same mini-batches, the model being the one that is trained."""
    X, y = (torch.from_numpy(part.astype(np.int64)).split(nanogpt.ROWS) for part in pieces)
    gpt, rate, clip_norm = GPT(model), model.learning_rate, model.optimizer.clip_norm
    start = time.perf_counter()
    losses = [gpt.learn(*batch, float(rate(step)), clip_norm) for step, batch in enumerate(zip(X, y, strict=True))]
    middle = time.perf_counter()
    history = model.fit(*pieces, epochs=1, batch_size=nanogpt.ROWS, shuffle=False, verbose=0)
    return {"PyTorch": (losses, middle - start), "nbbp": (list(history.step_loss), time.perf_counter() - middle)}


def draw(results: dict[str, tuple[list[float], float]], path) -> None:
    figure = Figure(figsize=(8.4, 4.2), dpi=120, layout="constrained")
    axis = figure.subplots()
    for (name, (losses, seconds)), color in zip(results.items(), ("#d55e00", "#0072b2"), strict=True):
        few = min(20, len(losses))
        smooth = np.convolve(losses, np.full(few, 1 / few), "valid")
        times = np.linspace(0, seconds, len(losses))[few - 1 :]
        axis.plot(times, smooth, color=color, label=f"{name}: {1000 * seconds / len(losses):.1f} ms a step")
    axis.set(xlabel="seconds", ylabel="loss (nats a character), mean of 20 steps")
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(path)


def main(picture) -> None:
    model = nanogpt.network()
    pieces = nanogpt.rows(nanogpt.encode(nanogpt.text()), nanogpt.STEPS * nanogpt.ROWS, np.random.default_rng(0))
    results = train(model, pieces)
    for name, (losses, seconds) in results.items():
        print(f"{name}: {len(losses)} steps in {seconds:.1f} s, loss {np.mean(losses[-100:]):.3f} in the last 100")
    draw(results, picture)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/nanogpt_torch.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    main(picture)
