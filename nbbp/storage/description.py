"""Conversion of layers, optimizers, schedules and averages to plain values for JSON, and back.

Each is a dataclass; its description names the class and the fields that differ from their defaults:
``{"type": "Dense", "units": 10}``. Classes of one's own are found by their names once they are defined.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nbbp.engine.layer import Layer
from nbbp.optimizers import Optimizer
from nbbp.schedules import Schedule
from nbbp.training.averaging import Averaging

KINDS = (Layer, Optimizer, Schedule, Averaging)


def describe(thing: Any) -> dict:
    """The class and the settings of a layer, optimizer, schedule or average.

    An initializer that is a function is left out: it is not needed once there are parameters.
    """
    if not dataclasses.is_dataclass(thing):
        raise TypeError(f"{type(thing).__name__} cannot be written to a file: make the class a dataclass")
    settings = {}
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if isinstance(value, KINDS) or (value is not field.default and not callable(value)):
            settings[field.name] = _plain(value)
    return {"type": type(thing).__name__, **settings}


def _plain(value: Any) -> Any:
    if isinstance(value, KINDS):
        return describe(value)
    if isinstance(value, Mapping):
        return {"pairs": [[_plain(key), _plain(entry)] for key, entry in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a setting of type {type(value).__name__} cannot be written to a file: {value!r}")


def restore(description: Any, base: type) -> Any:
    """The described object, an instance of `base`; ValueError or TypeError if it is not."""
    if not isinstance(description, dict) or not isinstance(description.get("type"), str):
        raise ValueError(f"a {base.__name__.lower()} has to name its type")
    name = description["type"]
    known = {kind.__name__: kind for kind in _below(base)}
    if name not in known:
        raise ValueError(f"unknown {base.__name__.lower()} {name!r}; a class of your own has to be defined before")
    return known[name](**{key: _restored(value) for key, value in description.items() if key != "type"})


def _below(base: type) -> Iterator[type]:
    kind: type
    for kind in base.__subclasses__():
        yield kind
        yield from _below(kind)


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_restored(entry) for entry in value)
    if not isinstance(value, dict):
        return value
    if "pairs" in value:
        return {_restored(key): _restored(entry) for key, entry in value["pairs"]}
    for base in KINDS:
        if any(kind.__name__ == value.get("type") for kind in _below(base)):
            return restore(value, base)
    raise ValueError(f"unknown type {value.get('type')!r}; a class of your own has to be defined before")
