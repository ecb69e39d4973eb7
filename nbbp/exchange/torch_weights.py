"""PyTorch's weights: in from a state_dict or a safetensors file, and out.

A PyTorch Linear keeps its weight as (out, in), nbbp's Dense as (in, out); the names of the other arrays differ only.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import safetensors.numpy

from nbbp.exchange.parts import Part, check, fill, parts_of
from nbbp.layers import BatchNorm, Dense, Embedding, LayerNorm, Residual
from nbbp.sequential import Sequential
from nbbp.storage.files import replace

Arrays = dict[str, np.ndarray]
COUNTER = "num_batches_tracked"  # of a BatchNorm; nbbp needs none


def from_torch(model: Sequential, source) -> Sequential:
    """Give a model the weights of a PyTorch network of the same architecture.

    Arrays go by name where the names are those of `to_torch_state_dict`. Else modules are matched in order with the
    layers that have parameters: by number where they are numbered alike (``0``, ``2``; ``fc1``, ``fc2``), if not in
    the order of the state_dict, in which they were defined. Optimizer, averages and pruning begin anew.

    A state_dict has no activations and no epsilon: PyTorch's BatchNorm and LayerNorm have 1e-5 unless told otherwise,
    as nbbp's have; their momentum is 1 minus nbbp's. A PyTorch network that is trained with CrossEntropyLoss or
    BCEWithLogitsLoss gives logits, to which `predict` applies the link of the loss.

    Parameters
    ----------
    model : Sequential
        Where it is not built, the first weight says how many features there are.
    source : mapping of str to tensor or array_like, or path
        A state_dict, or a safetensors file. A file keeps no order: one whose modules have other names and no numbers
        is refused.

    Returns
    -------
    Sequential
        The model that was given.

    Raises
    ------
    ValueError
        Where names or shapes do not fit, with those that are left over. The model then stays as it was.

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
    return fill(model, features, lambda found: _assign(found, given, ordered=isinstance(source, Mapping)))


def to_torch_state_dict(model: Sequential) -> dict:
    """Weights under the names that ``torch.nn.Sequential`` gives them, as tensors that share no memory.

    The number in a name is the layer's place among the rows of `Sequential.summary`, where an activation stands by
    itself: ``[Dense(8, "relu"), Dropout(), Dense(2)]`` has ``0.weight, 0.bias, 3.weight, 3.bias``, as
    ``nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2))``. GaussianNoise and a linear Activation
    stand for nn.Identity, which has no arrays either.

    For two layers PyTorch has no module; yours needs these attributes: for Residual ``layers``, an nn.Sequential, and
    ``projection``, an nn.Linear without bias, where the shape changes; for Embedding an nn.Embedding ``table_3`` for
    the categories in column 3.

    The network gives nbbp's outputs before the link of the loss: softmax or sigmoid turns them into what `predict`
    gives.

    Raises
    ------
    ValueError
        For a layer of one's own that has parameters.
    ImportError
        Without PyTorch.
    """
    try:
        import torch
    except ImportError:
        raise ImportError('to_torch_state_dict needs PyTorch: pip install "nbbp[torch]"') from None
    return {name: torch.from_numpy(array) for name, array in _state_dict(model).items()}


def to_safetensors(model: Sequential, path: str | os.PathLike) -> None:
    """Write what `to_torch_state_dict` gives to a safetensors file; PyTorch is not needed.

    Raises
    ------
    ValueError
        For a layer of one's own that has parameters.
    """
    replace(path, safetensors.numpy.save(_state_dict(model)))


def _state_dict(model: Sequential) -> Arrays:
    """Copies, in PyTorch's shapes."""
    state = {name: array.copy() for name, (_, array) in _arrays(parts_of(model)).items()}
    for name in [name for name in state if name.endswith("running_var")]:
        state[name.replace("running_var", COUNTER)] = np.array(model.steps)
    return state


NAMES: dict[type, dict[str, str]] = {
    Dense: {"w": "weight", "b": "bias"},
    BatchNorm: {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"},
    LayerNorm: {"gamma": "weight", "beta": "bias"},
}


def _arrays(found: Sequence[Part], prefix: str = "") -> dict[str, tuple[str, np.ndarray]]:
    """By PyTorch's name: nbbp's, and a view in PyTorch's shape."""
    return {name: (ours, view) for name, ours, view in _named(found, prefix)}


def _named(found: Sequence[Part], prefix: str) -> Iterator[tuple[str, str, np.ndarray]]:
    for i, part in enumerate(found):
        if isinstance(part.layer, Residual):
            within, projection = part.inside()
            yield from _named(within, f"{prefix}{i}.layers.")
            if projection is not None:
                yield f"{prefix}{i}.projection.weight", f"{part.name}.projection.w", projection.T
            continue
        for key, array in part.arrays.items():
            if type(part.layer) is Embedding:
                name = f"{key}.weight"
            elif type(part.layer) in NAMES:
                name = NAMES[type(part.layer)][key]
            else:
                raise ValueError(f"{part.name}: PyTorch's names for {type(part.layer).__name__} are not known")
            yield f"{prefix}{i}.{name}", f"{part.name}.{key}", array.T if isinstance(part.layer, Dense) else array


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
    given = {name: array for name, array in given.items() if name.rpartition(".")[2] != COUNTER}
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
    """Whether the names of the modules differ in numbers alone."""
    return len({re.sub(r"\d+", "#", name.rpartition(".")[0]) for name in names}) == 1


def _assign(found: list[Part], given: Arrays, ordered: bool) -> None:
    wanted = _arrays(found)
    names = {name: name for name in wanted} if wanted.keys() == given.keys() else _matched(given, wanted, ordered)
    for name, (ours, view) in wanted.items():
        array = given[names[name]]
        if array.shape != view.shape:
            raise ValueError(
                f"{ours} takes an array of shape {view.shape} from PyTorch, {names[name]} has {array.shape}"
            )
        view[...] = array


def _matched(given: Arrays, wanted: dict[str, tuple[str, np.ndarray]], ordered: bool) -> dict[str, str]:
    """Names that are given by those that are wanted: the modules of both in their order."""
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
    """Names of arrays by module, in order."""
    modules: dict[str, list[str]] = {}
    for name in names:
        module, _, last = name.rpartition(".")
        modules.setdefault(module, []).append(last)
    return modules
