"""What keeps tests right on a busy or strange machine: they wait for what must come, and take ports that stay free."""

import contextlib
import os
import socket
import time

PATIENCE = 150.0  # seconds; what hangs fails all the same


def until(condition, seconds=PATIENCE, process=None):
    """Waits until `condition()` holds; a process that ends before makes it fail at once, with what it said."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        assert process is None or process.poll() is None, process.communicate()[1]
        time.sleep(0.03)


def free_port():
    """A port for a process to be started: below those that systems hand to whoever asks for any."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")
