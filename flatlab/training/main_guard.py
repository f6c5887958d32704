"""Scripts that start processes: each new one imports the script, and must not come to start others there.

What is certain from the script's own text is refused before any process starts; the rest when a new process comes to
the call, by its exit status.
"""

from __future__ import annotations

import ast
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from ..declare import SettingError

NAME = "flatlab-sweep"  # of the workers, as a respawned script sees it
RESPAWNED = 97  # exit status of a worker that came to `sweep` while it imported the script
GUARD = (
    "starts new processes, and each imports this script first: put what the script does, the call of sweep included,"
    ' under `if __name__ == "__main__":`'
)
_PACKAGE = str(Path(__file__).parents[1]) + os.sep


def refuse_respawn() -> None:
    """End a new process that is still importing the script and has come to a call of `sweep` in it.

    Raises:
        SystemExit: in a worker of a sweep, whose parent then says what is wrong, once.
        SettingError: in any other process.
    """
    for frame in _frames():
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__mp_main__":
            # Python has not yet noted its parent, but it has its name.
            if multiprocessing.current_process().name.startswith(NAME):
                raise SystemExit(RESPAWNED)
            raise SettingError("sweep", allowed=GUARD)


def refuse_unguarded() -> None:
    """Refuse to start processes that would come to this very call, or could not import the script.

    Raises:
        SettingError: if the program is in no file (read from standard input), or its call is under no condition.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None:  # a notebook or a console: nothing is imported
        return
    if getattr(main, "__spec__", None) is None and not Path(file).exists():
        raise SettingError(
            "sweep",
            allowed=f"starts new processes, which import the script, and {file} is no file: save the script and run"
            " that",
        )
    ways: list[FrameType] = []
    for frame in _frames():
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            ways.insert(0, frame)
        if frame.f_globals is vars(main) and frame.f_code.co_name == "<module>":
            if ways[:1] == [frame] and not any(map(_may_differ, ways)):
                raise SettingError("sweep", allowed=GUARD)
            return


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _may_differ(frame: FrameType) -> bool:
    """Whether a new process may take another way through this file than this one: a condition decides, or none knows.

    At the top of a script an exit on another way ends the new process, so that a call after it cannot work either;
    a function may have returned.
    """
    line, code = frame.f_lineno, frame.f_code
    try:
        tree = ast.parse(Path(code.co_filename).read_bytes())
    except (OSError, ValueError, SyntaxError):
        return True
    first = 0 if code.co_name == "<module>" else code.co_firstlineno
    for node in ast.walk(tree):
        begin, end = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
        if isinstance(node, ast.Return) and 0 < first <= begin < line:
            return True
        if begin <= line <= end and (
            isinstance(node, (ast.If, ast.While, ast.Match))
            or (isinstance(node, (ast.BoolOp, ast.IfExp)) and "__name__" in ast.dump(node))
        ):
            return True
    return False
