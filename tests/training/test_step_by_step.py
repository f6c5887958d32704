"""Steps of several items on several threads: all results in order, no idle thread at the end, nothing left behind."""

import threading
import time
from queue import SimpleQueue

import pytest
from patience import PATIENCE

from flatlab.training.step_by_step import Turns


def turns(work, lengths, threads):
    free = SimpleQueue()
    for number in range(2 * threads - 1):
        free.put(number)
    return free, Turns(work, free, lengths, threads, "turn")


def threads_left():
    return [thread for thread in threading.enumerate() if thread.name.startswith("turn")]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("lengths", [[], [3], [2, 2, 2, 2, 2], [1, 5, 2, 0, 7, 3, 1, 1], [1] * 40])
def test_results_come_in_order_and_no_tool_is_used_twice_at_a_time(lengths, threads):
    using = set()

    def work(tool, place):
        for step in range(lengths[place]):
            assert tool not in using
            using.add(tool)
            time.sleep(0.0005)
            using.remove(tool)
            yield (place, step) if step % 2 else None

    free, some = turns(work, lengths, threads)
    assert list(some.results()) == [[(p, s) for s in range(1, n, 2)] for p, n in enumerate(lengths)]
    assert free.qsize() == 2 * threads - 1 and not threads_left()


def test_the_last_items_share_the_threads_evenly():
    """Five of ten steps on two threads end after 25 steps of each, give or take one; in whole turns it were 30."""
    done, together = {"turn_0": 0, "turn_1": 0}, threading.Barrier(2)

    def work(tool, place):
        for _ in range(10):
            name = threading.current_thread().name
            if not done[name]:
                together.wait(PATIENCE)  # both have begun
            done[name] += 1
            (other,) = done.keys() - {name}
            while done[name] > done[other] + 1 and other in [thread.name for thread in threads_left()]:
                time.sleep(0.0005)  # cores of one speed, whatever else they do
            yield None

    _, some = turns(work, [10] * 5, 2)
    assert len(list(some.results())) == 5
    assert sum(done.values()) == 50 and max(done.values()) <= 28


def test_what_is_raised_comes_after_the_results_before_it_and_ends_the_rest():
    def work(tool, place):
        yield place
        if place == 3:
            raise KeyError(place)

    _, some = turns(work, [1] * 30, 2)
    found = some.results()
    assert [next(found) for _ in range(3)] == [[0], [1], [2]]
    with pytest.raises(KeyError):
        next(found)
    assert not threads_left()


def test_one_who_stops_listening_leaves_no_thread():
    def work(tool, place):
        for _ in range(3):
            yield place

    free, some = turns(work, [3] * 50, 2)
    found = some.results()
    assert next(found) == [0, 0, 0]
    found.close()
    assert not threads_left() and free.qsize() == 3
