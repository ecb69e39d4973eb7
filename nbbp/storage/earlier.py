"""Files of earlier versions, in which some things have other names."""

import re
from typing import Any

import numpy as np


def renewed(arrays: dict[str, np.ndarray], description: Any) -> tuple[dict[str, np.ndarray], Any]:
    """The content of a file under today's names: a ColumnEmbedding was an Embedding of `categories`."""
    new = _renewed(description)
    if new != description and "graph" not in new:  # the nodes of a graph keep the names that they had
        arrays = {re.sub(r"(^|\.)embedding_(\d+\.)", r"\1columnembedding_\2", name): a for name, a in arrays.items()}
    return arrays, new


def _renewed(value: Any) -> Any:
    if isinstance(value, list):
        return [_renewed(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    new = {name: _renewed(entry) for name, entry in value.items()}
    return new | {"type": "ColumnEmbedding"} if value.get("type") == "Embedding" and "categories" in value else new
