"""What the papers claim, as differences that are measured: experiment, expected sign, interval, verdict, sentence.

A claim has parts; each compares a quantity of two methods seed by seed. Its verdict comes from the t interval of the
paired differences alone: one that includes 0 is *undecided*, whatever the mean. Signs are recalled from the papers,
unverified, or our own: hypotheses, never test oracles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..results import counted
from ..statistics import CONFIDENCE, Interval, difference, interval, verdict
from ..training import Experiment
from .archive import Archive
from .quantities import Quantity
from .tables import Cell, Maker, ScaleName, Table


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a quantity of the runs of a method, one a seed."""

    name: str
    quantity: Quantity
    experiments: tuple[Experiment, ...]
    less: Side | None = None  # subtracted from it, seed by seed: a difference of differences

    def values(self, archive: Archive) -> dict[int, float]:
        """By seed; seeds without a number are left out."""
        readings = {run.seed: self.quantity.of(archive, run) for run in self.experiments}
        values = {seed: reading.value for seed, reading in readings.items() if reading is not None}
        if self.less is not None:
            other = self.less.values(archive)
            values = {seed: value - other[seed] for seed, value in values.items() if seed in other}
        return {seed: value for seed, value in values.items() if math.isfinite(value)}

    def all_experiments(self) -> Iterable[Experiment]:
        """Its runs."""
        return (*self.experiments, *(self.less.all_experiments() if self.less else ()))


@dataclass(frozen=True)
class Part:
    """left - right has the sign that is expected ("+", "-"), lies within the margin ("="), or not below it (">=")."""

    what: str
    left: Side
    right: Side
    expect: str
    margin: float = 0.0

    @property
    def log(self) -> bool:
        """Whether the two are compared by their ratio."""
        return self.left.quantity.ratio and self.left.less is None


@dataclass(frozen=True)
class Claim:
    """A question of a paper.

    Attributes:
        id: e.g. "fedbabu.rq3".
        question: as a reader asks it.
        parts: what is compared.
        scale: of the experiments.
        ours: whether the signs are hypotheses of our own, which no paper states.
    """

    id: str
    question: str
    parts: tuple[Part, ...]
    scale: ScaleName
    ours: bool = False

    def table(self) -> Table:
        """Its runs and measurements as a table, for plans."""
        sides = [side for part in self.parts for side in (part.left, part.right)]
        sides += [side.less for side in sides if side.less is not None]
        cells = tuple(Cell(side.name, side.quantity.label, side.quantity, side.experiments, ()) for side in sides)
        return Table(self.id, self.question, self.scale, cells, "", "")


@dataclass(frozen=True)
class Judged:
    """A part of a claim with what was measured."""

    part: Part
    left: Interval  # of the logarithms, as is the difference, where the two are compared by their ratio
    right: Interval
    difference: Interval
    verdict: str  # "holds", "does not hold", "undecided", "not measured"
    left_out: int = 0  # seeds of both whose values are no finite numbers, or have no ratio

    def sentence(self) -> str:
        """Made from the numbers."""
        part, names = self.part, f"{self.part.left.name} against {self.part.right.name}"
        why = "values without a logarithm" if part.log else "values that are no finite numbers"
        if self.verdict == "not measured":
            lost = f"all {counted(self.left_out, 'seed')} have {why}"
            told = lost if self.left_out else "no seed has both numbers yet"
            return f"{part.what}: {names}: {told}."
        unit = part.left.quantity.unit
        left, right, gap = self.left.mean, self.right.mean, self.difference
        if part.log:  # their quotient is the ratio, which that of the arithmetic means is not
            both = f"geometric means {_said(math.exp(left), unit)} against {_said(math.exp(right), unit)}"
            size = f"ratio {math.exp(gap.mean):.3g}, {CONFIDENCE:.0%} interval {_range(math.exp, gap)}"
        else:
            both = f"{_said(left, unit)} against {_said(right, unit)}"
            points = " points" if unit == "%" else ""
            factor = part.left.quantity.factor
            size = f"difference {factor * gap.mean:+.2f}{points}, {CONFIDENCE:.0%} interval"
            size += f" {_range(lambda value: factor * value, gap)}"
        near = f"a factor of {math.exp(part.margin):.3g}" if part.log else _said(part.margin, unit)
        wanted = {"+": "higher expected", "-": "lower expected", "=": f"equal within {near} expected"}
        wanted[">="] = f"not lower by more than {near} expected"
        seeds = counted(gap.n, "seed") + (f" ({self.left_out} more left out: {why})" if self.left_out else "")
        return f"{part.what}: {names}: {both}; {size}, {seeds}; {wanted[part.expect]}: **{self.verdict}**."


def judge(claim: Claim, archive: Archive) -> list[Judged]:
    """Measure every part of a claim from what is kept."""
    return [judge_part(part, archive) for part in claim.parts]


def judge_part(part: Part, archive: Archive) -> Judged:
    """Measure one part."""
    left, right = part.left.values(archive), part.right.values(archive)
    gap = difference(left, right, log=part.log)
    said = verdict(gap, part.expect, part.margin) if gap.n else "not measured"
    both = sorted(left.keys() & right.keys())
    counts = [seed for seed in both if all(_counts(values[seed], part.log) for values in (left, right))]
    seen = math.log if part.log else float
    ours, theirs = (interval(seen(values[seed]) for seed in counts) for values in (left, right))  # as in the difference
    return Judged(part, ours, theirs, gap, said, len(both) - len(counts))


def _counts(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def overall(judged: list[Judged]) -> str:
    """Of a claim: what its parts say together."""
    said = {part.verdict for part in judged}
    if said == {"holds"}:
        return "holds"
    if "does not hold" in said:
        return "does not hold" if said == {"does not hold"} else "does not hold in every part"
    if said == {"holds", "not measured"}:
        return "holds as far as it is measured"
    return "undecided" if "undecided" in said else "not measured"


def page(claims: Iterable[Claim], archive: Archive) -> str:
    """All claims as Markdown."""
    claims = tuple(claims)
    lines = ["## Claims", ""]
    lines += [
        f"Differences are paired by seed; intervals are {CONFIDENCE:.0%} t intervals over seeds. One that includes 0"
        " (of a ratio: 1), or where equality is claimed an end of the margin, is *undecided*. Expected signs are"
        " recalled from the papers, unverified; where it says *ours*, no paper has such a table, and they are"
        " hypotheses of our own. Settings are called as in the papers (s=10, CIFAR-10): what a scale puts in their"
        " place its tables say.",
        "",
    ]
    if any(part.log for claim in claims for part in claim.parts):
        lines += ["Curvatures at very different losses say little of flatness: losses stand in the tables.", ""]
    for claim in claims:
        judged = judge(claim, archive)
        headline = f"`{claim.id}`, scale `{claim.scale}`{', signs *ours*' if claim.ours else ''}: **{overall(judged)}**"
        lines += [f"### {claim.question}", "", headline, ""]
        told = [part for part in judged if part.verdict != "not measured"]
        lines += [f"- {part.sentence()}" for part in (told or judged)]
        if told and len(told) < len(judged):
            lines.append(f"- Not measured yet: {len(judged) - len(told)} more comparisons.")
        lines += ["", f"Again: `flatlab reproduce {claim.id} --scale {claim.scale}`", ""]
    return "\n".join(lines)


def side(name: str, quantity: Quantity, make: Maker, seeds: tuple[int, ...], less: Side | None = None) -> Side:
    """A side whose experiments are made from seeds."""
    return Side(name, quantity, tuple(make(seed=seed) for seed in seeds), less)


def _said(value: float, unit: str) -> str:
    return f"{100 * value:.2f} %" if unit == "%" else f"{value:.4g}"


def _range(seen: object, gap: Interval) -> str:
    if math.isnan(gap.half):
        return "none (one seed)"
    low, high = seen(gap.low), seen(gap.high)  # type: ignore[operator]
    return f"[{low:.3g}, {high:.3g}]"
