"""Import of PyTorch's weights from a state_dict or a safetensors file, and export.

A PyTorch Linear stores its weight as (out, in), nbbp's Dense as (in, out), and convolutions alike; PyTorch has channels
first, and therefore another order of features behind a Flatten. `torch_recurrent` has what recurrent layers need; other
arrays differ in their names only.
"""

import collections
import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from nbbp.engine.graph import Graph
from nbbp.engine.layout import Layout
from nbbp.engine.node import Edge, Node, Scope
from nbbp.exchange import torch_recurrent
from nbbp.exchange.channels import orders
from nbbp.exchange.walk import check, outputs_first
from nbbp.exchange.weights import AnyModel, fill
from nbbp.layers import (
    BatchNorm,
    ColumnEmbedding,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Embedding,
    GroupNorm,
    LayerNorm,
    MultiHeadAttention,
    PositionalEmbedding,
    Scale,
    TiedDense,
    TransformerBlock,
)
from nbbp.layers.convolution import Convolution
from nbbp.layers.recurrent import Recurrent
from nbbp.model import Model
from nbbp.sequential import Sequential
from nbbp.storage.files import replace

Arrays = dict[str, np.ndarray]
COUNTER = "num_batches_tracked"  # a BatchNorm's counter, which nbbp does not need


def from_torch(model: AnyModel, source) -> AnyModel:
    """Give a model the weights of a PyTorch network of the same architecture.

    Arrays are matched by name if the names are those of `to_torch_state_dict`. Otherwise modules are matched with the
    layers that have parameters, in the order of these layers' calls: by number if the names differ only in numbers
    (``0``, ``2``; ``fc1``, ``fc2``), otherwise in the order of the state_dict, that of their definition. Optimizer,
    averages and pruning are reset.

    A state_dict has no activations and no epsilon: PyTorch's normalizations have 1e-5 by default, as nbbp's BatchNorm
    and LayerNorm do, but GroupNorm has 1e-3; their momentum is 1 minus nbbp's. A PyTorch network that is trained with
    CrossEntropyLoss or BCEWithLogitsLoss returns logits, to which `predict` applies the loss's output activation.
    PyTorch's images have channels first, nbbp's last: `to_torch_state_dict` says what that means for weights.

    Parameters
    ----------
    model : Model or Sequential
        The model to fill; if it is not built, the first weight determines the number of features.
    source : mapping of str to tensor or array_like, or path
        A state_dict, or a safetensors file. A file preserves no order: one whose modules have other names without
        numbers is refused.

    Returns
    -------
    Model or Sequential
        The model that was given.

    Raises
    ------
    ValueError
        If names or shapes do not match; the message lists those that are left over. The model then stays as it was.

    Examples
    --------
    >>> import nbbp, numpy as np
    >>> state_dict = {"fc.weight": np.ones((2, 3)), "fc.bias": np.zeros(2)}
    >>> model = nbbp.exchange.from_torch(nbbp.Sequential([nbbp.Dense(2)]), state_dict)
    >>> model.named_params()["dense_0.w"].shape
    (3, 2)
    """
    check(model)
    given = _read(source)
    first = next((array for name, array in given.items() if name.rpartition(".")[2] == "weight"), None)
    features = first.shape[-1] if first is not None and first.ndim in (1, 2) else None
    ordered = isinstance(source, Mapping)
    return fill(model, features, lambda *flat: _assign(_arrays(model, *flat), given, ordered))


def to_torch_state_dict(model: Model) -> dict:
    """Weights under PyTorch's names, as tensors that share no memory.

    For a `Sequential`, the names are those of ``torch.nn.Sequential``: a number is the layer's index in the sequence,
    in which an activation is a layer of its own. ``[Dense(8, "relu"), Dropout(), Dense(2)]`` has ``0.weight, 0.bias,
    3.weight, 3.bias``, like ``nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2))``. GaussianNoise
    and a linear Activation correspond to nn.Identity, which has no arrays either. For another `Model`, modules have the
    names of `Model.named_params`: ``dense_0.weight``, ``residual_0.dense_0.weight``; a layer that is called twice is
    one module.

    A learned PositionalEmbedding is an nn.Embedding whose vectors are added, and a TiedDense an nn.Linear without bias
    whose weight is an Embedding's.
    MultiHeadAttention on one edge has the names of nn.MultiheadAttention, and TransformerBlock those of
    nn.TransformerEncoderLayer. MultiHeadAttention on several edges has an nn.Linear ``q_proj``, ``kv_proj`` and so on.

    SimpleRNN, GRU and LSTM are nn.RNN, nn.GRU and nn.LSTM with ``batch_first=True``, of one layer each; a Bidirectional
    is one of them with ``bidirectional=True``. Their second bias is 0, but for the part on which a GRU's reset gate
    acts; `from_torch` adds both, and a module with ``num_layers=2`` fills two layers. Such a module returns its output
    and its states: without ``return_sequences``, nbbp's output is the last state. A layer that goes backwards on its
    own is a module whose input is reversed in time.

    PyTorch has no module for two layers; yours needs these attributes: for Residual in a sequence ``layers``, an
    nn.Sequential, and ``projection``, an nn.Linear without bias, if the shape changes; for ColumnEmbedding an
    nn.Embedding ``table_3`` for the categories in column 3.

    The network returns nbbp's outputs before the output activation: apply softmax or sigmoid to get predictions.

    PyTorch's images and series have channels first, (rows, channels, height, width); weights of a convolution are
    (filters, channels, height, width), and (channels, filters, height, width) if it is transposed. Channels also come
    first in what nn.Flatten makes of an image: the parameters of the layers behind it have that order of features, up
    to the columns of a Linear; and so have those before an nn.Unflatten that makes an image, from the rows of a Linear
    on. Layers that PyTorch applies to the last axis, nn.Linear and nn.LayerNorm, need an image with channels last. A
    convolution with more padding on one side than on the other, as "same" may have, is one that pads before; a global
    pool, which returns (rows, channels), is one module too.

    Raises
    ------
    ValueError
        If a layer with parameters, such as one of one's own, is not in `NAMES`, if a GRU has ``reset_after=False``, or
        if features need two orders at once.
    ImportError
        If PyTorch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise ImportError('to_torch_state_dict needs PyTorch: pip install "nbbp[torch]"') from None
    return {name: torch.from_numpy(array) for name, array in _state_dict(model).items()}


def to_safetensors(model: Model, path: str | os.PathLike) -> None:
    """Write the arrays of `to_torch_state_dict` to a safetensors file; PyTorch is not needed.

    Raises
    ------
    ValueError
        As `to_torch_state_dict`.
    """
    replace(path, safetensors.numpy.save(_state_dict(model)))


def _state_dict(model: Model) -> Arrays:
    """Copies of the arrays in PyTorch's shapes."""
    check(model)
    network = model.network
    named = _arrays(model, network.layout, network.params, network.state)
    state = torch_recurrent.parted({name: array[index].copy() for name, (_, array, index) in named.items()})
    counted = [name.removesuffix("running_var") for name in state if name.endswith(".running_var")]
    return state | {f"{module}{COUNTER}": np.array(model.steps) for module in counted}


NAMES: dict[type, dict[str, str]] = {
    **{kind: {"w": "weight", "b": "bias"} for kind in (Dense, Conv1D, Conv1DTranspose, Conv2D, Conv2DTranspose)},
    BatchNorm: {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"},
    GroupNorm: {"gamma": "weight", "beta": "bias"},
    LayerNorm: {"gamma": "weight", "beta": "bias"},
    Scale: {"s": "weight"},
    **{kind: {"table": "weight"} for kind in (Embedding, PositionalEmbedding, TiedDense)},
    **dict.fromkeys(torch_recurrent.KINDS, torch_recurrent.NAMES),
}
"""The names of a layer's arrays in PyTorch's module; a ColumnEmbedding's table is a module of its own."""

IN_BLOCK = {
    "multiheadattention_0": "self_attn", "dense_0": "linear1", "dense_1": "linear2", "layernorm_0": "norm1",
    "layernorm_1": "norm2",
}  # fmt: skip
"""The layers of a TransformerBlock as the modules of nn.TransformerEncoderLayer, in its order."""

Wanted = dict[str, tuple[str, np.ndarray, Any]]
"""By PyTorch's name: nbbp's name, a view in PyTorch's shape, and the index of its elements in PyTorch's order."""


def _arrays(model: Model, layout: Layout, params: np.ndarray, state: np.ndarray) -> Wanted:
    graph = layout.graph
    modules = dict(_in_rows(graph)) if isinstance(model, Sequential) else graph.names
    modules = {
        node: torch_recurrent.module(node, _within_block(graph, node, module)) for node, module in modules.items()
    }
    moved = orders(graph)
    wanted = {}
    for node in _in_order(layout):
        place = layout.of(node)
        for key, view in vars(place.views(params, state)).items():
            joint = "_" if _is_in_proj(node) else "."
            name = f"{modules[node]}{joint}{_name(node, graph, key)}"
            if isinstance(node.layer, Dense | Convolution | Recurrent):
                view = outputs_first(view)
            wanted[name] = f"{place.name}.{key}", view, _index(node, view, moved)
    return wanted


def _block(node: Node) -> int | None:
    """The number of scopes outside of the TransformerBlock to which a node belongs; None if it belongs to none."""
    found = (k for k, scope in enumerate(node.scopes) if isinstance(getattr(scope, "layer", None), TransformerBlock))
    return next(found, None)


def _within_block(graph: Graph, node: Node, module: str) -> str:
    """The name of a module, with the part behind a TransformerBlock as in nn.TransformerEncoderLayer."""
    depth = _block(node)
    if depth is None:
        return module
    outer, inner = module.split(".layers.")[: depth + 1], graph.names[node].split(".")[depth + 1 :]
    if module == graph.names[node]:
        outer = module.split(".")[: depth + 1]
    return ".".join([*outer, *(IN_BLOCK.get(part, part) for part in inner)])


def _in_order(layout: Layout) -> list[Node]:
    """The nodes that are modules with arrays, those within a TransformerBlock in PyTorch's order."""
    graph, order = layout.graph, {name: k for k, name in enumerate(IN_BLOCK)}
    first: dict[str, int] = {}

    def key(numbered: tuple[int, Node]) -> tuple[int, int]:
        number, node = numbered
        depth = _block(node)
        if depth is None:
            return number, 0
        parts = graph.names[node].split(".")
        return first.setdefault(".".join(parts[: depth + 1]), number), order.get(parts[depth + 1], len(order))

    def is_called_again(node: Node) -> bool:
        place = layout.of(node)
        return node is not place.node and node.layer is place.layer

    once = [(number, node) for number, node in enumerate(graph.nodes) if not is_called_again(node)]
    return [node for _, node in sorted(once, key=key)]


def _is_in_proj(node: Node) -> bool:
    """Whether a node is the one that nn.MultiheadAttention has as arrays of its own."""
    *outer, last = node.scopes or (None,)
    return last == "in_proj" and isinstance(getattr(outer[-1], "layer", None), MultiHeadAttention)


def _index(node: Node, view: np.ndarray, moved: dict[Edge, np.ndarray]) -> Any:
    """The index of a view's elements in PyTorch's order; its axes are the features of the output and of the input."""
    if isinstance(node.layer, Recurrent):
        return torch_recurrent.rows(node, len(view))
    features = [moved.get(edge) for edge in (*node.outputs, *node.inputs)][: view.ndim]
    if all(index is None for index in features):
        return ...
    return np.ix_(*(np.arange(n) if index is None else index for n, index in zip(view.shape, features, strict=True)))


def _name(node: Node, graph: Graph, key: str) -> str:
    kind = type(node.layer)
    if kind is ColumnEmbedding:
        return f"{key}.weight"
    if kind in torch_recurrent.KINDS:
        return torch_recurrent.own(graph.names[node], node, key)
    if kind not in NAMES:
        raise ValueError(
            f"{graph.names[node]}: PyTorch's names for {kind.__name__} are not known; enter them in "
            f"nbbp.exchange.torch_weights.NAMES[{kind.__name__}]"
        )
    return NAMES[kind][key]


def _in_rows(graph: Graph) -> Iterator[tuple[Node, str]]:
    """Nodes with the names of modules in nn.Sequential: their indices in the sequence.

    A composite layer has an index too; its layers without a name of their own are in a sequence ``layers``.
    """
    lengths: collections.Counter[str] = collections.Counter()
    places: dict[Scope, str] = {}

    def next_place(row: str) -> str:
        lengths[row] += 1
        return f"{row}{lengths[row] - 1}"

    for node in graph.nodes:
        row, name = "", ""
        for scope in node.scopes:
            if isinstance(scope, str):
                name = f"{row.removesuffix('layers.')}{scope}"
                break
            if scope not in places:
                places[scope] = next_place(row)
            row = f"{places[scope]}.layers."
        yield node, name or next_place(row)


def _read(source) -> Arrays:
    if isinstance(source, str | os.PathLike):
        with contextlib.suppress(ImportError):
            import ml_dtypes  # noqa: F401, gives NumPy bfloat16
        try:
            given = safetensors.numpy.load_file(os.fspath(source))
        except (safetensors.SafetensorError, TypeError) as error:
            raise ValueError(
                f"{source} is not a safetensors file, is damaged, or has a dtype that NumPy has not: {error}; "
                f"safetensors.torch.load_file gives a dict of any dtype"
            ) from error
    elif isinstance(source, Mapping):
        given = {name: _array(name, value) for name, value in source.items()}
    else:
        raise TypeError(f"source must be a state_dict or a safetensors file, got {type(source).__name__}")
    given = torch_recurrent.joined({k: array for k, array in given.items() if k.rpartition(".")[2] != COUNTER})
    return {name: given[name] for name in sorted(given, key=_numbers)} if _numbered_alike(given) else given


def _array(name: str, value) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor; NumPy has no bfloat16
        value = value.detach().cpu().double()
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    return array


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name.rpartition(".")[0])]


def _numbered_alike(names) -> bool:
    """Whether the names of the modules differ in numbers only."""
    return len({re.sub(r"\d+", "#", name.rpartition(".")[0]) for name in names}) == 1


def _assign(wanted: Wanted, given: Arrays, ordered: bool) -> None:
    names = {name: name for name in wanted} if wanted.keys() == given.keys() else _matched(given, wanted, ordered)
    filled: dict[str, str] = {}  # ours by theirs
    for name, (ours, view, index) in wanted.items():
        array = given[names[name]]
        other = filled.setdefault(ours, names[name])
        if not np.array_equal(given[other], array, equal_nan=True):
            raise ValueError(f"{ours} is one array, and {other} differs from {names[name]}, which is tied to it here")
        if array.shape != view.shape:
            raise ValueError(
                f"{ours} takes an array of shape {view.shape} from PyTorch, {names[name]} has {array.shape}"
            )
        view[index] = array


def _matched(given: Arrays, wanted: Wanted, ordered: bool) -> dict[str, str]:
    """Given names by wanted names, the modules of both matched in order."""
    theirs, ours = _modules(given), _modules(wanted)
    if not (ordered or _numbered_alike(given)):
        raise ValueError(
            f"a safetensors file keeps no order, and the modules {', '.join(theirs)} are not numbered alike: load it "
            f"with safetensors.torch.load_file and give a dict in the order of the network"
        )
    for (module, entries), (place, places) in zip(theirs.items(), ours.items(), strict=False):
        if set(entries) != set(places):
            layer = wanted[_full(place, places[0])][0].rpartition(".")[0]
            raise ValueError(f"{module or 'the module'} has {', '.join(entries)}; {layer} takes {', '.join(places)}")
    extra = [f"no layer takes {_full(module, name)}" for module in list(theirs)[len(ours) :] for name in theirs[module]]
    extra += [
        f"nothing is given for {wanted[_full(place, name)][0]}"
        for place in list(ours)[len(theirs) :]
        for name in ours[place]
    ]
    if extra:
        raise ValueError("; ".join(extra))
    pairs = zip(theirs, ours, strict=True)
    return {_full(place, name): _full(module, name) for module, place in pairs for name in ours[place]}


def _full(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name


def _modules(names) -> dict[str, list[str]]:
    """The names of arrays by module, in order."""
    modules: dict[str, list[str]] = {}
    for name in names:
        module, _, last = name.rpartition(".")
        modules.setdefault(module, []).append(last)
    return modules
