"""Computing several things at a time on a CPU, one on each core: quicker than sharing each one among the cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

import torch

Tool = TypeVar("Tool")
Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Tool, Item], Result], free: SimpleQueue[Tool], tools: int, items: Iterable[Item], name: str
) -> Iterator[Result]:
    """`work(tool, item)` for each item, in order, on threads that compute with one torch thread each.

    Args:
        work: called with a tool that nobody else uses meanwhile.
        free: holds the tools, e.g. copies of a network.
        tools: how many there are, and so threads.
        items: what to do; no more than two results a thread wait to be taken.
        name: of the threads.
    """
    before = torch.get_num_threads()

    def one(item: Item) -> Result:
        tool = free.get()
        try:
            return work(tool, item)
        finally:
            free.put(tool)

    with ThreadPoolExecutor(tools, name, torch.set_num_threads, (1,)) as pool:
        waiting: deque[Future[Result]] = deque()

        def next_one() -> Result:
            found = waiting.popleft().result()
            # What is done with it had better leave busy cores alone.
            torch.set_num_threads(before if all(future.done() for future in waiting) else 1)
            return found

        try:
            for item in items:
                waiting.append(pool.submit(one, item))
                if len(waiting) > 2 * tools:
                    yield next_one()
            while waiting:
                yield next_one()
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(before)  # a thread's number is also what threads begun later get
