"""The examples in docstrings, run as they stand, with the names that the package's docstring says they share."""

import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil

import pytest
import torch
from ten_clients import thinned

import flatlab as fl

MODULES = [name for _, name, _ in pkgutil.walk_packages(fl.__path__, "flatlab.") if not name.endswith("__main__")]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples():
    """The docstrings with examples, of modules and of what is defined in them: decorated functions, too."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in MODULES:
        module = importlib.import_module(name)
        yield module, doctest.DocTestParser().get_doctest(module.__doc__ or "", {}, name, module.__file__, 0)
        for inner, thing in vars(module).items():
            routine = inspect.isclass(thing) or inspect.isroutine(thing)
            if routine and getattr(thing, "__module__", "") == name and getattr(thing, "__name__", "") == inner:
                yield from ((module, example) for example in finder.find(thing, f"{name}.{inner}", module=False))


EXAMPLES = {example.name: (module, example) for module, example in examples() if example.examples}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder, and what every example may use."""
    folder = tmp_path_factory.mktemp("examples")
    with contextlib.chdir(folder):
        data = thinned(fl.load("digits").federate(fl.Dirichlet(alpha=10.0), clients=4, seed=0))
        run = fl.train(fl.FedAvg(), data, "lenet", rounds=2)
    return folder, {"fl": fl, "torch": torch, "data": data, "run": run}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_give_what_they_say(name, shared, monkeypatch):
    folder, names = shared
    monkeypatch.chdir(folder)
    module, example = EXAMPLES[name]
    example.globs = {**vars(module), **names}
    said = io.StringIO()
    doctest.DocTestRunner(verbose=False, optionflags=FLAGS).run(example, out=said.write)
    assert not said.getvalue(), said.getvalue()


BASES = {
    "Aggregation",
    "Algorithm",
    "Evasion",
    "Local",
    "Partition",
    "Schedule",
    "Server",
    "Task",
}  # docs/extending.md has examples
HANDED = {"Carry", "LocalBatch", "Message", "Params", "Part", "Share", "Slots"}  # to hooks of one's own: there, too
RETURNED = {
    "Averages",
    "Comparison",
    "Corrected",
    "Evasions",
    "Headless",
    "PerClass",
    "Personalization",
    "Source",
}  # by functions, whose examples show them
RAISED = {"BadCheckpoint", "Diverged", "RunBusy", "SettingError", "SweepFailed"}


def test_public_names_have_examples():
    named = set(fl.__all__) - BASES - HANDED - RETURNED - RAISED
    without = [name for name in sorted(named) if callable(thing := getattr(fl, name)) and ">>>" not in thing.__doc__]
    assert not without
