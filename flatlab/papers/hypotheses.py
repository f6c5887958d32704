"""The questions of the wider ground as claims, with signs that are hypotheses of our own: no paper has these tables.

Each side is a cell of a table of `background.*`, so a claim needs no run that its table does not.
"""

from __future__ import annotations

from functools import cache

from ..geometry.surrogate_loss import BASELINE, ZONES
from . import background, disagreement, distilled, lying, unseen
from .judging import Claim, Part, Side
from .tables import ScaleName, Table

ALIKE = 0.02  # accuracies and errors that are called equal: two points
SAME_SUCCESS = 0.1  # of an attack


@cache
def hypotheses(scale: ScaleName) -> tuple[Claim, ...]:
    """All claims of the wider ground at one scale."""
    made = (_gossip, _sharp, _minority, _attacked, _washed, _robust, _domains, _videos, _writers, _surrogates)
    return tuple(claim for make in made for claim in make(scale))


def _claim(name: str, question: str, parts: list[Part], scale: ScaleName) -> list[Claim]:
    return [Claim(f"background.{name}", question, tuple(parts), scale, ours=True)]


def _side(table: Table, row: str, column: str, name: str = "", less: Side | None = None) -> Side:
    made = table.only(row, column).cells[0]
    return Side(name or row, made.quantity, made.experiments, less)


def _rows(table: Table, column: str, left: str, right: str, expect: str, margin: float = 0.0) -> Part:
    """Two rows of a column."""
    return Part(column, _side(table, left, column), _side(table, right, column), expect, margin)


def _columns(table: Table, row: str, left: str, right: str, expect: str, margin: float = 0.0) -> Part:
    """Two columns of a row."""
    return Part(row, _side(table, row, left, left), _side(table, row, right, right), expect, margin)


def _gossip(scale: ScaleName) -> list[Claim]:
    """Decentralized SGD acts like SAM along the clients' differences (Zhu et al., 2306.02913)."""
    table, apart = background.topologies(scale), disagreement.disagreement(scale)
    parts = [
        _rows(table, f"{level}, λ₁", graph, "server", "-")
        for level in background.GRAPH_LEVELS
        for graph in ("ring", "random", "MATCHA, half of random")
    ]
    parts += [
        _rows(apart, f"{level}, {column}", "ring", "FedAvg", "+")
        for level in background.GRAPH_LEVELS
        for column in ("distance", "penalty")
    ]
    return _claim("gossip", "Is the mean of gossiping clients flatter than the server's model?", parts, scale)


def _sharp(scale: ScaleName) -> list[Claim]:
    table = disagreement.disagreement(scale)
    parts = [
        Part(f"{row}, {level}", _side(table, row, f"{level}, alignment", "curvature along the clients' differences"),
             _side(table, row, f"{level}, tr(H)/d", "along random directions"), "+")
        for level in background.GRAPH_LEVELS
        for row in table.rows
    ]  # fmt: skip
    parts += [_rows(table, f"{level}, alignment", "FedASAM", "FedAvg", "-") for level in background.GRAPH_LEVELS]
    return _claim("sharp", "Do clients disagree along sharp directions, and less so under ASAM?", parts, scale)


def _minority(scale: ScaleName) -> list[Claim]:
    table, skewed = background.attacks(scale), [*background.LYING_LEVELS][-1]
    columns = {column: f"{skewed}, nobody, {column}" for column in ("accuracy", "personalized")}
    behind = {
        name: _side(table, "Krum", column, f"Krum, {name}, against mean", less=_side(table, "mean", column))
        for name, column in columns.items()
    }
    parts = [_rows(table, columns["accuracy"], "Krum", other, "-") for other in ("mean", "median")]
    parts.append(Part(f"{skewed}, nobody lies", behind["personalized"], behind["accuracy"], "+"))
    return _claim("minority", "Does a robust rule cost the minority, and does tuning make up for it?", parts, scale)


def _attacked(scale: ScaleName) -> list[Claim]:
    table, (even, skewed) = background.attacks(scale), background.LYING_LEVELS
    parts = [
        _rows(table, f"{even}, {attack}, accuracy", rule, "mean", "+")
        for attack in ("sign flip", "ALIE")
        for rule in ("median", "Krum")
    ]
    parts += [_columns(table, "mean", f"{even}, sign flip, accuracy", f"{even}, nobody, accuracy", "-")]
    for rule in ("median", "Krum"):
        lost = {
            level: _side(table, rule, f"{level}, sign flip, accuracy", f"lost to sign flips, {level}",
                         less=_side(table, rule, f"{level}, nobody, accuracy"))
            for level in (even, skewed)
        }  # fmt: skip
        parts.append(Part(f"{rule}, accuracy", lost[skewed], lost[even], "-"))
    return _claim("attacked", "Do robust rules hold among even clients, and leak under skew?", parts, scale)


def _washed(scale: ScaleName) -> list[Claim]:
    table, last = lying.backdoor(scale), lying.AFTER[-1]
    success = {part: f"success, {part}, {last}" for part in lying.PARTS}
    parts = [_columns(table, row, success["all"], success["head"], "-") for row in table.rows]
    parts.append(_columns(table, "FedBABU", success["head"], "success, before", "=", SAME_SUCCESS))
    return _claim("washed", "Does tuning all of a model wash a backdoor out, and tuning the head not?", parts, scale)


def _robust(scale: ScaleName) -> list[Claim]:
    table, (_, least, *_, most) = lying.evasion(scale), lying.EPS
    flat = [row for row in table.rows if row != "FedAvg"]
    parts = [_rows(table, f"PGD {least}/255", row, "FedAvg", "+") for row in flat]
    parts += [_rows(table, f"PGD {most}/255", row, "FedAvg", "=", ALIKE) for row in flat]
    return _claim("robust", "Are flat models a little more robust to changed images?", parts, scale)


def _domains(scale: ScaleName) -> list[Claim]:
    table = unseen.domains(scale)
    columns = [column for column in table.columns if column.endswith(", unseen")]
    parts = [_rows(table, column, row, "FedAvg", "+") for column in columns for row in _flat(table)]
    return _claim("styles", "Do SWA and ASAM help where no client has been?", parts, scale)


def _videos(scale: ScaleName) -> list[Claim]:
    table = unseen.segmentation(scale)
    parts = [_columns(table, row, "gain at dusk", "gain of the others", "+") for row in ("FedAvg", "FedBABU")]
    parts += [_rows(table, "unseen", row, "FedAvg", "+") for row in _flat(table) if row.endswith("SWA")]
    return _claim("videos", "Do clients at dusk gain most, and does SWA lift the video nobody holds?", parts, scale)


def _writers(scale: ScaleName) -> list[Claim]:
    table = unseen.writers(scale)
    parts = [_rows(table, "unseen", row, "FedAvg", "+") for row in _flat(table)]
    parts += [_rows(table, "λ₁ unseen", row, "FedAvg", "-") for row in _flat(table)]
    return _claim("strangers", "Is a flatter model better for writers who are no clients?", parts, scale)


def _flat(table: Table) -> list[str]:
    """The rows with SWA, ASAM or both."""
    return [row for row in unseen.METHODS if row != "FedAvg" and row in table.rows]


def _surrogates(scale: ScaleName) -> list[Claim]:
    table = distilled.distilled(scale)
    made, (middle, *_, far) = distilled.ROWS[-1], table.columns[: len(ZONES)]
    parts = [
        _rows(table, middle, made, BASELINE, "-"),
        _columns(table, made, middle, far, "-"),
        _rows(table, far, made, BASELINE, "=", ALIKE),
    ]
    return _claim("surrogate", "Is the landscape of distilled images true near the model only?", parts, scale)
