"""Classes of the user's own (algorithms, local steps, schedules, partitions) in processes that must import them first.

An experiment travels as JSON, which names a class by its kind: whoever reads it must have imported the class's module.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from typing import Any

from ..declare import Declared, SettingError, declared_classes

Place = tuple[str, str]  # a class's module and its name there


def own_classes(experiments: Iterable[Declared], executor: Executor | None) -> list[Place]:
    """The classes that workers must import to read these experiments.

    Args:
        experiments: what the workers will read.
        executor: where they work; None: in processes that are spawned here.

    Raises:
        SettingError: if a class lives where no worker can import it from, such as a notebook's cell.
    """
    if isinstance(executor, concurrent.futures.ThreadPoolExecutor):
        return []
    imported = executor is None or isinstance(executor, concurrent.futures.ProcessPoolExecutor)
    script = imported and hasattr(sys.modules["__main__"], "__file__")  # such processes import the script, too
    used = {cls for experiment in experiments for cls in declared_classes(experiment)}
    classes = {cls for cls in used if cls.__module__.partition(".")[0] != "flatlab"}
    for cls in classes:
        if "<locals>" in cls.__qualname__:
            where = "inside a function"
        elif cls.__module__ == "__main__" and not script:
            where = "in a script" if hasattr(sys.modules["__main__"], "__file__") else "in a notebook"
        elif _look_up(cls.__module__, cls.__qualname__) is None:
            where = f"in {cls.__module__}, but under no name"
        else:
            continue
        raise SettingError(
            cls.__name__,
            allowed=f"is defined {where}, which workers cannot import; put the class at the top level of a module of"
            " its own (a .py file beside this one) and import it here",
        )
    return sorted((cls.__module__, cls.__qualname__) for cls in classes)


def import_own(places: Sequence[Place]) -> None:
    """Import these classes' modules, in a worker.

    Raises:
        SettingError: if a module cannot be imported here, or has no such class.
    """
    for module, name in places:
        try:
            cls = _look_up(module, name)
        except ImportError as error:
            raise SettingError(
                name,
                allowed=f"this worker cannot import {module} ({error}); install it there, or put its folder on the"
                " workers' PYTHONPATH (on a Dask cluster: client.upload_file)",
            ) from None
        if cls is None:
            raise SettingError(
                name,
                allowed=f"workers do not find it in {module}; define it at the module's top level, not under"
                ' `if __name__ == "__main__":`',
            )


def import_module(name: str) -> None:
    """Import a module whose classes a file names.

    Raises:
        SettingError: if it cannot be imported.
    """
    try:
        importlib.import_module(name)
    except Exception as error:
        hint = f"; give a module's name, as in {name[:-3].replace('/', '.')!r}" if name.endswith(".py") else ""
        raise SettingError("import", name, f"{type(error).__name__}: {error}{hint}") from None


def _look_up(module: str, name: str) -> Any:
    """What a module has under a dotted name."""
    place: Any = sys.modules.get(module) or importlib.import_module(module)
    for part in name.split("."):
        place = getattr(place, part, None)
    return place
