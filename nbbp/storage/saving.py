"""A model as arrays and a description, and back."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from nbbp.engine.layer import Layer
from nbbp.engine.layout import Layout, lay_out
from nbbp.losses import restored
from nbbp.optimizers import Optimizer
from nbbp.storage.description import describe, restore
from nbbp.storage.files import Arrays, ModelFileError
from nbbp.training.averaging import Averaging

BESIDE = "fit/"  # beginning of the names of arrays that are not the model's
COUNTS = ("epochs", "steps")
NAMES = "feature_names"


def pack(state: dict[str, Any]) -> tuple[Arrays, dict]:
    """What ``Sequential.__getstate__`` gives, for a file: parameters by name, the optimizer's arrays flat."""
    settings = state["settings"]
    averaging = settings["averaging"]
    description = settings | {
        "layers": [describe(layer) for layer in settings["layers"]],
        "loss": settings["loss"].name,
        "loss_numbers": list(settings["loss"].numbers),
        "optimizer": describe(settings["optimizer"]),
        "metrics": [name for name in settings["metrics"] if isinstance(name, str)],
        "averaging": None if averaging is None else describe(averaging),
    }
    description |= {name: state[name] for name in COUNTS if name in state}
    description[NAMES] = None if state[NAMES] is None else list(state[NAMES])
    if "params" not in state:
        return {}, description
    layout = lay_out(settings["layers"], state["input_shape"])
    arrays = layout.named(state["params"], state["state"])
    arrays |= {f"optimizer.{k}": moment for k, moment in enumerate(state["moments"])}
    arrays |= {name: state[name] for name in ("mean", "mask") if state[name] is not None}
    return arrays, description | {"input_shape": list(state["input_shape"])}


@contextlib.contextmanager
def refusing(path) -> Iterator[None]:
    """Whatever goes wrong while a file's content becomes a model is a ModelFileError."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise ModelFileError(f"{path} does not describe a model that can be built here: {reason}") from error


def unpack(arrays: Arrays, description: dict) -> dict[str, Any]:
    """What ``Sequential.__setstate__`` takes, out of what `pack` gave; to be called within `refusing`."""
    description = {name: value for name, value in description.items() if name != "fit"}
    arrays = {name: array for name, array in arrays.items() if not name.startswith(BESIDE)}
    state: dict[str, Any] = {name: _count(description.pop(name)) for name in COUNTS if name in description}
    state[NAMES] = _names(description.pop(NAMES))
    input_shape, numbers = description.pop("input_shape", None), description.pop("loss_numbers")
    averaging = description["averaging"]
    settings = description | {
        "layers": [restore(layer, Layer) for layer in description["layers"]],
        "loss": restored(description["loss"], numbers),
        "optimizer": restore(description["optimizer"], Optimizer),
        "averaging": None if averaging is None else restore(averaging, Averaging),
    }
    state["settings"] = settings
    if input_shape is None:
        return state
    shape = tuple(_count(length) for length in input_shape)
    dtype, layout = np.dtype(settings["dtype"]), lay_out(settings["layers"], shape)
    moments = [f"optimizer.{k}" for k in range(settings["optimizer"].moments)]
    flat = moments + ["mean"] * (averaging is not None) + ["mask"] * ("mask" in arrays)
    _compare(arrays, layout, flat, dtype)
    params, layers_state = np.empty(layout.size, dtype), np.empty(layout.state_size, dtype)
    for name, view in layout.named(params, layers_state).items():
        view[...] = arrays[name]
    return state | {
        "input_shape": shape, "params": params, "state": layers_state, "moments": [arrays[name] for name in moments],
        "mean": arrays.get("mean"), "mask": arrays.get("mask"),
    }  # fmt: skip


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
    """ValueError unless there are exactly the arrays that the layout wants; nothing is allocated for it."""
    expected = layout.shapes() | dict.fromkeys(flat, (layout.size,))
    if differing := sorted(expected.keys() ^ arrays.keys()):
        raise ValueError(f"array {differing[0]} is {'missing' if differing[0] in expected else 'not a part of it'}")
    for name, shape in expected.items():
        if arrays[name].shape != shape or arrays[name].dtype != dtype:
            given = f"{arrays[name].dtype} {arrays[name].shape}"
            raise ValueError(f"array {name} is {given}, and should be {dtype} {shape}")
