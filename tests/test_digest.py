"""Equal values have equal digests, in any process; what differs in anything that counts has another."""

import abc
import collections
import dataclasses
import functools
import itertools
import os
import subprocess
import sys
import textwrap
import types
import typing

import numpy as np
import pytest
import torch
from torch import nn

import flatlab as fl
from flatlab.digest import PYTHONS, Opaque, digest

FACTOR = 2.0


def scaled(x):
    return FACTOR * x


def defined(text, name="made", **names):
    """What executing a text defines, as a notebook's cell does."""
    space = {"torch": torch, "nn": nn, "fl": fl, "__name__": "__main__", **names}
    exec(textwrap.dedent(text), space)
    return space[name]


def net(activation="torch.relu", scale=1.0):
    made = defined(
        f"""
        class made(nn.Module):
            def __init__(self, scale):
                super().__init__()
                self.scale = scale
                self.layer = nn.Linear(2, 2, bias=False)
                nn.init.ones_(self.layer.weight)

            def forward(self, x):
                return {activation}(self.layer(x)) * self.scale
        """
    )
    return made(scale)


def held(value):
    return lambda x: x * value


def module(name="lib", **values):
    """A module of the user's own, beside the script."""
    made = types.ModuleType(name)
    vars(made).update(values)
    return made


def uses(what, value):
    """A function that takes something from a module, which is called `lib`."""
    return defined(f"def made(x): return {what}(x)", lib=value)


def package(k):
    """Modules that hold each other; a function of the inner one is offered by the outer one, too."""
    inner, outer = module("lib.inner"), module()
    exec(f"def f(x): return {k}", vars(inner))
    vars(outer).update(inner=inner, f=inner.f)
    inner.back = outer
    return outer


def loss(**options):
    return nn.CrossEntropyLoss(reduction="none", **options)


DIFFERENT = {
    "a module's tensor": (loss(), loss(weight=torch.arange(10.0))),
    "a module's setting": (loss(), loss(label_smoothing=0.1)),
    "lambdas": (lambda x, y: (x - y).square().sum(1), lambda x, y: (x - y).abs().sum(1)),
    "constants": (lambda x: x * 2, lambda x: x * 3),
    "closures": (held(1), held(2)),
    "tensors in closures": (held(torch.zeros(2)), held(torch.ones(2))),
    "defaults": (defined("def made(x, y=1): return x"), defined("def made(x, y=2): return x")),
    "keyword defaults": (defined("def made(x, *, y=1): return x"), defined("def made(x, *, y=2): return x")),
    "globals": (defined("def made(x): return x + k", k=1), defined("def made(x): return x + k", k=2)),
    "behind a cache": (
        functools.lru_cache(defined("def made(x): return x + k", k=1)),
        functools.lru_cache(defined("def made(x): return x + k", k=2)),
    ),
    "a tensor in a module": (
        uses("x * lib.w", module(w=torch.ones(2))),
        uses("x * lib.w", module(w=torch.zeros(2))),
    ),
    "a list in a module": (uses("lib.k[0] * x", module(k=[1])), uses("lib.k[0] * x", module(k=[2]))),
    "an object in a module": (uses("lib.p", module(p=functools.partial(scaled))), uses("lib.p", module(p=len))),
    "what a module imported": (uses("lib.f", package(1)), uses("lib.f", package(2))),
    "a module in a package": (uses("lib.inner.back.inner.f", package(1)), uses("lib.inner.back.inner.f", package(2))),
    "functions called": (
        defined("def made(x): return f(x)", f=lambda x: x),
        defined("def made(x): return f(x)", f=lambda x: -x),
    ),
    "what an inner function uses": (
        defined("def made(x): return (lambda: x + k)()", k=1),
        defined("def made(x): return (lambda: x + k)()", k=2),
    ),
    "partial": (functools.partial(scaled, 1), functools.partial(scaled, 2)),
    "library functions": (torch.relu, torch.tanh),
    "names looked up": (lambda x: torch.relu(x), lambda x: torch.tanh(x)),
    "forward": (net(), net("torch.tanh")),
    "attributes": (net(), net(scale=2.0)),
    "methods": (defined("class made:\n def f(self): return 1"), defined("class made:\n def f(self): return 2")),
    "methods called model_...": (
        defined("class made:\n def model_step(self): return 1"),
        defined("class made:\n def model_step(self): return 2"),
    ),
    "properties": (
        defined("class made:\n @property\n def f(self): return 1"),
        defined("class made:\n @property\n def f(self): return 2"),
    ),
    "static methods": (
        defined("class made:\n @staticmethod\n def f(): return 1"),
        defined("class made:\n @staticmethod\n def f(): return 2"),
    ),
    "class attributes": (defined("class made: k = 1"), defined("class made: k = 2")),
    "class attributes with underscores": (defined("class made: __gain__ = 1"), defined("class made: __gain__ = 2")),
    "how instances are made": (
        defined("class made:\n def __new__(cls): return 1"),
        defined("class made:\n def __new__(cls): return 2"),
    ),
    "how subclasses are made": (
        defined("class made:\n def __init_subclass__(cls): cls.k = 1"),
        defined("class made:\n def __init_subclass__(cls): cls.k = 2"),
    ),
    "a module's attributes with underscores": (
        uses("x * lib.__gain__", module(__gain__=1)),
        uses("x * lib.__gain__", module(__gain__=2)),
    ),
    "bases": (
        defined("class A:\n def f(self): return 1\nclass made(A): pass"),
        defined("class A:\n def f(self): return 2\nclass made(A): pass"),
    ),
    "types": (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
    "shapes": (torch.zeros(2, 3), torch.zeros(3, 2)),
    "bits": (torch.tensor(0.0), torch.tensor(-0.0)),
    "arrays": (np.zeros(2), np.zeros(2, np.float32)),
    "nesting": ([1, [2]], [[1], 2]),
    "texts": (["ab", "c"], ["a", "bc"]),
    "numbers and texts": (1, "1"),
    "truth and numbers": (True, 1),
    "mappings": (collections.OrderedDict(a=1), collections.OrderedDict(a=2)),
    "buffers": (nn.BatchNorm1d(2), nn.BatchNorm1d(2).requires_grad_(False)),
}
DIFFERENT["buffers"][1].running_mean += 1


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_has_another_digest(pair):
    assert digest(pair[0]) != digest(pair[1])
    assert [digest(one) for one in pair] == [digest(one) for one in pair]


def test_equal_values_have_equal_digests_wherever_they_stand():
    assert digest(net()) == digest(net())
    assert digest(held(3)) == digest(held(3))
    weight = torch.arange(6.0).reshape(2, 3)
    assert digest(weight.T) == digest(weight.T.contiguous())
    assert digest(weight, weight) == digest(weight, weight.clone())
    assert digest({"a", "b"}) == digest({"b", "a"})
    commented = defined("# a comment\n\n\nclass made:\n    # and one\n    def f(self): return 1")
    assert digest(commented) == digest(defined("class made:\n def f(self): return 1"))


def test_what_python_writes_into_classes_does_not_count():
    """It names lines, or holds what cannot be looked into; it differs between versions, and would rename runs."""
    shapes = (
        "class made: pass",
        "class made(nn.Module): __constants__ = ['k']",
        "@dataclasses.dataclass\nclass made: x: int = 1",
        "@dataclasses.dataclass(frozen=True, slots=True)\nclass made: x: int = 1",
        "class made(typing.Protocol):\n def f(self): ...",
        "class made(typing.TypedDict): x: int",
        "class made(abc.ABC): pass",
        "class made(fl.FedAvg): kind: typing.Literal['made'] = 'made'",
    )
    for text in shapes:
        cls = defined(text, dataclasses=dataclasses, typing=typing, abc=abc)
        code = (types.FunctionType, classmethod)  # counts: that of typing's `__subclasshook__` by its name
        written = {name for name, value in vars(cls).items() if not isinstance(value, code)}
        dunder = {name for name in written if name.startswith("__") and name.endswith("__")}
        assert {name for name in dunder if not name.startswith("__pydantic_")} <= PYTHONS, text


def test_iterators_count_by_where_they_stand():
    """What pickle writes of `count()` holds the class, which is no iterator itself."""
    if sys.version_info < (3, 14):
        assert digest(itertools.count(3)) == digest(itertools.count(3)) != digest(itertools.count(4))
    else:  # those of itertools cannot be pickled any more
        with pytest.raises(Opaque, match="count"):
            digest(itertools.count(3))
    assert digest(iter([1, 2])) == digest(iter([1, 2])) != digest(iter([1]))
    assert digest(collections.deque([1])) == digest(collections.deque([1])) != digest(collections.deque([2]))


def test_what_holds_itself_ends():
    ring = [1]
    ring.append(ring)
    assert digest(ring) == digest(ring)
    assert digest(uses("lib.f", package(1))) == digest(uses("lib.f", package(1)))
    count = defined("def made(n): return n and made(n - 1)")
    assert digest(count) == digest(defined("def made(n): return n and made(n - 1)"))
    assert digest(defined("class made:\n def f(self): return super().f() or made")) != digest(count)


def test_a_digest_is_the_same_in_another_process():
    text = textwrap.dedent("""
        import torch
        from torch import nn
        from flatlab.digest import digest
        def f(x, kinds=frozenset({"a", "b", "c", "d"})):
            return x if x in {"one", "two", "three", "four"} else torch.relu(x)
        class Net(nn.Module):
            def forward(self, x): return f(x)
        found = digest(f, Net, Net(), nn.CrossEntropyLoss(weight=torch.ones(3)))
    """)
    here = {"__name__": "__main__"}
    exec(text, here)
    other = str(1 + (os.environ.get("PYTHONHASHSEED") == "1"))  # sets come in another order there
    environment = os.environ | {"PYTHONHASHSEED": other}
    command = [sys.executable, "-c", text + "print(found)"]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert there == here["found"] and len(there) == 32


def test_what_cannot_be_looked_into_is_refused_or_stands_for_its_type(tmp_path):
    with open(tmp_path / "file", "w") as file:
        reads = held(file)
        with pytest.raises(Opaque, match="TextIOWrapper"):
            digest(reads)
        assert digest(reads, strict=False) != digest(held(1), strict=False)
