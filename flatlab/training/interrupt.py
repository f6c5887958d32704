"""Ctrl-C lets the round in flight end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def soft_interrupt(stop: threading.Event, message: Callable[[], str]) -> Iterator[None]:
    """Inside the block the first SIGINT sets `stop`, and KeyboardInterrupt comes at its end; a second one raises it.

    Outside the main thread, which alone gets signals, it does nothing; nor in a process that ignores them, whose parent
    says when to end.

    Raises:
        KeyboardInterrupt: at the end of the block, with `message()`.
    """
    seen = threading.Event()
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(*_: object) -> None:
        if seen.is_set():
            raise KeyboardInterrupt
        seen.set()
        stop.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if seen.is_set():
        raise KeyboardInterrupt(message())
