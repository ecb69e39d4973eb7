"""Tables of pandas, polars and pyarrow as the arrays that networks learn from."""

from nbbp.tables.encoding import TableEncoder
from nbbp.tables.frames import CellError, array, check_names, columns, is_table, names
from nbbp.tables.targets import ClassTarget, ValueTarget, target_from_dict

__all__ = [
    "CellError",
    "ClassTarget",
    "TableEncoder",
    "ValueTarget",
    "array",
    "check_names",
    "columns",
    "is_table",
    "names",
    "target_from_dict",
]
