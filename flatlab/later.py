"""Libraries that are imported when they are first used: pandas alone takes a third of the time of torch.

from .later import pd  # in place of `import pandas as pd`
"""

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["nbformat", "pa", "pd", "pq", "special"]


class _Later:
    """A module that is imported when something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self._name), name)
        setattr(self, name, value)
        return value


if TYPE_CHECKING:
    import nbformat
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    from scipy import special
else:
    pd, pa, pq, special = map(_Later, ("pandas", "pyarrow", "pyarrow.parquet", "scipy.special"))
    nbformat = _Later("nbformat")
