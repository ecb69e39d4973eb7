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


def describe(thing: Any, layers: list[Layer] | None = None) -> dict:
    """The class and the settings of a layer, optimizer, schedule or average.

    An initializer that is a function is left out: it is not needed once there are parameters. A layer that has the
    parameters of another names its number among `layers`, those that were described before, which this one then joins.
    """
    layers = [] if layers is None else layers
    if not dataclasses.is_dataclass(thing):
        raise TypeError(f"{type(thing).__name__} cannot be written to a file: make the class a dataclass")
    settings = {}
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if isinstance(thing, Layer) and value is thing.owner:
            settings[field.name] = {"layer": _number(value, layers)}
        elif isinstance(value, KINDS) or not (_is_default(value, field.default) or callable(value)):
            settings[field.name] = _plain(value, layers)
    if isinstance(thing, Layer):
        layers.append(thing)
    return {"type": type(thing).__name__, **settings}


def _is_default(value: Any, default: Any) -> bool:
    """Whether a setting has its default, of which a copy of the object may have a copy."""
    return value is default or (
        isinstance(value, int | float | str) and type(value) is type(default) and value == default
    )


def _number(layer: Layer, layers: list[Layer]) -> int:
    for number, other in enumerate(layers):
        if other is layer:
            return number
    raise ValueError(f"{layer!r} cannot be referred to: it has to come before in the network")


def _plain(value: Any, layers: list[Layer]) -> Any:
    if isinstance(value, KINDS):
        return describe(value, layers)
    if isinstance(value, Mapping):
        return {"pairs": [[_plain(key, layers), _plain(entry, layers)] for key, entry in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(entry, layers) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a setting of type {type(value).__name__} cannot be written to a file: {value!r}")


def restore(description: Any, base: type, layers: list[Layer] | None = None) -> Any:
    """The described object, an instance of `base`; ValueError or TypeError if it is not.

    `layers` are those that were restored before, as for `describe`.
    """
    layers = [] if layers is None else layers
    if not isinstance(description, dict) or not isinstance(description.get("type"), str):
        raise ValueError(f"a {base.__name__.lower()} has to name its type")
    name = description["type"]
    known = {kind.__name__: kind for kind in _below(base)}
    if name not in known:
        raise ValueError(f"unknown {base.__name__.lower()} {name!r}; a class of your own has to be defined before")
    thing = known[name](**{key: _restored(value, layers) for key, value in description.items() if key != "type"})
    if isinstance(thing, Layer):
        layers.append(thing)
    return thing


def _below(base: type) -> Iterator[type]:
    kind: type
    for kind in base.__subclasses__():
        yield kind
        yield from _below(kind)


def _restored(value: Any, layers: list[Layer]) -> Any:
    if isinstance(value, list):
        return tuple(_restored(entry, layers) for entry in value)
    if not isinstance(value, dict):
        return value
    if "pairs" in value:
        return {_restored(key, layers): _restored(entry, layers) for key, entry in value["pairs"]}
    if value.keys() == {"layer"}:
        number = value["layer"]
        if type(number) is not int or not 0 <= number < len(layers):
            raise ValueError(f"{number!r} is none of the {len(layers)} layers that come before")
        return layers[number]
    for base in KINDS:
        if any(kind.__name__ == value.get("type") for kind in _below(base)):
            return restore(value, base, layers)
    raise ValueError(f"unknown type {value.get('type')!r}; a class of your own has to be defined before")
