"""Accuracy under attack, against how far each pixel may be changed."""

from __future__ import annotations

from ..robustness import Evasions
from .style import COLUMN, Drawing, figure, line_styles, plain

MARKS = {"fgsm": "o", "pgd": "s"}


def draw_evasions(result: Evasions) -> Drawing:
    """Mean accuracy of each run's models against eps in 1/255, a line an attack, from the clean images on."""
    fig = figure(COLUMN + 1, 2.4)
    axes = fig.subplots()
    table = result.summary()
    groups = dict(list(table.groupby(["run", "round"], sort=False)))
    for rows, style in zip(groups.values(), line_styles([g["name"].iloc[0] for g in groups.values()]), strict=True):
        clean, first = rows[rows["attack"] == "none"], True
        for kind in [kind for kind in dict.fromkeys(rows["attack"]) if kind != "none"]:
            line = rows[(rows["attack"] == kind) | (rows.index.isin(clean.index))].sort_values("eps", kind="stable")
            label = plain(line["name"].iloc[0]) if first else None
            axes.plot(
                255 * line["eps"],
                100 * line["mean"],
                **style,
                marker=MARKS.get(kind.partition(",")[0], "D"),
                ms=3.5,
                label=label,
            )
            first = False
    axes.set(xlabel="largest change of a pixel, eps (1/255)", ylabel="accuracy (%)", ylim=(-2, 102))
    fig.name_above(axes)
    marks = {"fgsm": "circles FGSM", "pgd": "squares PGD"}
    kinds = [marks.get(kind, f"diamonds {plain(kind)}") for kind in dict.fromkeys(table["attack"]) if kind != "none"]
    whose: dict[str, list[str]] = {}
    for (_, name), models in result.frame.groupby(["run", "name"], sort=False)["client"]:
        of = "the global model on the holdout" if (models < 0).all() else "clients' models on their own test sets"
        whose.setdefault(of, []).append(plain(name))
    of = " or ".join(f"{of} ({', '.join(runs)})" if len(whose) > 1 else of for of, runs in whose.items())
    jointly = " Batch statistics: each batch is attacked jointly." if result.about.get("jointly") else ""
    fig.caption = f"Mean over {of}; {', '.join(kinds)}.{jointly}"
    return fig
