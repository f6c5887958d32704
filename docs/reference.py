"""The API reference, made from what Python itself shows: signatures and docstrings of the public names.

`conf.py` writes the pages before a build. A public name that stands in no group below ends the build.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatlab as fl
from flatlab.declare import Declared, Family
from flatlab.results import Result

GROUPS = {
    "data": (
        "Data and partitions",
        "load Source FederatedDataset DataSpec Augmentation IID Dirichlet DirichletClasses Shards Classes Groups"
        " Domains Consecutive Fixed distil Partition data.Drawn data.Sized data.save_partition",
    ),
    "models": (
        "Models",
        "ModelSpec Model models.split models.stateless models.with_context models.network models.plain models.weights",
    ),
    "algorithms": (
        "Algorithms",
        "FedAvg FedAvgM FedProx FedBABU FedSAM FedASAM FedPer LocalOnly Centralized SCAFFOLD FedDyn AdaBest FedRep"
        " Ditto LGFedAvg PerFedAvg FedSpeed MoFedSAM FedGAMMA FedSMOO FedLESAM FedLESAMD FedLESAMS FedGloSS FedSOL"
        " FedSWA FedMoSWA FedWMSAM",
    ),
    "parts": (
        "What algorithms are made of",
        "SGD SAM ASAM Average Adaptive SWA WiMA Constant Steps Cyclical Exponential Weighted Uniform aggregation.Median"
        " aggregation.Trimmed aggregation.Krum aggregation.Geometric aggregation.Clipped ServerData Task"
        " Classification Segmentation topology.Ring topology.Complete topology.Star topology.Random topology.Regular"
        " topology.Matcha topology.metropolis topology.gap topology.matchings",
    ),
    "attacks": (
        "Attacks",
        "evade Evasions Evading FGSM PGD World Adversary Channel attacks.SignFlip attacks.Noise attacks.IPM"
        " attacks.ALIE attacks.MinMax attacks.Replacement"
        " attacks.Lazy attacks.LabelFlip attacks.Patch triggered",
    ),
    "runs": (
        "Runs",
        "train Run training.Round Experiment Evaluation sweep runs differing annotate plot save_page animate RunBusy"
        " BadCheckpoint Diverged SweepFailed SettingError",
    ),
    "personalization": (
        "Personalization",
        "personalize Personalization Tuning fine_tuned corrected Corrected compare Comparison Averages"
        " headless Headless per_class PerClass",
    ),
    "geometry": (
        "Geometry",
        "hessian geometry.Hessian landscape sharpness path flatness_vs_gain disagreement pulls geometry.surrogates",
    ),
    "results": (
        "Results: what measurements return",
        "results.Result geometry.Eigenvalues geometry.Trace geometry.Spectrum geometry.HessianAlong"
        " geometry.ClientHessians geometry.Landscape geometry.Path geometry.Sharpness geometry.FlatnessVsGain"
        " geometry.Disagreement geometry.Pulls geometry.Surrogates",
    ),
    "own": (
        "For classes of your own",
        "setting Algorithm Local Evasion Server Schedule Aggregation Averaging Topology Carry Message LocalBatch",
    ),
}
TYPES = {
    "Params",
    "Slots",
    "Part",
    "Share",
    "aggregation",
    "topology",
    "attacks",
    "models",
    "lab",
    "papers",
    "stories",
}  # aliases and modules
SECTIONS = r"(Args|Attributes|Returns|Raises|Warns|Yields):$"


def write(folder: Path) -> None:
    """Write a page for each group, and their contents."""
    names = " ".join(members for _, members in GROUPS.values()).split()
    missing = set(fl.__all__) - set(names) - TYPES
    if missing:
        raise ValueError(f"docs/reference.py: give {', '.join(sorted(missing))} a group")
    folder.mkdir(exist_ok=True)
    for page, (title, members) in GROUPS.items():
        entries = "\n".join(entry(name) for name in members.split())
        _write(folder / f"{page}.md", f"# {title}\n\n{entries}")
    contents = "\n".join(GROUPS)
    about = textwrap.indent((fl.__doc__ or "").partition("The examples")[2], "")
    text = f"# Reference\n\nThe examples{about}\n```{{toctree}}\n:maxdepth: 2\n\n{contents}\n```\n"
    _write(folder / "index.md", re.sub(r"(?m)((?:^    .*\n)+)", lambda code: _fence(textwrap.dedent(code[1])), text))


def entry(name: str) -> str:
    """A public name: signature, docstring, and the methods that a person calls."""
    thing: Any = fl
    for part in name.split("."):
        thing = getattr(thing, part)
    parts = [f"## `{name}`\n", _fence(f"fl.{name}{_signature(thing)}"), body(inspect.getdoc(thing) or "")]
    if inspect.isclass(thing) and not (issubclass(thing, Declared) and not _is_base(thing)):
        parts += [_member(name, *member) for member in _members(thing)]
    return "\n".join(parts) + "\n"


def body(text: str) -> str:
    """A docstring as Markdown: sections as lists, examples and indented lines as code."""
    parts = []
    for block in _blocks(text.splitlines()):
        if re.match(SECTIONS, block[0]):
            parts.append(f"**{block[0][:-1]}**\n\n" + "\n".join(_items(block[1:])) + "\n")
        elif block[0].startswith((">>>", "    ")):
            parts.append(_fence(textwrap.dedent("\n".join(block))))
        else:
            parts.append(_escaped("\n".join(block)) + "\n")
    return "\n".join(parts)


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Paragraphs; a section is one, whatever empty lines it has."""
    block: list[str] = []
    for line in [*lines, ""]:
        section = bool(block) and re.match(SECTIONS, block[0])
        if block and (not line.strip() if not section else line.strip() and not line.startswith(" ")):
            yield block
            block = []
        if line.strip():
            block.append(line)
    if block:
        yield block


def _items(lines: list[str]) -> Iterator[str]:
    """The entries of a section, each with its name set apart."""
    for item in re.split(r"\n(?=\S)", textwrap.dedent("\n".join(lines))):
        said = re.sub(r"\s+", " ", item)
        named = re.match(r"(\*{0,2}[\w, ]+?)( \(.+?\))?: (.*)", said)
        yield f"- `{named[1]}`{_escaped(named[2] or '')}: {_escaped(named[3])}" if named else f"- {_escaped(said)}"


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    inherited = {} if cls is Result else {name for base in cls.__mro__[1:] for name in vars(base)} - {"plot", "summary"}
    for name, value in vars(cls).items():
        inner = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        shown = isinstance(inner, property) or inspect.isfunction(inner)
        if shown and not name.startswith("_") and inner.__doc__ and name not in inherited:
            yield name, inner


def _member(cls: str, name: str, member: Callable[..., Any] | property) -> str:
    signature = "" if isinstance(member, property) else _fence(f"{name}{_signature(member)}")
    return f"### `{cls}.{name}`\n\n{signature}\n{body(inspect.getdoc(member) or '')}"


def _is_base(cls: type) -> bool:
    return issubclass(cls, Family) and cls.abstract


def _signature(thing: Any) -> str:
    """Names and defaults, one line if it is short."""
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    plain = [
        one.replace(annotation=one.empty)
        for one in signature.parameters.values()
        if not one.name.startswith(("self", "cls", "_"))
    ]
    text = str(inspect.Signature(plain))
    if len(text) < 100:
        return text
    named = next((place for place, one in enumerate(plain) if one.kind is one.KEYWORD_ONLY), None)
    lines = [str(one) for one in plain]
    if named is not None:
        lines.insert(named, "*")
    return "(\n    " + ",\n    ".join(lines) + ",\n)"


def _fence(code: str) -> str:
    return f"```python\n{code.strip(chr(10))}\n```\n"


def _escaped(text: str) -> str:
    """Text with what Markdown would take for markup spelled out, outside code."""
    return "".join(
        part if place % 2 else re.sub(r"([<*_|\[\]~])", r"\\\1", part)
        for place, part in enumerate(re.split("(`[^`]*`)", text))
    )


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
