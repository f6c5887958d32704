"""The lab's one compute thread: order, cancellation, errors, and a clean end of the process."""

import ast
import os
import sys
import threading

import programs
import pytest
from patience import PATIENCE

from flatlab import jobs
from flatlab.jobs import Cancelled, Job, call, submit


def test_jobs_take_turns_on_one_thread_that_is_not_the_callers():
    seen = []
    jobs = [submit(lambda _, i=i: seen.append((i, threading.get_ident()))) for i in range(5)]
    jobs[-1].wait(PATIENCE)
    assert [i for i, _ in seen] == [0, 1, 2, 3, 4]
    assert {thread for _, thread in seen} == {seen[0][1]} and seen[0][1] != threading.get_ident()


def test_a_result_and_an_error_reach_whoever_waits():
    assert submit(lambda _: 7).wait(PATIENCE) == 7

    def fails(_):
        raise ValueError("no such thing")

    job = submit(fails)
    with pytest.raises(ValueError, match="no such thing"):
        job.wait(PATIENCE)
    assert job.state == "failed"


def test_a_listener_that_raises_leaves_the_work_as_it_is():
    def listener(_):
        raise OSError("cannot draw")

    job = submit(lambda job: job.report(1, 2) and 7, listener)
    assert job.wait(PATIENCE) == 7
    assert job.state == "done" and job.error is None and "cannot draw" in str(job.listener_error)


def test_a_waiting_job_that_is_cancelled_never_begins():
    gate, seen = threading.Event(), []
    first = submit(lambda _: gate.wait(PATIENCE))
    second = submit(lambda _: seen.append("began"))
    second.cancel()
    gate.set()
    first.wait(PATIENCE)
    with pytest.raises(Cancelled):
        second.wait(PATIENCE)
    assert not seen and second.state == "cancelled"


def test_a_running_job_hears_of_its_cancellation_when_it_reports_and_keeps_its_result():
    began, go = threading.Event(), threading.Event()

    def work(job):
        began.set()
        go.wait(PATIENCE)
        return "all" if job.report(1, 2) else "half"

    job = submit(work)
    began.wait(PATIENCE)
    job.cancel()
    go.set()
    assert job.wait(PATIENCE) == "half" and job.state == "cancelled"


def test_waiting_has_a_limit():
    gate = threading.Event()
    job = submit(lambda _: gate.wait(PATIENCE))
    with pytest.raises(TimeoutError, match=r"0\.3 s"):
        job.wait(0.3)
    gate.set()
    job.wait(PATIENCE)


def test_the_listener_hears_of_every_state():
    seen = []
    job = submit(lambda job: job.report(3, 4), lambda job: seen.append((job.state, job.progress)))
    job.wait(PATIENCE)
    assert seen == [("running", (0, 0)), ("running", (3, 4)), ("done", (3, 4))]


def test_call_waits_outside_and_goes_straight_on_inside():
    assert not jobs.on_compute_thread()
    assert call(jobs.on_compute_thread)
    assert call(lambda: call(lambda: 5)) == 5  # waiting for itself would hang


def test_a_job_can_be_noted_before_it_begins():
    noted = []
    job = Job(lambda mine: noted[0] is mine)
    noted.append(job)
    assert jobs.enqueue(job).wait(PATIENCE)


FORKS = """
job.cancel()
assert job.wait() == 5
child = os.fork()
if child == 0:
    os._exit(jobs.submit(lambda _: 7).wait())
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7 and jobs.submit(lambda _: 6).wait() == 6
"""
ENDINGS = {  # what the thread is at, what the program does last, its exit status
    "listens": ("listens", "", 0),
    "deaf": ("deaf", "", 0),
    "deaf, a status": ("deaf", "sys.exit(3)", 3),
    "deaf, an error": ("deaf", "1 / 0", 1),
    "stuck": ("stuck", "", 0),
    "stuck, an error": ("stuck", "1 / 0", 1),
    "forks": ("listens", FORKS, 0),
}
PROGRAM = """
import os, sys, threading, time, torch, warnings
from flatlab import jobs

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 tells of a fork that has threads

begun = threading.Event()

def listens(job):
    while job.report(1, 2):
        begun.set()
        torch.randn(300, 300) @ torch.randn(300, 300)
    return 5

def deaf(job):
    while True:
        begun.set()
        torch.randn(300, 300) @ torch.randn(300, 300)

def stuck(job):  # inside one call: nothing interrupts it
    begun.set()
    time.sleep(900)

folder, endings, children = sys.argv[1], eval(sys.argv[2]), {}
for name, (work, end, _) in endings.items():
    child = len(endings) > 1 and os.fork()
    if not child:
        for stream in (1, 2):
            os.dup2(os.open(f"{folder}/{name}.{stream}", os.O_WRONLY | os.O_CREAT), stream)
        break
    children[child] = name
else:
    print({name: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child, name in children.items()})
    sys.exit()
if work != "listens":
    jobs.PATIENCE = 0.2
if work == "stuck":
    jobs.LAST_PATIENCE = 0.2
job = jobs.submit(globals()[work])
begun.wait()
assert job.state == "running"
print("last words")
exec(end)
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Exit status and output of a program for each of `ENDINGS`."""
    folder, one_for_all = tmp_path_factory.mktemp("ended"), sys.platform == "linux"  # which can compute after a fork
    wanted = {name: ending for name, ending in ENDINGS.items() if name != "forks" or hasattr(os, "fork")}
    status = {}
    for group in [wanted] if one_for_all else [{name: ending} for name, ending in wanted.items()]:
        done = programs.run(["-c", PROGRAM, folder, repr(group)], timeout=PATIENCE)
        status |= ast.literal_eval(done.stdout) if one_for_all else dict.fromkeys(group, done.returncode)
    return {name: (status[name], *[(folder / f"{name}.{k}").read_text() for k in (1, 2)]) for name in wanted}


def test_leaving_python_while_torch_computes_is_a_clean_exit(ended):
    assert ended["listens"] == (0, "last words\n", "")


@pytest.mark.parametrize("name", [name for name in ENDINGS if name.startswith("deaf")])
def test_a_job_that_does_not_listen_is_interrupted_when_python_ends(ended, name):
    status, out, error = ended[name]
    assert status == ENDINGS[name][2] and out == "last words\n" and "terminate" not in error


@pytest.mark.parametrize("name", [name for name in ENDINGS if name.startswith("stuck")])
def test_a_job_that_nothing_interrupts_is_left_behind_when_python_ends(ended, name):
    status, out, error = ended[name]
    assert status == ENDINGS[name][2] and out == "last words\n"
    assert ("ZeroDivisionError" in error) == bool(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_process_has_a_compute_thread_of_its_own(ended):
    assert ended["forks"] == (0, "last words\n", "")
