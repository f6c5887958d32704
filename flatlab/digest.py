"""What stands for any value, a user's own code included, so that what was made of it is not taken for another's.

    digest(nn.CrossEntropyLoss(weight=w)), digest(lambda logits, labels: ...), digest(MyNet()), digest(MyAlgorithm)

Functions and classes of one's own count by their code, constants, defaults, closures and the globals that they use;
those of installed packages by their names. Own code is told apart as Python compiled it: names, comments and line
numbers of the file do not matter, another Python version does.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, type(...))
CODE = (
    "co_code", "co_consts", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_flags", "co_argcount",
    "co_posonlyargcount", "co_kwonlyargcount", "co_exceptiontable",
)  # fmt: skip

# What Python, its library and pydantic write into classes and modules; `__gain__ = 3` is the user's.
PYTHONS = frozenset([
    "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__", "__annotations_cache__",
    "__builtins__", "__cached__", "__callable_proto_members_only__", "__class_vars__",
    "__classdictcell__", "__closed__",
    "__conditional_annotations__", "__constants__", "__dataclass_fields__", "__dataclass_params__", "__dict__",
    "__doc__", "__extra_items__", "__file__", "__firstlineno__", "__format__", "__hash__", "__loader__",
    "__match_args__", "__module__", "__mutable_keys__", "__name__", "__non_callable_proto_members__",
    "__optional_keys__", "__orig_bases__", "__package__", "__parameters__", "__path__", "__private_attributes__",
    "__protocol_attrs__", "__qualname__", "__readonly_keys__", "__required_keys__", "__signature__", "__slots__",
    "__spec__", "__static_attributes__", "__total__", "__type_params__", "__weakref__",
])  # fmt: skip


class Opaque(TypeError):
    """A value that cannot be looked into, such as an open file or compiled code."""


def digest(*things: Any, strict: bool = True) -> str:
    """32 hexadecimal digits that are equal for equal values, in any process of one Python version.

    Args:
        things: whatever counts.
        strict: refuse what cannot be looked into; else its type stands for it.

    Raises:
        Opaque: naming the type.
    """
    return _Reader(strict).of(things).hex()


def own(thing: type | types.FunctionType) -> bool:
    """Whether a class or function is the user's: of no installed package, not of Python's, not of flatlab."""
    return not _installed(getattr(thing, "__module__", None) or "__main__")


@functools.cache
def _installed(module: str) -> bool:
    top = module.partition(".")[0]
    if top in ("__main__", "__mp_main__"):  # whose file may be an installed launcher's
        return False
    if top in ("builtins", "flatlab") or top in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    folders = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")]
    return file is not None and any(folder in Path(file).parents for folder in folders)


class _Reader:
    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.digests: dict[int, tuple[Any, bytes]] = {}  # the value too: a freed one's number may be another's
        self.open: list[int] = []

    def of(self, thing: Any) -> bytes:
        if isinstance(thing, PLAIN) and type(thing) in PLAIN:
            return _mix(type(thing).__name__, repr(thing))
        if id(thing) in self.digests:
            return self.digests[id(thing)][1]
        if id(thing) in self.open:  # it holds itself
            return _mix("cycle", str(len(self.open) - self.open.index(id(thing))))
        self.open.append(id(thing))
        try:
            digest = self._look(thing)
        finally:
            self.open.pop()
        self.digests[id(thing)] = (thing, digest)
        return digest

    def _look(self, thing: Any) -> bytes:
        if isinstance(thing, torch.Tensor):
            return self._tensor(thing)
        if isinstance(thing, np.ndarray) and thing.dtype != object:
            return _mix("array", str(thing.dtype), str(thing.shape), np.ascontiguousarray(thing).tobytes())
        if type(thing) in (tuple, list):
            return _mix(type(thing).__name__, *map(self.of, thing))
        if type(thing) in (set, frozenset):  # whose order changes with the process
            return _mix("set", *sorted(map(self.of, thing)))
        if type(thing) is dict:
            return _mix("dict", *(part for pair in thing.items() for part in map(self.of, pair)))
        if isinstance(thing, types.CodeType):
            return _mix("code", *(self.of(getattr(thing, name)) for name in CODE))
        if isinstance(thing, types.FunctionType):
            return self._function(thing) if own(thing) else _mix("name", thing.__module__, thing.__qualname__)
        if isinstance(thing, types.ModuleType):
            return self._module(thing)
        if isinstance(thing, type):
            return self._class(thing) if own(thing) else _mix("name", thing.__module__, thing.__qualname__)
        if isinstance(thing, (types.MethodType, types.BuiltinFunctionType)):
            held = thing.__self__
            whose = held.__name__ if isinstance(held, types.ModuleType) else self.of(held)
            return _mix("method", whose, thing.__name__, self.of(getattr(thing, "__func__", None)))
        if isinstance(thing, (classmethod, staticmethod, functools.cached_property)):
            return _mix(type(thing).__name__, self.of(getattr(thing, "__func__", getattr(thing, "func", None))))
        if isinstance(thing, property):
            return _mix("property", *map(self.of, (thing.fget, thing.fset, thing.fdel)))
        return self._object(thing)

    def _tensor(self, value: torch.Tensor) -> bytes:
        try:
            flat = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
            return _mix("tensor", str(value.dtype), str(tuple(value.shape)), flat.view(torch.uint8).numpy().tobytes())
        except (RuntimeError, TypeError) as error:
            raise Opaque(f"a tensor of layout {value.layout}") from error

    def _function(self, function: types.FunctionType) -> bytes:
        cells = []
        for cell in function.__closure__ or ():
            try:
                cells.append(cell.cell_contents)
            except ValueError:  # not filled yet
                cells.append(None)
        names = list(_names(function.__code__))
        used = {name: function.__globals__[name] for name in names if name in function.__globals__}
        modules = [value for value in (*used.values(), *cells) if isinstance(value, types.ModuleType)]
        more = self._more(modules, names)
        parts = (function.__code__, function.__defaults__, function.__kwdefaults__, cells, used, function.__dict__)
        return _mix("function", *map(self.of, (*parts, more) if more else parts))

    def _class(self, cls: type) -> bytes:
        parts = [self.of(base) for base in cls.__bases__]
        for name, value in sorted(vars(cls).items()):
            made = name in PYTHONS or (name.startswith("__pydantic_") and name.endswith("__"))
            if not (
                (made and not isinstance(value, types.FunctionType))
                or name.startswith("_abc_")
                or (name.startswith("model_") and hasattr(BaseModel, name))
            ):
                parts += [self.of(name), self.of(value)]
        return _mix("class", *parts)

    def _module(self, module: types.ModuleType) -> bytes:
        if _installed(module.__name__):
            return _mix("name", module.__name__)
        held = vars(module).items()
        contents = {name: value for name, value in held if _is_its_own(value, module) and not name.startswith("__")}
        return _mix("module", self.of(contents))

    def _more(self, modules: list[types.ModuleType], names: list[str]) -> dict[str, Any]:
        """What code uses of modules of one's own, by the names that it holds, besides what stands for them anyway."""
        more: dict[str, Any] = {}
        for module in modules:  # which grows: a package holds modules
            inner = {} if _installed(module.__name__) else vars(module)
            used = {name: inner[name] for name in names if name in inner and name not in PYTHONS}
            values = {n: v for n, v in used.items() if n.startswith("__") or not _is_its_own(v, module)}
            modules += [v for v in values.values() if isinstance(v, types.ModuleType) and v not in modules]
            more |= {f"{module.__name__}.{name}": value for name, value in values.items()}
        return more

    def _object(self, thing: Any) -> bytes:
        try:
            made = _reduced(thing)
        except Exception as error:
            if self.strict:
                raise Opaque(f"{type(thing).__module__}.{type(thing).__qualname__}") from error
            return _mix("opaque", self.of(type(thing)))
        if isinstance(made, str):  # a global of that name
            wrapped = getattr(thing, "__wrapped__", None)  # of functools.cache
            return _mix("global", type(thing).__module__, made, *([] if wrapped is None else [self.of(wrapped)]))
        parts = [list(part) if isinstance(part, Iterator) else part for part in made]  # items of lists and mappings
        return _mix("object", self.of(type(thing)), *map(self.of, parts))


def _reduced(thing: Any) -> Any:
    """What pickle would write."""
    if type(thing).__module__ != "itertools":
        return thing.__reduce_ex__(4)
    with warnings.catch_warnings():  # from Python 3.14 on they raise: nothing else tells where such an iterator stands
        warnings.filterwarnings("ignore", "Pickle, copy, and deepcopy support will be removed from itertools")
        return thing.__reduce_ex__(4)


def _is_its_own(value: Any, module: types.ModuleType) -> bool:
    """Whether a value of a module is a plain one, or code that was defined there: these stand for the module."""
    code = isinstance(value, (types.FunctionType, type))
    return type(value) in PLAIN or (code and value.__module__ == module.__name__)


def _names(code: types.CodeType) -> Iterable[str]:
    """The names that code looks up, also those of functions inside it."""
    inner = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _names(part)]
    return dict.fromkeys([*code.co_names, *inner])


def _mix(*parts: str | bytes) -> bytes:
    mixed = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        mixed.update(len(content).to_bytes(8, "little") + content)
    return mixed.digest()
