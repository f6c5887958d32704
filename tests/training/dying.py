"""FedAvg whose process is killed once, inside a round, without a word: no clock and no luck decides when."""

import contextlib
import os
import signal

import flatlab as fl

PLACE, WHEN = "FLATLAB_DIES_AT", 13  # where the death is noted, so that it is the only one; the how manyth client


class Dying(fl.FedAvg):
    """FedAvg, but for the process: nothing of the numbers, and nothing of this module changes."""

    kind: str = "Dying"

    def finish(self, carry, lr):
        place = os.environ.get(PLACE)
        if place and not os.path.exists(place):
            with open(f"{place}.clients", "ab") as file:  # one byte each, of whatever process
                file.write(b".")
                file.flush()
                count = file.tell()
            if count >= WHEN:
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(place, os.O_CREAT | os.O_EXCL))
                    os.kill(os.getpid(), signal.SIGKILL)
        return super().finish(carry, lr)
