"""How the processes of one run share the images without talking to each other."""

import os
import secrets
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from backbones.errors import UserError
from ziggurat.engine.features.sources import StoredImage
from ziggurat.engine.processes import end_with_parent, slurm_to_torch_env

RUN = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_STEP_ID")


class Process(NamedTuple):
    """A process of a run.

    Attributes:
        rank: its number, from 0.
        count: number of processes.
        run: a text that the processes of a run have in common.
    """

    rank: int
    count: int
    run: str

    def share(self, images: Sequence[StoredImage]) -> list[StoredImage]:
        """The images of this process: those whose name has its remainder.

        The name alone decides. So the shares are right although each process lists the images on its own, while others
        write, and files are added.
        """
        if self.count == 1:
            return list(images)
        return [image for image in images if zlib.crc32(image.name.encode()) % self.count == self.rank]


def this_process(launcher: str) -> Process:
    """What the variables of torchrun or srun say of this process.

    Args:
        launcher: ``"none"``, ``"pytorch"`` (torchrun's variables) or ``"slurm"`` (srun's).

    Raises:
        UserError: the launcher's variables are absent.
    """
    if launcher == "none":
        return Process(0, 1, secrets.token_hex(8))
    if launcher == "slurm":
        slurm_to_torch_env()
    else:
        end_with_parent()
    try:
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        raise UserError(f"--launcher {launcher}: RANK and WORLD_SIZE are not set; start with torchrun") from None
    # Processes that torchrun starts again belong to the run: they must not remove what it wrote.
    return Process(rank, count, " ".join(os.environ.get(name, "") for name in RUN))


def device_of(device: str, launcher: str) -> str:
    """The GPU of this process, if ``device`` is ``"cuda"`` and a launcher started it."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" and launcher != "none" else device
