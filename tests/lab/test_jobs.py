"""The lab's one compute thread: order, cancellation, errors, and a clean end of the process."""

import subprocess
import sys
import threading

import pytest

from flatlab.lab import jobs
from flatlab.lab.jobs import Cancelled, Job, call, submit


def test_jobs_take_turns_on_one_thread_that_is_not_the_callers():
    seen = []
    jobs = [submit(lambda _, i=i: seen.append((i, threading.get_ident()))) for i in range(5)]
    jobs[-1].wait(5)
    assert [i for i, _ in seen] == [0, 1, 2, 3, 4]
    assert {thread for _, thread in seen} == {seen[0][1]} and seen[0][1] != threading.get_ident()


def test_a_result_and_an_error_reach_whoever_waits():
    assert submit(lambda _: 7).wait(5) == 7

    def fails(_):
        raise ValueError("no such thing")

    job = submit(fails)
    with pytest.raises(ValueError, match="no such thing"):
        job.wait(5)
    assert job.state == "failed"


def test_a_listener_that_raises_leaves_the_work_as_it_is():
    def listener(_):
        raise OSError("cannot draw")

    job = submit(lambda job: job.report(1, 2) and 7, listener)
    assert job.wait(5) == 7
    assert job.state == "done" and job.error is None and "cannot draw" in str(job.listener_error)


def test_a_waiting_job_that_is_cancelled_never_begins():
    gate, seen = threading.Event(), []
    first = submit(lambda _: gate.wait(5))
    second = submit(lambda _: seen.append("began"))
    second.cancel()
    gate.set()
    first.wait(5)
    with pytest.raises(Cancelled):
        second.wait(5)
    assert not seen and second.state == "cancelled"


def test_a_running_job_hears_of_its_cancellation_when_it_reports_and_keeps_its_result():
    began, go = threading.Event(), threading.Event()

    def work(job):
        began.set()
        go.wait(5)
        return "all" if job.report(1, 2) else "half"

    job = submit(work)
    began.wait(5)
    job.cancel()
    go.set()
    assert job.wait(5) == "half" and job.state == "cancelled"


def test_waiting_has_a_limit():
    gate = threading.Event()
    job = submit(lambda _: gate.wait(5))
    with pytest.raises(TimeoutError, match=r"0\.3 s"):
        job.wait(0.3)
    gate.set()
    job.wait(5)


def test_the_listener_hears_of_every_state():
    seen = []
    job = submit(lambda job: job.report(3, 4), lambda job: seen.append((job.state, job.progress)))
    job.wait(5)
    assert seen == [("running", (0, 0)), ("running", (3, 4)), ("done", (3, 4))]


def test_call_waits_outside_and_goes_straight_on_inside():
    assert not jobs.on_compute_thread()
    assert call(jobs.on_compute_thread)
    assert call(lambda: call(lambda: 5)) == 5  # waiting for itself would hang


def test_a_job_can_be_noted_before_it_begins():
    noted = []
    job = Job(lambda mine: noted[0] is mine)
    noted.append(job)
    assert jobs.enqueue(job).wait(5)


def test_leaving_python_while_torch_computes_is_a_clean_exit():
    program = (
        "import time, torch\nfrom flatlab.lab.jobs import submit\n"
        "def work(job):\n"
        "    while job.report(1, 2): torch.randn(300, 300) @ torch.randn(300, 300)\n"
        "job = submit(work); time.sleep(0.5); assert job.state == 'running'"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


STUBBORN = (
    "import sys, time, torch\nfrom flatlab.lab import jobs\njobs.PATIENCE = 0.6\n"
    "def deaf(job):\n    while True: torch.randn(300, 300) @ torch.randn(300, 300)\n"
    "def stuck(job):\n    time.sleep(900)\n"  # inside one call: nothing interrupts it
    "job = jobs.submit({work}); time.sleep(0.5); assert job.state == 'running'; print('last words')\n{end}"
)


@pytest.mark.parametrize(("end", "status"), [("", 0), ("sys.exit(3)", 3), ("1 / 0", 1)])
def test_a_job_that_does_not_listen_is_interrupted_when_python_ends(end, status):
    program = STUBBORN.format(work="deaf", end=end)
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True)
    assert ended.returncode == status and ended.stdout == "last words\n" and "terminate" not in ended.stderr


@pytest.mark.parametrize(("end", "status"), [("", 0), ("1 / 0", 1)])
def test_a_job_that_nothing_interrupts_is_left_behind_when_python_ends(end, status):
    program = STUBBORN.format(work="stuck", end=end)
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True)
    assert ended.returncode == status and ended.stdout == "last words\n"
    assert ("ZeroDivisionError" in ended.stderr) == bool(status)


def test_a_forked_process_has_a_compute_thread_of_its_own():
    program = (
        "import os\nfrom flatlab.lab.jobs import submit\nassert submit(lambda _: 5).wait(5) == 5\n"
        "child = os.fork()\n"
        "if child == 0:\n    os._exit(submit(lambda _: 7).wait(5))\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\nassert submit(lambda _: 6).wait(5) == 6"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
