"""The settings of a model and its fit, as text and as plain values."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbp._version import __version__
from nbbp.engine.layer import Layer
from nbbp.engine.layout import Layout
from nbbp.engine.memory import size

if TYPE_CHECKING:
    from nbbp.model import Model
    from nbbp.training.observed import ObservedFit


def brief(thing) -> str:
    """The class and the settings that differ from the defaults, such as ``Dense(units=128, activation='relu')``."""
    if dataclasses.is_dataclass(thing):
        fields = {f.name: (brief(getattr(thing, f.name)), brief(f.default)) for f in dataclasses.fields(thing)}
        chosen = [f"{name}={value}" for name, (value, default) in fields.items() if value != default]
        return f"{type(thing).__name__}({', '.join(chosen)})"
    if isinstance(thing, list | tuple):
        return f"[{', '.join(map(brief, thing))}]"
    if callable(thing) or type(thing).__repr__ is object.__repr__:  # whose repr has an address
        return getattr(thing, "__qualname__", type(thing).__name__).partition(".<locals>")[0]
    return repr(thing.item() if isinstance(thing, np.generic) else thing)


def plain(value) -> Any:
    """A setting as a value that every file format supports."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, bool | int | float | str) else brief(value)


def named_settings(thing) -> dict[str, Any]:
    """The name of the class, and all fields of a dataclass as plain values."""
    fields = {field.name: plain(getattr(thing, field.name)) for field in dataclasses.fields(thing)}
    return {"name": type(thing).__name__} | fields


def settings(fit: "ObservedFit") -> dict[str, Any]:
    """The settings that determine a fit's losses: numbers, strings, None, and lists and dicts of them."""
    model = fit.model
    return {
        "layers": [brief(layer) for layer in model.layers],
        "parameters": model.network.layout.size,
        "loss": names_of(model.loss),
        "label_smoothing": plain(model.label_smoothing),
        "optimizer": named_settings(model.optimizer),
        "averaging": plain(model.averaging),
        "rows": fit.settings["rows"],
        "batch_size": fit.batch_size,
        "accumulate": fit.accumulate,
        "shards": fit.shards,
        "epochs": fit.epochs,
        "seed": model.seed,
        "dtype": model.dtype.name,
        "precision": model.precision,
        "backend": model.backend,
        "nbbp": __version__,
    }


def names_of(loss) -> Any:
    """The name of a loss, or the names of the losses of several outputs."""
    if isinstance(loss, dict):
        return {name: own.name for name, own in loss.items()}
    return [own.name for own in loss] if isinstance(loss, list) else loss.name


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings in one dict: ``{"optimizer.name": "Adam", "layers.0": "Dense(...)", ...}``."""
    result: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, list):
            value = {str(i): entry for i, entry in enumerate(value)}
        result |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return result


def table(layers: Sequence[Layer], layout: Layout | None) -> list[tuple[str, str, str]]:
    """The name, the output and the number of parameters of every layer, between a heading and the total.

    A composite layer has one row for all its layers. Without a layout, outputs and numbers are unknown,
    and the layers are shown as they were given.
    """
    rows = [("layer", "output", "parameters")]
    if layout is None:
        return [*rows, *((brief(layer), "", "") for layer in layers)]
    graph = layout.graph
    rows += [(edge.name or "input", str(edge.shape), "") for edge in graph.inputs]
    for name, group in itertools.groupby(graph.nodes, graph.top):
        nodes = list(group)
        own = [node for node in nodes if graph.owners[node] is node]
        size = sum(math.prod(parameter.shape) for node in own for parameter in node.spec.parameters.values())
        text = f"{name} ({nodes[0].layer.name})" if hasattr(nodes[0].layer, "name") and len(nodes) == 1 else name
        shapes = ", ".join(str(edge.shape) for edge in nodes[-1].outputs)
        rows.append((text, shapes, f"{size:,}"))
    return [*rows, ("total", "", f"{layout.size:,}")]


def described(model: "Model") -> str:
    """The layers with their outputs and numbers of parameters, and the memory that training needs, as text."""
    return f"{text(model.network.layout)}\n{memory(model)}"


def memory(model: "Model") -> str:
    """A sentence about the bytes of everything that is as large as the parameters, and of each row of a mini-batch."""
    network, update = model.network, model.update
    flat = network.params, network.grads, *update.moments, *([] if update.mean is None else [update.mean])
    row = size(network.bytes_a_row())
    return f"training needs {size(sum(array.nbytes for array in flat))}, and at most {row} for each row of a mini-batch"


def text(layout: Layout) -> str:
    """The table as text."""
    rows = table([], layout)
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)
