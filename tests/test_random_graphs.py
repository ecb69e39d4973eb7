"""Graphs at random against PyTorch's autograd: what may be overwritten, and where gradients are added."""

import numpy as np
import pytest
from toys import Both, ToyReshape

import nbbp
from nbbp.engine.node import Edge
from nbbp.kernels import random

ROWS = 5
SHAPES = [(6,), (2, 3), (3, 2)]
ACTIVATIONS = ["tanh", "relu", "gelu", "softmax", "elu", "linear"]
KINDS = {
    "activation": 4, "add": 4, "dropout": 3, "view": 3, "dense": 5, "both": 2, "multiply": 1, "concatenate": 1,
    "layer_norm": 1, "batch_norm": 1, "residual": 1,
}  # fmt: skip


class Draw:
    """The inputs and outputs of a graph: edges that are taken at random, newer ones more often."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.edges: list[Edge] = [nbbp.Input(6) for _ in range(self.rng.integers(1, 3))]
        self.layers: dict[tuple, list[nbbp.Layer]] = {}
        entries = list(self.edges)
        kinds, shares = list(KINDS), np.array(list(KINDS.values())) / sum(KINDS.values())
        for kind in self.rng.choice(kinds, self.rng.integers(4, 15), p=shares):
            self.edges += getattr(self, kind)(self.one())
        leads = {}  # the inputs that lead to an edge
        for edge in self.edges:
            leads[edge] = self.sources(edge)
        made = [edge for edge in self.edges if edge.node is not None]
        chosen = [made[k] for k in self.rng.choice(len(made), min(len(made), self.rng.integers(1, 4)))]
        self.outputs = [made[-1], *chosen]
        self.inputs = [entry for entry in entries if any(entry in leads[edge] for edge in self.outputs)]

    def sources(self, edge: Edge) -> set[Edge]:
        return {edge} if edge.node is None else set().union(*map(self.sources, edge.node.inputs))

    def one(self, shape: tuple[int, ...] | None = None) -> Edge:
        known = [edge for edge in self.edges if shape in (None, edge.shape)]
        return known[-1 - min(int(self.rng.exponential(1.5)), len(known) - 1)]

    def layer(self, key: tuple, make) -> nbbp.Layer:
        """A new one, or one that was called before."""
        known = self.layers.setdefault(key, [])
        if not known or self.rng.random() < 0.6:
            known.append(make())
        return known[self.rng.integers(len(known))]

    def activation(self, x):
        return [nbbp.Activation(str(self.rng.choice(ACTIVATIONS)))(x)]

    def add(self, x):
        terms = [x, *(self.one(x.shape) for _ in range(self.rng.integers(1, 3)))]
        if self.rng.random() < 0.3:  # the same memory again
            terms.append(ToyReshape(x.shape)(ToyReshape(SHAPES[self.rng.integers(3)])(x)))
        return [nbbp.Add()(*(terms[k] for k in self.rng.permutation(len(terms))))]

    def multiply(self, x):
        return [nbbp.Multiply()(x, self.one(x.shape))]

    def concatenate(self, x):
        joined = nbbp.Concatenate()(x, self.one(x.shape))
        return [nbbp.Dense(x.shape[-1])(joined)]

    def dropout(self, x):
        return [nbbp.Dropout(float(self.rng.choice([0.2, 0.5])))(x)]

    def view(self, x):
        return [ToyReshape(SHAPES[self.rng.integers(3)])(x)]

    def both(self, x):
        first, second = Both()(x)
        return [[first], [second], [first, second], [second, first]][self.rng.integers(4)]

    def dense(self, x):
        width, name, bias = x.shape[-1], str(self.rng.choice(["linear", "tanh"])), bool(self.rng.integers(2))
        return [self.layer(("dense", width), lambda: nbbp.Dense(width, name, bias))(x)]

    def layer_norm(self, x):
        return [self.layer(("layer_norm", x.shape[-1]), nbbp.LayerNorm)(x)]

    def batch_norm(self, x):
        return [self.layer(("batch_norm", x.shape[-1]), nbbp.BatchNorm)(x)]

    def residual(self, x):
        inner = nbbp.Residual([nbbp.Activation("elu"), nbbp.Dropout(0.3)])
        return [nbbp.Residual([nbbp.Activation("tanh"), inner, nbbp.Dense(x.shape[-1])])(x)]


def kept(seed: int, number: int, rate: float, shape: tuple[int, ...]) -> np.ndarray:
    """What a network's dropout layer of this number draws in the first step: 0 or 1 / (1 - rate)."""
    key = random.bits(np.array([random.stream(seed, random.IN_LAYERS, number)]), np.array([0], np.uint64))
    bits = random.bits(key, np.arange(np.prod(shape), dtype=np.uint64)).reshape(shape)
    return (bits < np.uint64((1 - rate) * 2.0**64)) / (1 - rate)


def in_torch(torch, graph, inputs, p, seed: int) -> list:
    """The outputs, each node computed by PyTorch, in memory of its own."""
    F = torch.nn.functional
    named = {
        "tanh": torch.tanh, "relu": torch.relu, "gelu": F.gelu, "elu": F.elu, "linear": lambda x: x,
        "softmax": lambda x: torch.softmax(x, -1),
    }  # fmt: skip
    known, streams = dict(zip(graph.inputs, inputs, strict=True)), 0
    for node in graph.nodes:
        layer, (x, *others) = node.layer, [known[edge] for edge in node.inputs]
        own, ys = (lambda name, of=graph.names[graph.owners[node]]: p.get(f"{of}.{name}")), None
        if isinstance(layer, nbbp.Activation):
            y = named[layer.name](x)
        elif isinstance(layer, nbbp.Dense):
            y = x @ own("w") + (own("b") if layer.use_bias else 0)
        elif isinstance(layer, nbbp.Add):
            y = x + sum(others)
        elif isinstance(layer, nbbp.Multiply):
            y = x * others[0]
        elif isinstance(layer, nbbp.Concatenate):
            y = torch.cat([x, *others], -1)
        elif isinstance(layer, nbbp.Dropout):
            streams += 1
            y = x * torch.tensor(kept(seed, streams, layer.rate, tuple(x.shape)))
        elif isinstance(layer, nbbp.LayerNorm):
            y = F.layer_norm(x, x.shape[-1:], own("gamma"), own("beta"), layer.epsilon)
        elif isinstance(layer, nbbp.BatchNorm):
            rows = x.reshape(-1, x.shape[-1])
            y = F.batch_norm(rows, None, None, own("gamma"), own("beta"), True, 0, layer.epsilon).reshape(x.shape)
        elif isinstance(layer, ToyReshape):
            y = x.reshape(len(x), *layer.shape)
        else:
            assert isinstance(layer, Both)
            ys = [2 * x, -x]
        known |= zip(node.outputs, ys or [y], strict=True)
    return [known[edge] for edge in graph.outputs]


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_gradients_agree_with_autograd(first):
    torch = pytest.importorskip("torch")
    for seed in range(first, first + 10):
        draw = Draw(seed)
        rng, weights = draw.rng, [float(w) for w in draw.rng.uniform(0.5, 2, len(draw.outputs))]
        model = nbbp.Model(draw.inputs, draw.outputs, loss_weights=weights, seed=seed, dtype="float64")
        model.params[:] = rng.normal(0.2, 0.6, model.params.size)
        X = [rng.standard_normal((ROWS, *edge.shape)) for edge in draw.inputs]
        y = [rng.standard_normal((ROWS, *edge.shape)) for edge in draw.outputs]
        p = {name: torch.tensor(value.copy(), requires_grad=True) for name, value in model.named_params().items()}
        inputs = [torch.tensor(x, requires_grad=True) for x in X]
        outputs = in_torch(torch, model.network.graph, inputs, p, seed)
        losses = [torch.nn.functional.mse_loss(z, torch.tensor(t)) for z, t in zip(outputs, y, strict=True)]
        loss = sum(w * own for w, own in zip(weights, losses, strict=True))
        loss.backward()
        expected = p | {f"input {k}": x for k, x in enumerate(inputs)}
        for backend in ("numba", "numpy"):
            twin = model.with_backend(backend)
            for _ in range(2):  # the second time, arrays are full of what the first left in them
                found = {name: slopes.copy() for name, slopes in twin.gradients(X, y).items()}
                found |= {f"input {k}": slopes for k, slopes in enumerate(twin.input_gradients(X, y))}
                agree(found, expected, seed, backend)
            step = twin.step(ROWS)
            z = step.forward(X)
            for got, right in zip(z, outputs, strict=True):
                np.testing.assert_allclose(got, right.detach(), rtol=1e-10, atol=1e-12, err_msg=f"graph {seed}")
            dz = [2 * w * (own - t) / t.size for w, own, t in zip(weights, z, y, strict=True)]
            dX = step.backward(dz)
            found = dict(twin.network.layout.named(twin.grads))
            found |= {f"input {k}": dx for k, dx in enumerate(dX if isinstance(dX, list) else [dX])}
            agree(found, expected, seed, backend)
        got = model.fit(X, y, batch_size=ROWS, shuffle=False, verbose=0).step_loss[0]
        assert got == pytest.approx(loss.item(), rel=1e-10)


def agree(found: dict, expected: dict, seed: int, backend: str) -> None:
    assert found.keys() == expected.keys()
    for name, slopes in found.items():
        right = expected[name].grad
        right = np.zeros(slopes.shape) if right is None else right.numpy()
        scale = 1e-12 * max(1.0, float(np.abs(right).max()))
        np.testing.assert_allclose(slopes, right, rtol=1e-10, atol=scale, err_msg=f"graph {seed}, {backend}: {name}")


def test_much_is_drawn_that_may_go_wrong():
    """In the graphs above, outputs lie in the memory of inputs, layers are shared, and outputs are unused."""
    views = shared = unused = inner = 0
    for seed in range(60):
        graph = nbbp.Model((draw := Draw(seed)).inputs, draw.outputs).network.graph
        views += sum(node.spec.view for node in graph.nodes)
        shared += sum(node is not owner for node, owner in graph.owners.items())
        read = set(graph.consumers) | set(graph.outputs)
        unused += sum(edge not in read for node in graph.nodes for edge in node.outputs)
        inner += sum(edge in graph.consumers for edge in graph.outputs)
    assert min(views, shared, unused, inner) > 20
