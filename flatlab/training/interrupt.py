"""Ctrl-C lets the round in flight end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def soft_interrupt(stop: threading.Event) -> Iterator[threading.Event]:
    """Inside the block the first SIGINT sets `stop` and the event yielded; a second one raises KeyboardInterrupt.

    Outside the main thread, which alone gets signals, it does nothing; nor in a process that ignores them, whose parent
    says when to end.
    """
    seen = threading.Event()
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored or threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def handle(*_: object) -> None:
        if seen.is_set():
            raise KeyboardInterrupt
        seen.set()
        stop.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
