"""How clients pull: each round a fan from the global model to its clients' models, and the step to where it is put."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..arguments import Count, checked
from ..files import json_cell
from ..geometry import Pulls
from ..later import pd
from .colors import class_colors
from .live import draw_missing
from .style import PAGE, Drawing, class_labels, figure, plain

STARS = {"global": ("*", "0.1", 90), "swa": ("*", "#d1a000", 90), "mean": ("x", "0.35", 18)}
NAMED = 12  # more classes than so many are not named


@checked
def draw_pulls(result: Pulls, columns: Count = 4) -> Drawing:
    """A row of small panels a run, a panel a round: clients' arrows in the colour of the class each holds most of.

    All panels have one unit of length, so that arrows are compared by eye. The black star is the next global model, the
    golden one the server's average.

    Args:
        result: what `pulls` measured.
        columns: the last so many rounds.
    """
    runs = {str(name): own for name, own in result.frame.groupby("run", sort=False)}
    shown = {
        name: sorted(own.loc[own["series"] == "client", "round"].unique())[-columns:] for name, own in runs.items()
    }
    if not runs:
        fig = draw_missing("stopped before a round was measured")
        fig.caption = pulls_caption(result.about)
        return fig
    across = max(len(rounds) for rounds in shown.values())
    side = PAGE / max(across, 2)
    fig = figure(side * across, 0.3 + (side + 0.45) * len(runs))
    grid = fig.subplots(len(runs), across, squeeze=False)
    half = max(_reach(own) for own in runs.values())
    colors = class_colors(len(result.about["classes"]))
    for axes, (name, own) in zip(grid, runs.items(), strict=True):
        for axis, round in zip(axes, shown[name], strict=False):
            _fan(axis, own, int(round), colors)
            centre = [(own[at].min() + own[at].max()) / 2 for at in ("x", "y")]
            limits = [(middle - half, middle + half) for middle in centre]
            axis.set(xlim=limits[0], ylim=limits[1], aspect="equal", xticks=[], yticks=[])
        for axis in axes[len(shown[name]) :]:
            axis.set_visible(False)
        axes[0].set_ylabel(f"{plain(name)}\n{_share(result.about['runs'][name])}", fontsize=7)
    for label, color in pull_keys(result):
        grid[0, 0].plot([], [], "-", color=color, label=label)
    for series, name in (("global", "global model"), ("swa", "server's average")):
        if (result.frame["series"] == series).any():
            mark, color, size = STARS[series]
            grid[0, 0].plot([], [], mark, color=color, ms=size**0.5, label=name)
    fig.name_above(grid[0, 0])
    fig.caption = pulls_caption(result.about)
    return fig


def draw_pull(result: Pulls, time: float) -> Drawing:
    """A moment of a film, a panel a run: arrows on their way out, or back into their mean.

    Args:
        result: what `pulls` measured.
        time: in rounds since the first of them began; a whole number is the end of one.
    """
    panels = pull_panels(result)
    fig = figure(PAGE, 0.9 + PAGE / max(len(panels), 2))
    latest = max(len(panel["rounds"]) for panel in panels)
    for axis, panel in zip(fig.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        rounds, half, (x, y) = panel["rounds"], panel["half"], panel["centre"]
        own = max(time - (latest - len(rounds)), 0.0)
        place = min(max(int(np.ceil(own)) - 1, 0), len(rounds) - 1)
        _moment(axis, rounds[place], own - place)
        begun = [round["from"] for round in rounds[: place + 1]]
        axis.plot([mark["x"] for mark in begun], [mark["y"] for mark in begun], color="0.6", lw=0.8)
        axis.set(xlim=(x - half, x + half), ylim=(y - half, y + half), aspect="equal", xticks=[], yticks=[])
        losses = f"loss {rounds[place]['from']['loss']:.3g} → {rounds[place]['to']['loss']:.3g}"
        axis.set_title(f"{plain(panel['name'])}, round {rounds[place]['round']}", fontsize=8)
        axis.set_xlabel(f"{losses}; {panel['share']}", fontsize=7)
    for name, color in pull_keys(result):
        fig.axes[0].plot([], [], "-", color=color, label=name)
    fig.name_above(fig.axes[0])
    return fig


def _moment(axis: Axes, round: dict[str, Any], share: float) -> None:
    """One round at a share of it: out by 0.35, back in the mean by 0.8, at the next model at 1."""
    start, mean, end = ([round[name]["x"], round[name]["y"]] for name in ("from", "mean", "to"))
    out, snap, moved = (np.clip((share - begin) / long, 0, 1) for begin, long in ((0, 0.35), (0.55, 0.25), (0.8, 0.2)))
    for client in round["clients"]:
        head = np.array(start) + out * (np.array([client["x"], client["y"]]) - start)
        tip, tail = head + snap * (mean - head), np.array(start) + snap * (np.array(mean) - start)
        arrow = {"arrowstyle": "-|>", "color": client["color"], "lw": 1.1, "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", tip, tail, arrowprops=arrow, zorder=2)
    axis.plot(*start, "*", color="0.1", mfc="white", ms=8, zorder=3)
    if snap == 1:
        axis.plot(*(np.array(mean) + moved * (np.array(end) - mean)), "*", color="0.1", ms=10, zorder=4)
    if share == 1 and round["swa"]:
        axis.plot(round["swa"]["x"], round["swa"]["y"], "*", color="#d1a000", ms=10, zorder=4)


def _share(about: Mapping[str, Any]) -> str:
    return f"{100 * sum(about['explained']):.0f} % of the variance"


def pulls_caption(about: Mapping[str, Any]) -> str:
    """What is shown, what the plane leaves out, on what losses were measured, what was trained again."""
    left = "; ".join(f"{name}: {_share(facts)} lies in its plane" for name, facts in about["runs"].items())
    again = ", ".join(f"{facts['retrained']} in {facts['seconds']:.3g} s" for facts in about["runs"].values())
    whole = "" if about["complete"] else " Stopped, not complete."
    return plain(
        "Each plane goes through the mean of the models shown along their first two principal components, all on one"
        f" scale of distance. {left}. Losses are the models' own on {about['samples']} samples ({about['data']})."
        f" Rounds trained again: {again}.{whole}"
    )


def pull_panels(result: Pulls) -> list[dict[str, Any]]:
    """What is shown of each run in the browser, as JSON takes it.

    Returns:
        name, id, share, centre, half (of the side of a square that is as large for all) and rounds: `from`, `clients`,
        `mean`, `to` and `swa` of each, with words of each model.
    """
    runs = {str(name): own for name, own in result.frame.groupby("run", sort=False)}
    half, panels = max([_reach(own) for own in runs.values()], default=1.0), []
    for name, own in runs.items():
        about = result.about["runs"][name]
        centre = [float(own[at].min() + own[at].max()) / 2 for at in ("x", "y")]
        if rounds := _rounds(own, result.about["classes"]):
            panel = {"name": name, "id": about["id"], "share": _share(about), "centre": centre, "half": half}
            panels.append({**panel, "rounds": rounds})
    return panels


def _rounds(own: pd.DataFrame, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The rounds of a run that are whole."""
    names, colors = class_labels(classes), class_colors(len(classes))
    marks: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in own.to_dict("records"):
        marks[row["round"], row["series"]].append(_mark(row, names, colors))
    ended = [round for round, series in [*marks] if series == "mean" and marks[round, "global"]]
    return [
        {
            "round": int(round),
            "from": marks[round - 1, "global"][0],
            "clients": marks[round, "client"],
            "mean": marks[round, "mean"][0],
            "to": marks[round, "global"][0],
            "swa": next(iter(marks[round, "swa"]), None),
        }
        for round in sorted(ended)
    ]


def pull_view(result: Pulls) -> tuple[list[tuple[str, str]], str, list[dict[str, Any]]]:
    """What the browser shows: `pull_keys`, `pulls_caption` and `pull_panels`."""
    return pull_keys(result), pulls_caption(result.about), pull_panels(result)


def pull_keys(result: Pulls) -> list[tuple[str, str]]:
    """What the arrows' colours mean: of the classes that some client holds most of."""
    held = sorted(set(result.frame.loc[result.frame["series"] == "client", "main"]))
    names, colors = class_labels(result.about["classes"]), class_colors(len(result.about["classes"]))
    return [(f"mostly {names[label]}", colors[label]) for label in held] if len(held) <= NAMED else []


def _mark(row: dict[str, Any], names: list[str], colors: tuple[str, ...]) -> dict[str, Any]:
    """A model: place, losses, and what is said where the pointer rests on it."""
    mark = {name: json_cell(row[name]) for name in ("x", "y", "loss", "accuracy", "residual")}
    who = {"global": f"global model after round {row['round']}", "swa": "the server's average", "mean": "their mean"}
    said = who.get(row["series"], "")
    if row["series"] == "client":
        mark |= {"client": int(row["client"]), "color": colors[row["main"]]}
        held = f"{100 * row['share']:.0f} % class {names[row['main']]}"
        said = f"client {row['client']}, {held}, weight {row['weight']:.2g}"
    said += f": loss {row['loss']:.4g}, accuracy {100 * row['accuracy']:.1f} %"
    return mark | {"told": f"{said}, {row['residual']:.2g} off the plane"}


def _reach(own: pd.DataFrame) -> float:
    """Half the side of a square that holds all models, with room for their stars."""
    return 0.58 * max(np.ptp(own["x"]), np.ptp(own["y"]), 1e-12)


def _fan(axis: Axes, own: pd.DataFrame, round: int, colors: tuple[str, ...]) -> None:
    now = own[own["round"] == round]
    way = own[(own["series"] == "global") & (own["round"] <= round)]
    start, end = (way[way["round"] == at].iloc[0] for at in (round - 1, round))
    axis.plot(way["x"], way["y"], "-", color="0.6", lw=0.8, zorder=1)
    for client in now[now["series"] == "client"].to_dict("records"):
        arrow = {"arrowstyle": "-|>", "color": colors[client["main"]], "lw": 0.9, "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", (client["x"], client["y"]), (start["x"], start["y"]), arrowprops=arrow, zorder=2)
    axis.plot(start["x"], start["y"], "*", color="0.1", mfc="white", ms=7, zorder=3)
    for series in ("mean", "global", "swa"):
        mark, color, size = STARS[series]
        marks = now[now["series"] == series]
        edge = {"linewidths": 0.8} if mark == "x" else {"edgecolors": "white", "linewidths": 0.5}
        axis.scatter(marks["x"], marks["y"], marker=mark, color=color, s=size, zorder=4, **edge)
    clients = now.loc[now["series"] == "client", "loss"]
    told = f"loss {start['loss']:.3g} → {end['loss']:.3g}\nclients' {clients.min():.3g} to {clients.max():.3g}"
    swa = now.loc[now["series"] == "swa", "loss"]
    axis.set_title(f"round {round}", fontsize=8)
    axis.set_xlabel(told + (f"\naverage {swa.iloc[0]:.3g}" if len(swa) else ""), fontsize=6.5)
