"""All tables, figures and claims by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from ..declare import SettingError, near
from . import (
    background,
    crossing,
    disagreement,
    distilled,
    fedasam_reasons,
    fedasam_tables,
    fedbabu_tables,
    lying,
    unseen,
)
from .questions import claims
from .tables import Item, ScaleName, checked_scale

BUILDERS: dict[str, Callable[[ScaleName], Item]] = {
    **fedbabu_tables.TABLES,
    **fedasam_tables.TABLES,
    **fedasam_reasons.TABLES,
    **crossing.TABLES,
    **background.TABLES,
    **unseen.TABLES,
    **lying.TABLES,
    **disagreement.TABLES,
    **distilled.TABLES,
}


def items(scale: ScaleName) -> dict[str, Item]:
    """Every table and figure at one scale, by id."""
    return {name: built(name, scale) for name in BUILDERS}


@cache
def built(name: str, scale: ScaleName) -> Item:
    """A table or figure, which never changes: its hundreds of experiments are checked once."""
    return BUILDERS[name](scale)


def select(names: Sequence[str], scale: ScaleName) -> dict[str, Item]:
    """Tables, figures and claims by id, or by the beginning of one ("fedbabu"); "all" and "claims" stand for many.

    A claim comes as the table of its runs and measurements.

    Raises:
        SettingError: if a name stands for nothing; the nearest ones are named.
    """
    checked_scale(scale)
    asked = {claim.id: claim.table() for claim in claims(scale).values()}
    chosen: dict[str, Item] = {}
    for name in names:
        tables = [id for id in BUILDERS if name == "all" or id == name or id.startswith(f"{name}.")]
        questions = [id for id in asked if name == "claims" or id == name]
        if not tables and not questions:
            known = [*BUILDERS, *asked, "all", "claims"]
            raise SettingError(
                "name",
                name,
                f"no such table, figure or claim{near(name, known)}; `flatlab reproduce` without names lists them",
            )
        chosen |= {id: built(id, scale) for id in tables} | {id: asked[id] for id in questions}
    return chosen
