"""One run on several GPUs or machines: processes started by `torchrun` share each round's clients.

    torchrun --nproc-per-node 4 -m flatlab run experiment.toml

Every process draws the same clients from the same streams, trains its part of them, and takes part in one all-reduce;
all then do the same server update. The first process alone evaluates and writes. If a process dies, the others end with
a message, and the same command goes on from the last round on disk.
"""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor

from ..declare import SettingError
from .interrupt import soft_interrupt
from .pool import end_with_parent
from .run import Listener, Run
from .state import State

TIMEOUT = datetime.timedelta(minutes=30)  # the others wait while the first process evaluates


def _device(asked: str) -> torch.device:
    """This process's GPU, or the CPU: a GPU for all processes of this machine or for none."""
    local, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", local + 1))
    if asked not in ("auto", "cuda") or not gpus:
        return torch.device("cpu")
    if gpus < processes:
        said = f"{processes} processes on a machine with {gpus} GPU(s); start one for each GPU, or give --device cpu"
        raise SettingError("device", asked, said)
    return torch.device("cuda", local)


class RankLost(RuntimeError):
    """Another process of this run has ended or cannot be reached."""


class Ranks:
    """The processes of this run, through `torch.distributed`: NCCL between GPUs, gloo between CPUs.

    Args:
        device: "auto" or "cuda" gives each process a GPU of its own where there are any; another name, none.

    Raises:
        SettingError: if this machine has fewer GPUs than processes, which could not talk to each other.
    """

    def __init__(self, device: str = "auto") -> None:
        self.device = _device(device)
        graphics = self.device.type == "cuda"
        if graphics:
            torch.cuda.set_device(self.device)
        if dist.is_torchelastic_launched():
            end_with_parent()  # a torchrun that is killed leaves its processes behind
        self.leaving = threading.Event()  # set by whoever wants this process to end after the round in flight
        self.left = False  # whether any process wanted to: all of them know it after the same round
        dist.init_process_group("nccl" if graphics else "gloo", timeout=TIMEOUT)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    @staticmethod
    def launched() -> bool:
        """Whether `torchrun` started this process as one of several."""
        return int(os.environ.get("WORLD_SIZE", 1)) > 1 and dist.is_torchelastic_launched()

    def share(self, work: Sequence[int]) -> list[int]:
        """The places of the clients that this process trains, so that all have about as much of `work` to do."""
        loads, places = [0] * self.size, []
        for place in sorted(range(len(work)), key=lambda place: (-work[place], place)):
            lightest = loads.index(min(loads))
            loads[lightest] += work[place]
            if lightest == self.rank:
                places.append(place)
        return sorted(places)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their sums over the processes, in one all-reduce; it also says who is leaving.

        Raises:
            RankLost: if another process is gone.
        """
        leaving = tensors[0].new_tensor([self.leaving.is_set()])
        flat = torch.cat([*(value.reshape(-1) for value in tensors), leaving])
        self._call(dist.all_reduce, flat)
        *sums, leaving = flat.split([*(value.numel() for value in tensors), 1])
        for value, part in zip(tensors, sums, strict=True):
            value.copy_(part.view(value.shape))
        self.left = self.left or bool(leaving)

    def agree(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The first process's tensors; the others' are not looked at, and may be missing.

        Raises:
            RankLost: if another process is gone.
        """
        packed = b""
        if self.rank == 0:
            packed = save({name: value.cpu().contiguous() for name, value in tensors.items()})
        size = torch.tensor([len(packed)], device=self.device)
        self._call(dist.broadcast, size, 0)
        content = torch.empty(int(size), dtype=torch.uint8, device=self.device)
        if self.rank == 0:
            content.copy_(torch.frombuffer(bytearray(packed), dtype=torch.uint8))
        self._call(dist.broadcast, content, 0)
        return {name: value.to(self.device) for name, value in load(content.cpu().numpy().tobytes()).items()}

    def leave(self) -> None:
        """End taking part."""
        dist.destroy_process_group()

    @staticmethod
    def _call(collective: Any, *arguments: Any) -> None:
        try:
            collective(*arguments)
        except RuntimeError as error:
            raise RankLost(
                f"another process of this run ended or cannot be reached ({str(error).splitlines()[0]})"
            ) from error


def train_shared(run: Run, ranks: Ranks, listener: Listener | None = None, wait: float = 0.0) -> Run:
    """Train to the end with all processes; each calls this with a run of the same experiment.

    The first process goes on from its run's last state, which the others are sent, and puts each round on record.

    Args:
        run: of any process; only the first one's is written.
        ranks: the processes.
        listener: as for `Run.to`, in the first process.
        wait: seconds to wait if somebody else trains this run.

    Returns:
        In the first process the finished run, in the others what they were given.

    Raises:
        RankLost: if another process is gone; the last round on record is whole, and the same call goes on.
        RunBusy, Diverged: as `Run.to`.
        KeyboardInterrupt: in a process that was interrupted, after the round in flight, with which all of them end.
    """
    federation, reached = run.federation, run.round
    federation.ranks, ranks.leaving = ranks, run.stopping
    run.stopping.clear()

    def stopped() -> str:
        return f"stopped after round {reached} of {run.rounds}; start the same command again to go on"

    try:
        with soft_interrupt(run.stopping, stopped):
            if ranks.rank == 0:
                reached = _lead(run, ranks, listener, wait)
            else:
                state = _agreed(run.state(), ranks)
                while (reached := state.round) < run.rounds and not ranks.left:
                    state, _ = federation.advance(state)
    except RankLost as error:
        reached = run.round if ranks.rank == 0 else reached
        raise RankLost(f"{run.id}: {error}; after {reached} rounds. Start the same command again to go on") from None
    finally:
        federation.ranks = None
    return run


def _lead(run: Run, ranks: Ranks, listener: Listener | None, wait: float) -> int:
    """The first process's part; the rounds reached."""
    with run.held(wait):
        _agreed(run.state(), ranks)
        while not run.done and not ranks.left:
            report = run.step()
            if listener is not None:
                listener(run, report)
    return run.round


def _agreed(state: State, ranks: Ranks) -> State:
    """The first process's state."""
    counts = torch.tensor([state.round, state.swa_count])
    sent = ranks.agree({**state.flat(), "counts": counts})
    round, swa_count = sent.pop("counts").tolist()
    return State.from_flat(sent, round, swa_count, ranks.device).plain()
