"""What all ranks of a fit must have in common, compared before the first step."""

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

from nbbp._version import __version__
from nbbp.distributed import Ranks
from nbbp.engine import planner
from nbbp.engine.data import Data, joined
from nbbp.storage import saving
from nbbp.streams import Stream
from nbbp.training.checkpoint import marks

if TYPE_CHECKING:
    from nbbp.model import Model


@dataclasses.dataclass(frozen=True)
class Agreement:
    """What ranks have found out about each other's data.

    Attributes
    ----------
    apart : bool
        Whether each rank has training data of its own.
    rows : int
        The number of training rows of all ranks together.
    validation : Data or None
        The validation rows of all ranks.
    marks : dict of str to (str, int, None, or list of them)
        What identifies the data, of each rank if they differ: see `nbbp.training.checkpoint.marks`.
    """

    apart: bool
    rows: int
    validation: Data | None
    marks: dict[str, Any]


def agree(ranks: Ranks, model: "Model", data: Data | Stream, validation: Data | None, given: dict) -> Agreement:
    """Compare the ranks' models, arguments and data.

    Raises
    ------
    ValueError
        If they do not train the same model in the same way.
    """
    first = model.prepare(*data.first(), whole=False) if isinstance(data, Stream) else data
    arrays, description = saving.pack(model.state)
    parameters = hashlib.sha256()
    for array in arrays.values():
        parameters.update(array.tobytes())
    forms = {"the form of X and y": _form(first), "validation data": None if validation is None else _form(validation)}
    ranks.check_equal({"nbbp's version": __version__} | forms | description | given)
    ranks.check_equal({"the digest of the parameters": parameters.hexdigest()[:16]})
    own: dict[str, Any] = marks(model, data, None)
    if isinstance(data, Stream) and data.chunks == 1:  # its marks have no digest
        own |= first.digests()
    everyone = ranks.gather("data", own)
    apart = any(theirs != own for theirs in everyone)
    if apart:
        own = {name: [theirs[name] for theirs in everyone] for name in own}
    rows = sum(ranks.gather("number of rows", data.rows)) if apart else data.rows
    if validation is not None:
        found, *others = ranks.gather("validation data", validation.digests())
        if any(theirs != found for theirs in others):
            validation = joined(ranks.gather("validation rows", validation.padded()))
            found = validation.digests()
        own |= {f"validation {name}": digest for name, digest in found.items()}
    return Agreement(apart, rows, validation, own)


def number_of_shards(ranks: Ranks, model: "Model", rows: int, accumulate: int) -> int:
    """The number of shards of a mini-batch if nobody says another: that of one process, or one for each rank."""
    default = 1 if accumulate > 1 else len(planner.shards(model.network, rows))
    return max(*ranks.gather("number of shards", default), ranks.size)


def _form(data: Data) -> str:
    """The shapes and dtypes of a row's arrays, as text."""
    fields = zip(("X", "y"), (data.inputs, data.truths), strict=True)
    arrays = [(name, array) for name, some in fields for array in some]
    return ", ".join(f"{name} {a.dtype} ({', '.join(['rows', *map(str, a.shape[1:])])})" for name, a in arrays)
