"""Accuracy under attack, against how far each pixel may be changed."""

from __future__ import annotations

from itertools import cycle

from ..robustness import Evasions
from .gains import note_clients
from .style import COLUMN, Drawing, figure, line_styles, plain

MARKS = {"fgsm": ("o", "circles FGSM"), "pgd": ("s", "squares PGD")}
OTHERS = (("D", "diamonds"), ("^", "triangles"), ("P", "crosses"), ("*", "stars"))


def draw_evasions(result: Evasions) -> Drawing:
    """Mean accuracy of each run's models against eps in 1/255, a line an attack, from the clean images on."""
    fig = figure(COLUMN + 1, 2.4)
    axes = fig.subplots()
    table = result.summary()
    others = cycle(OTHERS)
    kinds = {kind: MARKS.get(kind) for kind in dict.fromkeys(table["attack"]) if kind != "none"}
    marks = {kind: known or _other(*next(others), kind) for kind, known in kinds.items()}
    groups = dict(list(table.groupby(["run", "round"], sort=False)))
    for rows, style in zip(groups.values(), line_styles([g["name"].iloc[0] for g in groups.values()]), strict=True):
        clean, first = rows[rows["attack"] == "none"], True
        for kind in [kind for kind in dict.fromkeys(rows["attack"]) if kind in marks]:
            line = rows[(rows["attack"] == kind) | (rows.index.isin(clean.index))].sort_values("eps", kind="stable")
            label = plain(line["name"].iloc[0]) if first else None
            axes.plot(255 * line["eps"], 100 * line["mean"], **style, marker=marks[kind][0], ms=3.5, label=label)
            first = False
    axes.set(xlabel="largest change of a pixel, eps (1/255)", ylabel="accuracy (%)", ylim=(-2, 102))
    fig.name_above(axes)
    whose: dict[str, list[str]] = {}
    for (_, name), models in result.frame.groupby(["run", "name"], sort=False)["client"]:
        of = "the global model on the holdout" if (models < 0).all() else "clients' models on their own test sets"
        whose.setdefault(of, []).append(plain(name))
    of = " or ".join(f"{of} ({', '.join(runs)})" if len(whose) > 1 else of for of, runs in whose.items())
    jointly = " Batch statistics: each batch is attacked jointly." if result.about.get("jointly") else ""
    fig.caption = f"Mean over {of}; {', '.join(said for _, said in marks.values())}.{jointly}"
    note_clients(fig, {}, int(table["left_out"].max()))
    return fig


def _other(mark: str, shape: str, kind: str) -> tuple[str, str]:
    name, comma, settings = plain(kind).partition(", ")
    return mark, f"{shape} {name}" + (f" ({settings})" if comma else "")
