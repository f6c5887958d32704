"""Clients side by side on a few cores, step by step: at the end of a round no core waits for a last client.

Five equal clients on two cores would take three turns, the last with a core idle. As a client's steps may be done by
any thread in turn, the last ones share the cores evenly: two and a half (McNaughton's rule for preemptive machines,
Management Science 6, 1959). Which thread does a step changes no sum.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch

Tool = TypeVar("Tool")
Result = TypeVar("Result")


@dataclass
class _Job(Generic[Tool, Result]):
    """An item that was begun."""

    place: int
    tool: Tool
    steps: Iterator[Result | None]
    left: int
    results: list[Result] = field(default_factory=list)


class Turns(Generic[Tool, Result]):
    """Work that yields after each of its steps, for several items on several threads, with one torch thread each.

    Args:
        work: `work(tool, place)` yields after each step, a result or None; nobody else uses the tool meanwhile.
        free: holds `2 x threads - 1` tools, as many items as are begun at a time.
        lengths: about how many steps each item takes.
        threads: how many.
        name: of the threads.
    """

    def __init__(
        self,
        work: Callable[[Tool, int], Iterator[Result | None]],
        free: SimpleQueue[Tool],
        lengths: Sequence[int],
        threads: int,
        name: str,
    ) -> None:
        self.work, self.free, self.lengths, self.threads, self.name = work, free, lengths, threads, name
        self.changed = threading.Condition()
        self.begun = self.taken = self.running = 0  # items begun, items taken by the caller, items on a thread
        self.idle: list[_Job[Tool, Result]] = []
        self.done: dict[int, list[Result] | BaseException] = {}
        self.stopped = False

    def results(self) -> Iterator[list[Result]]:
        """The results of each item, in order.

        Raises:
            BaseException: what the work raised, after the results of all items before.
        """
        before = torch.get_num_threads()
        threads = [threading.Thread(target=self._run, name=f"{self.name}_{k}") for k in range(self.threads)]
        for thread in threads:
            thread.start()
        try:
            for place in range(len(self.lengths)):
                with self.changed:
                    self.changed.wait_for(lambda place=place: place in self.done)  # type: ignore[misc]
                    outcome = self.done.pop(place)
                    self.taken += 1
                    self.changed.notify_all()
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
        finally:
            with self.changed:
                self.stopped = True
                self.changed.notify_all()
            for thread in threads:
                thread.join()
            for job in self.idle:
                self.free.put(job.tool)
            torch.set_num_threads(before)  # a thread's number is also what threads begun later get

    def _run(self) -> None:
        torch.set_num_threads(1)
        job = self._next(None)
        while job is not None:
            try:
                result = next(job.steps)
            except StopIteration:
                self._end(job, job.results)
                job = self._next(None)
            except BaseException as error:  # the caller's thread raises it
                self._end(job, error)
                job = self._next(None)
            else:
                job.left -= 1
                if result is not None:
                    job.results.append(result)
                job = self._next(job)

    def _end(self, job: _Job[Tool, Result], outcome: list[Result] | BaseException) -> None:
        with self.changed:
            self.done[job.place] = outcome
            self.running -= 1
            self.free.put(job.tool)
            self.changed.notify_all()

    def _next(self, job: _Job[Tool, Result] | None) -> _Job[Tool, Result] | None:
        """What this thread does next, if it has done a step of `job`; None: nothing more."""
        with self.changed:
            while not self.stopped:
                last = len(self.lengths) - self.begun + len(self.idle) + self.running < 2 * self.threads
                while last and self.begun < len(self.lengths):
                    self.idle.append(self._begin())
                other = max(self.idle, key=lambda job: job.left, default=None)
                if job is not None and not (last and other is not None and other.left > job.left):
                    return job
                if other is not None:
                    self.idle.remove(other)
                    self.running += 1
                    if job is not None:
                        self.running -= 1
                        self.idle.append(job)
                    return other
                if self.begun == len(self.lengths):
                    return None
                if self.begun - self.taken < 3 * self.threads:  # results that nobody has taken need memory
                    self.running += 1
                    return self._begin()
                self.changed.wait()
            if job is not None:
                self.running -= 1
                self.free.put(job.tool)
            return None

    def _begin(self) -> _Job[Tool, Result]:
        place, tool = self.begun, self.free.get()
        self.begun += 1
        return _Job(place, tool, iter(self.work(tool, place)), self.lengths[place])
