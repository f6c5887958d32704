"""Evasion: what is left of a model's accuracy when whoever shows it images may change each pixel by eps.

Attacked are the global model (or its average, or over a topology the mean) on the holdout, and clients' own models,
fine-tuned or not, on their own test sets; in the batches in which they are scored: eps = 0 gives the clean accuracy.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..algorithms import FGSM, Evasion, Params
from ..arguments import Whole, with_settings
from ..declare import SettingError, setting
from ..later import pd
from ..models import Model, frame
from ..personalization.finetune import Tuning, tuned_parts
from ..results import Result, spread
from ..streams import stream
from ..training import Run, State
from ..training.evaluate import Score, client_lots, holdout_lots
from ..training.finding import as_runs, at_rounds, client_ids
from ..training.network import probed
from ..training.objective import logits
from ..training.progress import Progress, gather
from ..training.sequential import laid_out
from ..training.single_samples import by_batch

Lots = Sequence[Tensor]


@dataclass(frozen=True)
class Evasions(Result):
    """Accuracy under attack: a row a run, a model and an attack, the first of them none.

    `frame`: `run`, `name`, `seed`, `round`, `client` (-1: the global model on the holdout; else a client's on its own
    test set), `attack` (its kind; of several with one `eps` also what tells them apart, "pgd, steps 20"), `eps`,
    `accuracy`, `loss`, `samples`. An image counts as right if it is under every restart.
    """

    def summary(self) -> pd.DataFrame:
        """Per run and attack: mean accuracy over its models, its population standard deviation, how many models there
        are, and how many have no accuracy.
        """
        keys = ["run", "name", "seed", "round", "attack", "eps"]
        groups = self.frame.groupby(keys, sort=False, dropna=False)["accuracy"]
        rows = [(*key, *spread(values)) for key, values in groups]
        return pd.DataFrame(rows, columns=[*keys, "mean", "std", "models", "left_out"])


class Evading(Tuning):
    """How clients fine-tune their models before they are attacked; by default not at all.

    >>> fl.evade(run, epochs=1, clients=[2]).frame["client"].tolist()
    [2, 2]
    """

    epochs: Annotated[int, Field(ge=0, le=100_000)] = setting(
        0, "fine-tuning epochs of each client before the attack; 0: none", span=(0, 30)
    )


@with_settings(Evading)
@frame()
def evade(
    runs: Run | Iterable[Run],
    attack: Evasion | Sequence[Evasion] = FGSM(),  # noqa: B008  frozen
    *,
    settings: Evading,
    clients: Sequence[Whole] | Literal["all"] | None = None,
    round: Whole | Literal["best"] | None = None,
    source: nn.Module | None = None,
    progress: Progress | None = None,
) -> Evasions:
    """Accuracy of trained models on images that were changed to harm them, by one who knows their weights.

    Args:
        runs: a run or several.
        attack: `FGSM`, `PGD`, or several, as `[fl.PGD(eps=eps) for eps in (0.01, 0.03)]`.
        settings: made of the keyword arguments.
        clients: whose own models are attacked, on their own test sets: some, or "all". None: the global model on the
            holdout; where there is none, or clients are to fine-tune, all clients.
        round: the model after this round; as for `personalize`.
        source: a network on which the images are made, in place of the attacked one, whose weights the attacker then
            does not know: over a topology, say, `run.model(client=3)`.
        progress: called with the attacks done and their number; False stops.

    Under batch statistics a batch is attacked jointly: its images also move each other's statistics.

    Raises:
        SettingError: if a setting is out of range, or a client does not exist.

    >>> tested = fl.evade(run, [fl.FGSM(eps=0.05), fl.PGD(eps=0.05, steps=2)])
    >>> tested.summary()[["attack", "models"]].values.tolist()
    [['none', 1], ['fgsm', 1], ['pgd', 1]]
    """
    runs = as_runs(runs)
    attacks = [attack] if isinstance(attack, Evasion) else list(attack)
    if not attacks:
        raise SettingError("attack", attacks, "needs at least one, such as fl.FGSM(eps=0.03)")
    attacks = list({way.to_json(): way for way in attacks}.values())
    at_round = at_rounds(runs, round)
    whom = [_whom(run, clients, settings) for run, *_ in at_round]
    if source is not None:
        source = _checked_source(source, runs)
    total, told_as = (len(attacks) + 1) * sum(len(ids) for ids in whom), _names(attacks)

    def rows() -> Iterator[list[dict[str, Any]]]:
        for (run, at, name), ids in zip(at_round, whom, strict=True):
            of_run = {"run": run.id, "name": name, "seed": run.experiment.seed, "round": at}
            given = None if source is None else source.to(run.data.images.device)
            for client, params, lots in _models(run, settings, run.state(at), ids):
                samples = sum(map(len, lots))
                for way, called in ((None, "none"), *zip(attacks, told_as, strict=True)):
                    score = _score(run, params, client, lots, way, given)
                    told = {"attack": called, "eps": way.eps if way else 0.0}
                    numbers = {"accuracy": float(score.accuracy), "loss": float(score.loss), "samples": samples}
                    yield [{**of_run, "client": client, **told, **numbers}]

    measured, complete = gather(rows(), total, "evasion", progress)
    about = {"attacks": [way.to_dict() for way in attacks], "tuning": settings.to_dict(), "complete": complete}
    jointly = [run.id for run in runs if by_batch(run.cohort.model)]
    about |= {"jointly": jointly, "transfer": source is not None}
    return Evasions(pd.DataFrame(measured), about)


def _checked_source(source: nn.Module, runs: Sequence[Run]) -> nn.Module:
    """A copy in float32 that is evaluated, if it takes the images of all runs, and gives what their tasks score."""
    copied = copy.deepcopy(source).float().eval()
    for run in runs:
        outputs = probed(copied.to(run.data.images.device), run.data, "source")
        try:
            run.experiment.task.check(outputs, run.data.classes)
        except SettingError as error:
            raise SettingError("source", allowed=str(error)) from None
    return copied


def _names(attacks: Sequence[Evasion]) -> list[str]:
    """Kinds, and of those that there are several of with one eps the settings in which they differ."""
    names = []
    for way in attacks:
        alike = [dict(other) for other in attacks if (other.kind, other.eps) == (way.kind, way.eps)]
        differing = [key for key, value in way if any(other[key] != value for other in alike)]
        names.append(", ".join([way.kind, *(f"{key} {getattr(way, key)}" for key in differing)]))
    return names


def _whom(run: Run, clients: Sequence[int] | str | None, settings: Evading) -> list[int]:
    """Whose models: clients, or -1 for the global one."""
    if clients is None and not run.kept and not settings.epochs:
        return [-1]
    return client_ids(run, None if isinstance(clients, str) else clients)


def _models(run: Run, settings: Evading, state: State, ids: list[int]) -> Iterator[tuple[int, Params, Lots]]:
    """Each model's parameters, and the batches in which it is scored."""
    evaluation, data = run.experiment.evaluation, run.data
    if ids == [-1]:
        yield -1, state.served, holdout_lots(data, evaluation.batch_size)
        return
    own, tuned = run.own(state, ids), tuned_parts(run, settings, state, ids)
    for row, client in enumerate(ids):
        params = state.served | {name: value[row] for name, value in own.items()} | tuned[row]
        yield client, params, client_lots(data, client, evaluation.bn_eval)


def _score(
    run: Run, params: Params, client: int, lots: Lots, attack: Evasion | None, source: nn.Module | None
) -> Score:
    cohort = run.cohort
    layout = torch.channels_last if cohort.channels_last else torch.contiguous_format
    weights = {name: laid_out(value, layout) for name, value in params.items()}

    def scored(model: Model, place: int) -> dict[str, Tensor]:
        images, targets = laid_out(run.data.prepared(lots[place]), layout), run.data.targets(lots[place])

        def slope(at: Tensor) -> Tensor:
            free = at.detach().requires_grad_()
            with torch.enable_grad():
                outputs = logits(model, weights, free) if source is None else source(free)
                loss = cohort.task.losses(outputs, targets).sum()
            return torch.autograd.grad(loss, free)[0]

        worst: dict[str, Tensor] = {}
        right = torch.full((len(images),), torch.inf)  # of each image, under the worst start so far
        for start in _starts(run, client, place, images, attack):
            with torch.no_grad():
                shown = images if attack is None else attack.perturbed(slope, images, run.data.scale, start)
                outputs = logits(model, weights, shown)
            losses, share = cohort.task.losses(outputs, targets), cohort.task.accuracy(outputs, targets, "an evasion")
            worse = share < right.to(losses)
            right = torch.where(worse, share.to(losses), right.to(losses))
            for name, value in cohort.task.counts(outputs, targets).items():
                new = worse.reshape(-1, *[1] * (value.dim() - 1))
                worst[name] = torch.where(new, value.double(), worst[name]) if name in worst else value.double()
            worst["loss"] = torch.maximum(losses, worst["loss"]) if "loss" in worst else losses
        return {name: value.double().sum(0) for name, value in worst.items()}

    parts = list(cohort.side_by_side(scored, range(len(lots)), "evade"))
    sums = {name: sum((part[name] for part in parts[1:]), parts[0][name]) for name in parts[0]}
    return Score.of(sums, sum(map(len, lots)), cohort.task)


def _starts(run: Run, client: int, place: int, images: Tensor, attack: Evasion | None) -> Iterator[Tensor | None]:
    """Where in the ball an attack begins, in -1..1: the same for every eps."""
    if attack is None or not attack.draws:
        yield None
        return
    rng = stream(run.experiment.seed, "evasion", client, place)
    for _ in range(attack.draws):
        yield torch.from_numpy(rng.uniform(-1, 1, tuple(images.shape))).to(images)
