"""A store that Ray fills, on one machine or a cluster: Ray Data hands out parts of the images to actors.

An actor holds the network, reads the images of a part, and writes their shards before the part counts as done. Shards
have the number of their part in place of that of a process. An actor that takes up the part of one that was killed
finds what that one wrote under this number, and computes the rest. So no image is lost or there twice.
"""

import logging
import os
import pickle
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from backbones.errors import UserError
from backbones.store import StoreWriter
from backbones.store.layout import import_extra
from backbones.store.lock import InUse
from backbones.store.writer import SHARD_ROWS
from ziggurat.engine.features.network import network_of
from ziggurat.engine.features.run import Counts, about, settings_of, write_features
from ziggurat.engine.features.sources import StoredImage

PARTS_EACH = 4  # for each actor, at least: a part is what an actor does at a time
FAULT = re.compile(r"backbones\.errors\.\w+: (.+)|\w*Error: \[Errno \d+\] (.+)")  # the last line of a traceback
WAIT = 20.0  # seconds
# No reports of usage, and few lines of its own on stderr.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
ONCE = {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # one attempt of 40 seconds for a cluster that is gone
OBJECTS = 256 << 20  # bytes of a local Ray's memory for objects, which are lists of images


class Plan(NamedTuple):
    """What an actor needs to know.

    Attributes:
        network: the arguments of ``network_of``, but the device.
        device: ``"cpu"``, or ``"cuda"`` for the GPU that Ray gives an actor.
        store: the folder, on a disk that all machines see.
        run: a text that the processes of this run have in common.
        dtype: the type of the features, a key of ``backbones.store.writer.DTYPES``.
        rows: the limits of a shard, as for ``StoreWriter``.
        pool, batch_size, workers: as for ``write_features``.
    """

    network: dict[str, Any]
    device: str
    store: str
    run: str
    dtype: str
    rows: dict[str, int]
    pool: str | None
    batch_size: int | None
    workers: int


class Actor:
    """A process of Ray that computes parts.

    Args:
        plan: what it needs to know.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        weights, which = plan.network["weights"], plan.network.get("which")
        self.extractor = network_of(**plan.network, device=plan.device)
        settings = settings_of(self.extractor, weights, plan.pool, plan.dtype, which)
        self.writer = StoreWriter(
            plan.store,
            settings,
            plan.pool is None,
            run=plan.run,
            about=about(self.extractor, weights),
            **plan.rows,
        )

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[int]]:
        """Computes one part. Returns how many images it has with and without features."""
        images = pickle.loads(batch["images"][0])
        self.writer.turn_to(int(batch["part"][0]))
        plan = self.plan
        write_features(self.extractor, images, self.writer, plan.pool, plan.batch_size, plan.workers)
        written = sum(image.name in self.writer.done for image in images)
        return {"written": [written], "unreadable": [len(images) - written]}


def when_free(make: Callable[[], StoreWriter], seconds: float = WAIT) -> StoreWriter:
    """The writer of a store. The actors of a run that was killed hold the store for some seconds more."""
    end = time.monotonic() + seconds
    while True:
        try:
            return make()
        except InUse:
            if time.monotonic() > end:
                raise
        time.sleep(0.5)


def write_on_ray(
    plan: Plan,
    images: Sequence[StoredImage],
    address: str | None,
    actors: int | None,
    step: Callable[[int], Any] = lambda count: None,
) -> Counts:
    """Computes images by actors of Ray. The store is open in this process, too, under the same run.

    Args:
        plan: what actors need to know.
        images: those that the store does not have.
        address: of a cluster, ``"auto"`` for the one that this machine belongs to. None starts Ray here.
        actors: how many; None for as many as there are GPUs, or cores.
        step: is called with the number of images of each part that is done.

    Raises:
        UserError: Ray is missing or cannot be reached, it has too few GPUs, or as for ``write_features``.
    """
    ray = started(address, actors, plan)
    weights = plan.network["weights"]
    if weights is not None and os.path.exists(weights):
        plan = plan._replace(network=plan.network | {"weights": os.path.abspath(weights)})
    try:
        count = count_of(ray.cluster_resources(), plan, actors, is_local=address is None)
        rows = parts_of(images, count, plan.rows.get("shard_rows"))
        data = ray.data.from_items(rows, override_num_blocks=len(rows)) if rows else None
        written = unreadable = 0
        if data is not None:
            data = data.map_batches(
                Actor,
                fn_constructor_args=(plan,),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=count),
                num_cpus=max(1, plan.workers),
                num_gpus=1 if needs_gpu(plan) else 0,
            )
            for row in data.iter_rows():
                written, unreadable = written + row["written"], unreadable + row["unreadable"]
                step(row["written"] + row["unreadable"])
        return Counts(written, unreadable)
    except ray.exceptions.RayError as error:
        if not (fault := fault_of(str(error))):
            raise
        raise UserError(fault) from None
    finally:
        ray.shutdown()


def started(address: str | None, actors: int | None, plan: Plan) -> Any:
    """The module ``ray``, connected to a cluster or to a Ray of its own, which says little."""
    for name, value in (ENVIRONMENT if address is None else ENVIRONMENT | ONCE).items():
        os.environ.setdefault(name, value)
    ray = import_extra("ray", "--engine ray", "ziggurat-vision[ray]")
    import_extra("ray.data", "--engine ray", "ziggurat-vision[ray]")
    how: dict[str, Any] = {"address": address}
    if address is None:
        cores = max(os.cpu_count() or 1, (actors or 1) * max(1, plan.workers))
        how = {"address": "local", "num_cpus": cores, "object_store_memory": OBJECTS, "include_dashboard": False}
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **how)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--ray-address {address}: {reason}; allowed: auto, or the address of a cluster") from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # an error is raised, too
    return ray


def fault_of(message: str) -> str:
    """What a user or a disk did, of an actor's message, which ends in a traceback; "" for other faults."""
    found = FAULT.fullmatch(message.strip().splitlines()[-1])
    return (found[1] or found[2]) if found else ""


def needs_gpu(plan: Plan) -> bool:
    return plan.device != "cpu"


def count_of(resources: dict[str, float], plan: Plan, actors: int | None, is_local: bool) -> int:
    """The number of actors. UserError for more GPUs than there are; a cluster may get more, so any number is right."""
    if needs_gpu(plan):
        gpus = int(resources.get("GPU", 0))
        if not gpus and (is_local or actors is None):
            raise UserError(f"--device is {plan.device}, and Ray has no GPU; allowed: cpu")
        if is_local and actors is not None and actors > gpus:
            raise UserError(f"--ray-workers is {actors}; allowed: integers from 1 to {gpus}, the GPUs of this machine")
        return actors or gpus
    return actors or max(1, int(resources.get("CPU", 1)) // max(1, plan.workers))


def parts_of(images: Sequence[StoredImage], actors: int, most: int | None) -> list[dict[str, Any]]:
    """The images in parts of equal size, of no more than a shard, and some for each actor."""
    size = max(1, min(most or SHARD_ROWS, SHARD_ROWS, -(-len(images) // (PARTS_EACH * actors))))
    starts = range(0, len(images), size)
    # Actors may have another working folder.
    placed = [image._replace(path=os.path.abspath(image.path)) for image in images]
    return [{"part": i, "images": pickle.dumps(placed[at : at + size])} for i, at in enumerate(starts)]
