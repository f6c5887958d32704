"""Charts in which every mark is a client's: who holds what, a round's cohort, gains; and the card of one client."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.colors import to_hex
from PIL import Image

from ..data import FederatedDataset
from ..geometry.kept_results import recalled
from ..later import pd
from ..personalization import Corrected, Personalization
from ..training import Run
from .chart import Axis, Chart, Items, Numbers, Plot
from .clients import class_counts_of, cohorts
from .colors import NAMED, class_colors
from .gains import gain_edges, gains_by_run
from .style import class_labels, line_colors, line_style

SHADES = tuple(to_hex(color) for color in sns.color_palette("rocket_r", 33))
MOST = 4000  # clients whose bars travel to the browser, round by round
SHOWN, SIDE = 12, 48  # images on a card, and pixels of each


def population(data: FederatedDataset) -> str:
    """Stands for the clients of a data set, so that another's are not taken for them."""
    return f"{zlib.crc32(data.fingerprint.encode()):08x}"


def common_population(runs: Sequence[Run]) -> str:
    """That of all these runs; empty if they differ."""
    several = {population(run.data) for run in runs}
    return several.pop() if len(several) == 1 else ""


def chart_partition(data: FederatedDataset) -> Chart:
    """The share of each class in each client's train images, as a heatmap; its numbers are images."""
    counts = data.class_counts("train")
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    client, label = np.nonzero(counts)
    ones = np.ones(len(client))
    # A root: the hundredths of a hundred classes stay visible.
    color = np.rint(share[client, label] ** 0.4 * (len(SHADES) - 1))
    items = Items(client, client, label, counts[client, label], color, SHADES, ones, ones, population=population(data))
    clients, classes = (float(length) - 0.5 for length in counts.shape)
    across = Axis("client", limits=(-0.5, clients))
    down = Axis(data.label_words[0], limits=(classes, -0.5), names=tuple(class_labels(data.label_names, 9)))
    return Chart((Plot((), across, down, items=items, what="images"),))


def chart_cohort(run: Run, round: int | None = None, scored: Personalization | None = None) -> Chart:
    """The sampled clients of each round, a bar each, as `draw_cohort` has them; one round is seen at a time.

    Args:
        run: whose rounds; of very many, those around the one that is looked at.
        round: which is looked at, from 1; None is the latest.
        scored: what `personalize(run, epochs=0)` found at this round: initial accuracy where the history has none.

    Raises:
        SettingError: if the history does not have the round.
    """
    at, who, own = (
        run.round if round is None else round,
        population(run.data),
        (to_hex(line_style(run.name, [])["color"]),),
    )
    table = _around(cohorts(run, scored, at), at)
    counts, clients = class_counts_of(run, table["client"]), table["client"].to_numpy()
    rows, rounds = table.groupby("round").cumcount().to_numpy(), table["round"].to_numpy()
    place, label = np.nonzero(counts)
    begin, held = (np.cumsum(counts, axis=1) - counts)[place, label], counts[place, label]
    mix = Items(clients[place], begin + held / 2, rows[place], held, label, class_colors(counts.shape[1]), held,
                np.full(len(held), 0.8), tuple(class_labels(run.data.label_names)), who, rounds[place])  # fmt: skip
    across = Axis("train images by class", limits=(0.0, float(counts.sum(1).max())))
    down = Axis("client", limits=(float(rows.max()) + 0.5, -0.5))
    plots = [Plot((), across, down, items=mix, what="images", share=2.2)]
    for name, axis, factor in (
        ("loss", Axis("training loss"), 1.0),
        ("drift", Axis("drift"), 1.0),
        ("initial", Axis("initial accuracy", "%", (0.0, 100.0)), 100.0),
    ):
        values = factor * table[name].to_numpy(np.float64)
        there = np.flatnonzero(np.isfinite(values))
        bars = Items(clients[there], values[there] / 2, rows[there], values[there], 0 * there, own, values[there],
                     np.full(len(there), 0.8), population=who, round=rounds[there])  # fmt: skip
        limits = axis.limits or (0.0, float(values[there].max(initial=0)) * 1.05 or 1.0)
        said = axis.label if len(there) else "not scored"
        unit = axis.unit if len(there) else ""
        plots.append(Plot((), Axis(said, unit, limits), down, items=bars, what=axis.label))
    title = f"{run.name}, round {{round}}: {(rounds == at).sum()} of {run.data.clients} clients"
    return Chart(tuple(plots), title, at=at, run=run.id)


def _around(table: pd.DataFrame, at: int) -> pd.DataFrame:
    """The rounds nearest to one, as many as have no more than `MOST` clients in all."""
    sizes = table["round"].value_counts().sort_index()
    nearest = sizes.iloc[np.argsort(np.abs(sizes.index.to_numpy() - at), kind="stable")]
    kept = nearest.index[(nearest.cumsum() <= MOST) | (nearest.index == at)]
    return table[table["round"].isin(kept)].reset_index(drop=True)


def chart_gains(
    result: Personalization, view: str, runs: Sequence[Run] = (), own: Mapping[str, str] | None = None
) -> Chart:
    """Every client's gain from fine-tuning, a brick each ("histogram"), or its accuracy before and after ("scatter").

    Args:
        result: what `personalize` measured.
        view: one of the two.
        runs: those that were tuned; if they share their clients, these light up together.
        own: colours by label; by default those of the algorithms.
    """
    groups = gains_by_run(result)
    names, colors = list(groups), line_colors(groups, own or {})
    table = pd.concat([table.assign(group=place) for place, (table, _) in enumerate(groups.values())]).reset_index()
    before, after = (table[name].to_numpy(np.float64) for name in ("initial", "personalized"))
    common: dict[str, Any] = {"colors": colors, "named": tuple(names)}
    common["population"] = common_population(runs)
    client, color, gain = table["client"].to_numpy(), table["group"].to_numpy(), after - before
    title = f"mean gain: {', '.join(f'{name} {gain[color == place].mean():.1f}' for place, name in enumerate(names))}"
    if view == "scatter":
        items = Items(client, before, after, gain, color, **common)
        across, up = (Axis(f"{name} accuracy", "%", (-2.0, 102.0)) for name in ("initial", "personalized"))
        return Chart((Plot((), across, up, items=items, what="points gained", diagonal=True),), title)
    edges = gain_edges(gain)
    bins = np.clip(np.searchsorted(edges, gain, side="right") - 1, 0, len(edges) - 2)
    height = _piled(bins, np.lexsort((client, color)))
    wide = np.diff(edges)[bins]
    items = Items(client, edges[bins] + wide / 2, height + 0.5, gain, color, wide=0.94 * wide,
                  high=np.full(len(gain), 0.92), **common)  # fmt: skip
    across = Axis("gain from fine-tuning", "points", (float(edges[0]), float(edges[-1])))
    up = Axis("clients", limits=(0.0, float(height.max(initial=0)) + 1.5))
    return Chart((Plot((), across, up, items=items, what="points gained"),), title)


def _piled(bins: Numbers, order: Numbers) -> Numbers:
    """How many lie below each, where they are laid into bins in this order."""
    height, piles = np.zeros(len(bins)), dict[int, int]()
    for place in order:
        height[place] = piles.get(int(bins[place]), 0)
        piles[int(bins[place])] = int(height[place]) + 1
    return height


def client_card(data: FederatedDataset, client: int, run: Run | None = None, round: int | None = None) -> Any:
    """What is known of a client: of its data, of a round, and what was measured of it and kept with the run.

    Args:
        data: what it holds.
        client: which.
        run: a run on these data, if there is one.
        round: whose loss and drift; None: the latest in which it was sampled.

    Returns:
        A mapping that JSON takes (title, facts, classes, hints, right), and two PNG files: twelve of its images, and
        those of its test images that tuning put right.
    """
    counts, held, test = data.class_counts("train")[client], data.train[client], data.test[client]
    facts: list[tuple[str, str]] = [("images", f"{len(held)} to train on, {len(test)} to test on")]
    hints: list[str] = []
    colors = class_colors(len(counts))
    names = class_labels(data.label_names, 14)
    card: dict[str, Any] = {"client": client, "population": population(data), "title": f"Client {client}"}
    largest = [int(label) for label in np.argsort(-counts, kind="stable")[:NAMED] if counts[label]]
    card["classes"] = [[names[label], int(counts[label]), colors[label]] for label in largest]
    images = [_sheet(data, held[:: max(1, len(held) // SHOWN)][:SHOWN].cpu().numpy())]
    if run is None or not run.round:
        hints.append("Loss, drift and accuracy: press Run or Step first.")
    else:
        card["title"] += f" of {run.name}"
        facts += _of_round(run, client, round, hints)
        images.append(_of_tuning(run, client, facts, hints, card))
    return {**card, "facts": facts, "hints": hints}, images


def _of_round(run: Run, client: int, round: int | None, hints: list[str]) -> list[tuple[str, str]]:
    rows = run.history
    rows = rows[(rows["client"] == client) & (rows["round"] <= (run.round if round is None else round))]
    facts = []
    for split, metric, name in (("train", "loss", "training loss"), ("train", "drift", "drift")):
        scores = rows[(rows["split"] == split) & (rows["metric"] == metric)]
        if len(scores):
            facts.append((name, f"{scores['value'].iloc[-1]:.3g} (round {scores['round'].iloc[-1]})"))
    if not facts:
        hints.append("Loss and drift: it was not sampled so far.")
    return facts


def _of_tuning(run: Run, client: int, facts: list[Any], hints: list[str], card: dict[str, Any]) -> bytes:
    kept = recalled(run.directory)
    tuned, judged = kept.get(Personalization), kept.get(Corrected)
    curve = None if tuned is None else tuned.frame[tuned.frame["client"] == client]
    if tuned is None or curve is None or curve.empty:
        hints.append("Accuracy before and after tuning, and the images that tuning put right: press Measure.")
        return b""
    ends = curve.sort_values("epoch")["accuracy"]
    how = f"round {tuned.about['round']}, {tuned.about['epochs']} epochs"
    facts.append(("accuracy", f"{100 * ends.iloc[0]:.1f} % → {100 * ends.iloc[-1]:.1f} % tuned ({how})"))
    rows = None if judged is None else judged.frame[judged.frame["client"] == client]
    if run.experiment.task.dense:
        return b""
    if judged is None or rows is None or rows.empty or judged.about["round"] != tuned.about["round"]:
        hints.append("Which images tuning put right: press Measure.")
        return b""
    right = rows[rows["after"] & ~rows["before"]]
    spoilt = int((rows["before"] & ~rows["after"]).sum())
    card["right"] = f"Tuning put {len(right)} of {len(rows)} test images right and spoilt {spoilt}."
    return _sheet(run.data, right["image"].to_numpy()[:SHOWN]) if len(right) else b""


def _sheet(data: FederatedDataset, index: Any) -> bytes:
    """Images side by side, six in a row, each as large as a thumb."""
    if not len(index):
        return b""
    tiles = []
    for image in data.images.cpu().numpy()[np.asarray(index)].transpose(0, 2, 3, 1):
        plain = image[..., 0] if image.shape[2] == 1 else image[..., :3]
        tiles.append(Image.fromarray(plain).resize((SIDE, SIDE), Image.Resampling.BOX))
    sheet = Image.new("RGB", (6 * (SIDE + 2), -(-len(tiles) // 6) * (SIDE + 2)), "#808080")
    for place, tile in enumerate(tiles):
        sheet.paste(tile.convert("RGB"), (place % 6 * (SIDE + 2) + 1, place // 6 * (SIDE + 2) + 1))
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()
