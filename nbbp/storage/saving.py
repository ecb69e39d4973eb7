"""Conversion of a model to arrays and a description, and back."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbp.engine.forms import Form
from nbbp.engine.graph import Graph, chain
from nbbp.engine.layer import Layer
from nbbp.engine.layout import Layout
from nbbp.engine.node import Input
from nbbp.engine.state import Numbers, State
from nbbp.losses import restored
from nbbp.optimizers import Optimizer
from nbbp.storage import files
from nbbp.storage.description import describe, restore
from nbbp.storage.files import Arrays, ModelFileError
from nbbp.storage.graphs import describe_graph, describe_input, restore_graph, restore_input
from nbbp.training.averaging import Averaging

if TYPE_CHECKING:
    from nbbp.model import Model

BESIDE = "fit/"  # prefix of the names of arrays that are not the model's
NAMES = "feature_names"


def save(model: "Model", path) -> None:
    """Save everything that training and prediction need in a safetensors file.

    It contains layers, loss, optimizer with its arrays, averages and parameters; metrics and initializers that are your
    own functions are left out. The file is written beside an older one and then replaces it.

    Parameters
    ----------
    path
        The file, such as ``model.safetensors``.

    Examples
    --------
    >>> import nbbp, os, tempfile
    >>> model = nbbp.Sequential([nbbp.Dense(3)])
    >>> model.build(2)
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> model.save(path)
    >>> bool((nbbp.load(path).params == model.params).all())
    True
    """
    files.write(path, *pack(model.state))


def pack(state: State) -> tuple[Arrays, dict]:
    """The arrays and the description of a model: parameters by name, the optimizer's arrays flat."""
    settings, averaging = dict(state.settings), state.settings["averaging"]
    losses = settings["loss"]
    description = settings | {
        "loss": _each(losses, lambda loss: loss.name),
        "loss_numbers": _each(losses, lambda loss: list(loss.numbers)),
        "optimizer": describe(settings["optimizer"]),
        "metrics": _each(settings["metrics"], _named_metrics, whole=list),
        "averaging": None if averaging is None else describe(averaging),
    }
    if "layers" in settings:
        before: list[Layer] = []
        description["layers"] = [
            describe_input(layer) if isinstance(layer, Input) else describe(layer, before)
            for layer in settings["layers"]
        ]
    else:
        del description["inputs"], description["outputs"]
        description["graph"] = describe_graph(settings["inputs"], settings["outputs"])
    description["epochs"] = state.epochs
    description[NAMES] = None if state.feature_names is None else list(state.feature_names)
    numbers = state.numbers
    if numbers is None:
        return {}, description
    arrays = Layout(_graph(settings, numbers.input_shape)).named(numbers.params, numbers.state)
    arrays |= {f"optimizer.{k}": moment for k, moment in enumerate(numbers.moments)}
    arrays |= {name: a for name, a in (("mean", numbers.mean), ("mask", numbers.mask)) if a is not None}
    return arrays, description | {"steps": numbers.steps, "input_shape": list(numbers.input_shape)}


def _graph(settings: dict[str, Any], input_shape: tuple[int, ...]) -> Graph:
    if "layers" not in settings:
        return Graph(Form("input", settings["inputs"]).things, Form("output", settings["outputs"]).things)
    first, *rest = settings["layers"]
    return chain(first, rest) if isinstance(first, Input) else chain(Input(input_shape), settings["layers"])


def _each(things: Any, function: Any, whole: type = tuple) -> Any:
    """The function of a single item, or of each item in a list or dict."""
    if isinstance(things, dict):
        return {name: function(thing) for name, thing in things.items()}
    return [function(thing) for thing in things] if isinstance(things, list) and whole is not list else function(things)


def _named_metrics(metrics: Any) -> list[str]:
    return [name for name in metrics if isinstance(name, str)]


@contextlib.contextmanager
def refusing(path) -> Iterator[None]:
    """Turn any error while a file's content becomes a model into a ModelFileError."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise ModelFileError(f"{path} does not describe a model that can be built here: {reason}") from error


def unpack(arrays: Arrays, description: dict) -> State:
    """The state from the result of `pack`; to be called within `refusing`."""
    description = {name: value for name, value in description.items() if name != "fit"}
    arrays = {name: array for name, array in arrays.items() if not name.startswith(BESIDE)}
    state = State({}, _count(description.pop("epochs")), _names(description.pop(NAMES)))
    steps, input_shape = description.pop("steps", None), description.pop("input_shape", None)
    numbers, averaging = description.pop("loss_numbers"), description["averaging"]
    settings = state.settings = description | {
        "loss": _losses(description["loss"], numbers),
        "optimizer": restore(description["optimizer"], Optimizer),
        "averaging": None if averaging is None else restore(averaging, Averaging),
    }
    if "graph" in settings:
        settings["inputs"], settings["outputs"] = restore_graph(settings.pop("graph"))
    else:
        before: list[Layer] = []
        settings["layers"] = [
            restore_input(layer) if "input" in layer else restore(layer, Layer, before)
            for layer in description["layers"]
        ]
    if input_shape is None:
        return state
    shape = tuple(_count(length) for length in input_shape)
    dtype, layout = np.dtype(settings["dtype"]), Layout(_graph(settings, shape))
    moments = [f"optimizer.{k}" for k in range(settings["optimizer"].moments)]
    flat = moments + ["mean"] * (averaging is not None) + ["mask"] * ("mask" in arrays)
    _compare(arrays, layout, flat, dtype)
    params, layers_state = np.empty(layout.size, dtype), np.empty(layout.state_size, dtype)
    for name, view in layout.named(params, layers_state).items():
        view[...] = arrays[name]
    state.numbers = Numbers(
        shape, params, layers_state, [arrays[name] for name in moments], arrays.get("mean"), arrays.get("mask"),
        _count(steps),
    )  # fmt: skip
    return state


def _losses(names: Any, numbers: Any) -> Any:
    if isinstance(names, dict):
        return {key: restored(name, numbers[key]) for key, name in names.items()}
    if isinstance(names, list):
        return [restored(name, own) for name, own in zip(names, numbers, strict=True)]
    return restored(names, numbers)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"{value!r} is not a count")
    return value


def _names(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{value!r} are not names of columns")
    return tuple(value)


def _compare(arrays: Arrays, layout: Layout, flat: list[str], dtype: np.dtype) -> None:
    """ValueError unless the arrays are exactly those of the layout; allocates nothing."""
    expected = layout.shapes() | dict.fromkeys(flat, (layout.size,))
    if differing := sorted(expected.keys() ^ arrays.keys()):
        raise ValueError(f"array {differing[0]} is {'missing' if differing[0] in expected else 'not a part of it'}")
    for name, shape in expected.items():
        if arrays[name].shape != shape or arrays[name].dtype != dtype:
            given = f"{arrays[name].dtype} {arrays[name].shape}"
            raise ValueError(f"array {name} is {given}, and should be {dtype} {shape}")
