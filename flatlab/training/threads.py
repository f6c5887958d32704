"""Computing several things at a time on a CPU, one on each core: quicker than sharing each one among the cores."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

import torch

Tool = TypeVar("Tool")
Item = TypeVar("Item")
Result = TypeVar("Result")


class _Outside(threading.local):
    """torch's number of threads around the outermost `computing_with` of this thread; 0 outside of one."""

    threads = 0


_OUTSIDE = _Outside()


@contextlib.contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Inside the block, or the function that this decorates, torch computes with so many threads.

    How many share a sum decides how it rounds, so whatever is kept is computed with a number that a rule gives.
    """
    before, outer = torch.get_num_threads(), _OUTSIDE.threads
    _OUTSIDE.threads = outer or before
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _OUTSIDE.threads = outer


def cores() -> int:
    """How many things this thread may compute side by side: torch's number of threads outside `computing_with`."""
    return _OUTSIDE.threads or torch.get_num_threads()


def side_by_side(
    work: Callable[[Tool, Item], Result], free: SimpleQueue[Tool], tools: int, items: Iterable[Item], name: str
) -> Iterator[Result]:
    """`work(tool, item)` for each item, in order, each computed with one torch thread.

    Args:
        work: called with a tool that nobody else uses meanwhile.
        free: holds the tools, e.g. copies of a network.
        tools: how many there are, and so threads; it changes no result.
        items: what to do; no more than two results a thread wait to be taken.
        name: of the threads.
    """

    def with_tool(item: Item) -> Result:
        tool = free.get()
        try:
            return work(tool, item)
        finally:
            free.put(tool)

    if tools == 1:
        for item in items:
            with computing_with(1):
                result = with_tool(item)
            yield result
        return
    before = torch.get_num_threads()
    with ThreadPoolExecutor(tools, name, torch.set_num_threads, (1,)) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(with_tool, item))
                if len(waiting) > 2 * tools:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(before)  # a thread's number is also what threads begun later get


def hands(device: torch.device) -> tuple[SimpleQueue[None], int]:
    """`free` and `tools` of `side_by_side` for work that needs no tool: one on each core of a CPU, else one."""
    count = cores() if device.type == "cpu" else 1
    free = SimpleQueue[None]()
    for _ in range(count):
        free.put(None)
    return free, count
