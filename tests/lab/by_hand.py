"""What a person does at the bench, and what holds its thread, for tests."""

import threading

from patience import PATIENCE

from flatlab.jobs import submit


def click(lab, name):
    button = lab.transport.buttons[name]
    assert not button.disabled, f"{name} is disabled"
    button._handle_custom_msg({"event": "click"}, [])


def enabled(lab):
    return {name for name, button in lab.transport.buttons.items() if not button.disabled}


def hold(run):
    """Keep rounds from beginning until the event that is returned is set; the other is set when one tries."""
    step, inside, go = run.step, threading.Event(), threading.Event()

    def waiting():
        inside.set()
        assert go.wait(PATIENCE)
        return step()

    run.step = waiting
    return inside, go


def busy():
    """Keep the compute thread busy until the event that is returned is set."""
    inside, go = threading.Event(), threading.Event()
    submit(lambda _: inside.set() or go.wait(PATIENCE))
    assert inside.wait(PATIENCE)
    return go
