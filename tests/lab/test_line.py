"""The line between tabs and buttons: what runs, how far, how long still, what waits for it, and Cancel."""

import threading
import time

import pytest
from patience import PATIENCE, until
from small_runs import click

from flatlab import jobs
from flatlab.errors import plain_words
from flatlab.jobs import Job
from flatlab.lab.line import Work, sentence


def job(name, state="waiting", progress=(0, 0), begun=0.0):
    made = Job(lambda _: None, name=name)
    made.state, made.progress, made.begun = state, progress, begun
    return made


def test_the_sentence_says_what_waits_for_what():
    running = job("the Hessian", "running", (9, 52), time.monotonic() - 8.9)
    assert sentence([running, job("Step")]) == "Step waits for the Hessian, 9 of 52 (17 %), 00:43 left"
    assert sentence([running]).startswith("The Hessian, 9 of 52")
    assert sentence([job("fine-tuning", "running")]) == "Fine-tuning …"
    assert sentence([job("Run", "running"), job("the landscape")]) == "The landscape waits for the round in flight"
    assert sentence([job("Run", "running")]) == sentence([]) == ""  # the status says it
    assert sentence([job("Run", "running"), job("Run"), job("Run")]) == ""  # of runs that are tried side by side, too


def test_cancel_ends_what_is_shown_and_not_the_round():
    work, ended = Work(), []
    measuring = job("the landscape", "running")
    measuring.give_up = lambda: ended.append("landscape")
    work.show([measuring, job("Step")])
    click(work.cancel_button)
    assert ended == ["landscape"] and work.layout.display == "flex"
    work.show([])
    assert work.layout.display == "none"


def test_step_says_at_once_what_it_waits_for_and_pause_ends_the_waiting(make):
    lab = make()
    lab.ensure(1)
    begun, go = threading.Event(), threading.Event()

    def measure(job):
        begun.set()
        job.report(9, 52)
        go.wait(PATIENCE)

    measuring = jobs.submit(measure, name="the Hessian")
    begun.wait(PATIENCE)
    lab.step()
    assert lab.work.text.value.startswith("Step waits for the Hessian, 9 of 52 (17 %)")
    assert lab.transport.buttons["pause"].disabled is False
    lab.pause()
    assert lab.session.state == "paused" and lab.work.text.value.startswith("The Hessian, 9 of 52")
    go.set()
    measuring.wait(PATIENCE)
    lab.settle(PATIENCE)
    assert lab.run.round == 1 and lab.work.layout.display == "none"


def test_a_job_that_ends_while_its_beginning_is_shown_does_not_stay_on_the_line(make, monkeypatch):
    lab = make()
    lab.settle()
    show = lab.work.show

    def slowly(queue):
        time.sleep(0 if jobs.on_compute_thread() or not queue else 0.2)
        show(queue)

    monkeypatch.setattr(lab.work, "show", slowly)
    jobs.submit(lambda _: time.sleep(0.05), name="the Hessian")
    until(lambda: lab.work.layout.display == "none")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "/runs"), "/runs: Permission denied; allow it, or choose another"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused; try again once there is a connection"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("rounds = 0: must be a whole number ≥ 1"), "rounds = 0: must be a whole number ≥ 1"),
        (KeyError("a"), "KeyError: 'a'; if that is no code of yours"),
    ],
)
def test_errors_are_told_in_plain_words(error, said):
    assert plain_words(error).startswith(said) and "Errno" not in plain_words(error)
