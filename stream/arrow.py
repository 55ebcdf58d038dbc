"""Arrow as type checkers can bear it: pyarrow brings no types, and what it brings is not all seen.

Everything that handles columns takes `pa`, `pc` and the names of these types from here, so that the
untyped boundary is one file.
"""

from typing import Any, TypeAlias

import pyarrow
import pyarrow.compute

Column: TypeAlias = Any  # a pyarrow.Array
Records: TypeAlias = Any  # a pyarrow.RecordBatch or Table

pa: Any = pyarrow
pc: Any = pyarrow.compute


def texts(column: Column) -> list[str]:
    """The strings of a column: as `to_pylist`, faster, for columns without nulls."""
    strings: list[str] = column.to_numpy(zero_copy_only=False).tolist()
    return strings
