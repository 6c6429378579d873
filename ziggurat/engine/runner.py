"""SafeRunner: the overrides of mmengine's Runner that neither a hook nor a config can replace."""

import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.logging import MMLogger
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from backbones.errors import UserError, one_line
from backbones.weights import read_checkpoint, read_own_meta, save_safely
from ziggurat.engine.arguments import names_of
from ziggurat.engine.batch_of_few import lowered_batch
from ziggurat.engine.checkpoints import (
    content_of_run,
    load_published,
    load_state,
    meta_of_run,
    plain_records,
    records_of,
    state_of,
    states_of,
    to_plain_types,
)
from ziggurat.engine.config_text import text_of
from ziggurat.engine.console import plain_record, say_note
from ziggurat.engine.disk_faults import tried_again
from ziggurat.engine.fingerprint import Fingerprint
from ziggurat.engine.loader_workers import WorkerStart, end_loaders, workers_explained
from ziggurat.engine.log_file import prints_to_log, spare
from ziggurat.engine.normalisation import follow_statistics
from ziggurat.engine.other_classes import tell_other_classes
from ziggurat.engine.processes import is_another_gone, pick_device
from ziggurat.engine.saving import Writer, copied, finish_saving, later
from ziggurat.engine.seeding import SeededBatches, SeedHook, seeded_batches, with_seeded_items
from ziggurat.engine.signals import GRACE, Request, Stopped, caught
from ziggurat.engine.structure import settle_structure, write_structure
from ziggurat.engine.unreadable import SHARE, skip_unreadable
from ziggurat.engine.watchdog import note_end
from ziggurat.engine.work_dir import RESUMED, WorkDir
from ziggurat.engine.wrappers import unwrap, wrap


class SafeRunner(Runner):
    """A Runner with safe checkpoint files, a quiet console, and groups of CPU processes.

    ``SafeRunner.from_cfg(cfg)`` takes the config of mmengine's Runner, and one more key: ``device``, "cpu" or "cuda".
    The default is "cuda" if there is a GPU. ``ziggurat.engine.run`` checks a config first, and reports mistakes in one
    line.
    """

    folder: WorkDir | None = None  # the work dir, if ziggurat.engine.run locked it for a training
    start: dict[str, Any] | None = None  # the content of cfg.load_from, from building the model until loading it
    loaded = False  # whether a checkpoint was loaded
    loaders: tuple[DataLoader, ...] = ()  # that this runner built
    writer: Writer | None = None  # writes checkpoints, while a training runs
    data: Fingerprint | None = None  # of the training data, if ziggurat.engine.run built the run
    request: Request | None = None  # the signal that asks to stop, while a training runs

    def train(self) -> nn.Module:
        """Trains, releases the work dir's lock, and returns the trained model.

        Raises:
            Stopped: a signal asked for the end. A checkpoint was saved.
        """
        try:
            with prints_to_log(self), Writer() as self.writer, caught() as self.request, workers_explained():
                return self.train_until_stopped()
        except BaseException as error:
            note_end(self, error)
            raise
        finally:
            self.writer = self.request = None
            if self.folder is not None:
                self.folder.release()

    def train_until_stopped(self) -> nn.Module:
        """Trains. An error after a signal, as when another process is gone already, ends the run as the signal does."""
        try:
            trained = super().train()
            end_loaders(self.loaders)
            return trained
        except BaseException as error:
            end_loaders(self.loaders, lost=True)
            gone = is_another_gone(error)
            if gone:
                self.request.wait(GRACE)
            if gone and not self.request.number:
                raise UserError(f"another process of this training has ended: {one_line(error)}") from error
            if not isinstance(error, Exception) or not self.request.number:
                raise
            reason = "another process of this training has ended" if gone else one_line(error)
            say_note(f"no checkpoint could be saved: {reason}")
            raise Stopped(self.request.number, reason) from error

    def val(self) -> dict[str, Any]:
        """Metrics of the validation set, in Python's own types."""
        with prints_to_log(self), workers_explained():
            found = to_plain_types(super().val())
        end_loaders(self.loaders)
        return found

    def test(self) -> dict[str, Any]:
        """Metrics of the test set, in Python's own types."""
        with prints_to_log(self), workers_explained():
            found = to_plain_types(super().test())
        end_loaders(self.loaders)
        return found

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """A logger whose file gets everything. The console gets errors only, since ProgressHook speaks there."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            handler.addFilter(plain_record)
            if isinstance(handler, logging.FileHandler):
                spare(handler)
            else:
                handler.setLevel(logging.ERROR)
        return logger

    def build_dataloader(
        self, dataloader: DataLoader | dict[str, Any], seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """A loader as mmengine builds it. That of the training set gives every sample its own random numbers."""
        trains = isinstance(dataloader, dict) and dataloader == self.cfg.get("train_dataloader")
        config = seeded_batches(dataloader) if trains else dataloader
        loader = super().build_dataloader(config, seed, diff_rank_seed)
        if trains and (batch := lowered_batch(loader)):
            self.cfg.train_dataloader.batch_size = batch
            smaller = {**seeded_batches({**dataloader, "batch_size": batch}), "dataset": loader.dataset}
            loader = super().build_dataloader(smaller, seed, diff_rank_seed)
        if trains or (self.cfg.get("train_dataloader") and dataloader == self.cfg.get("val_dataloader")):
            skip_unreadable(loader.dataset, self.cfg.get("max_unreadable", SHARE))
        if isinstance(loader.batch_sampler, SeededBatches):
            with_seeded_items(loader.dataset)
        loader.worker_init_fn = WorkerStart(loader)
        self.loaders += (loader,)
        return loader

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Moves the model to this run's device. Several processes get it in the wrapper of ``model_wrapper_cfg``.

        The model first takes the structure of its weights, since DDP and optimisers must see the final parameters.

        Raises:
            UserError: the wrapper is unknown, or cannot be used here.
        """
        if self.cfg.get("load_from"):
            self.start = read_checkpoint(self.cfg.load_from)
        settle_structure(model, self.start, self.is_exact)
        write_structure(self.cfg.get("model"), model)
        device = pick_device(self.cfg.get("device"))
        model = model.to(device)
        if self.distributed and device == "cuda" and self.cfg.get("sync_bn"):
            model = convert_sync_batchnorm(model, self.cfg.sync_bn)
        elif not self.distributed or device == "cpu":
            model = revert_sync_batchnorm(model)
        if not self.distributed:
            return model
        return wrap(model, model_wrapper_cfg or {}, device, self.cfg.get("find_unused_parameters", False))

    @property
    def is_exact(self) -> bool:
        """Whether a checkpoint must hold every tensor: in testing and resuming."""
        return bool(self.cfg.get("resume")) or self.cfg.get("train_dataloader") is None

    def load_checkpoint(
        self, filename: str, map_location: Any = "cpu", strict: bool = False, revise_keys: Any = None
    ) -> dict[str, Any]:
        """Reads a checkpoint onto the CPU without running code from it, and loads its weights.

        Testing and resuming need every tensor. In a training, the head in ``load_from`` may differ, the backbone not.

        Returns:
            The content of the file. A file to resume also has ``meta``, ``optimizer`` and ``message_hub``.

        Raises:
            UserError: the file cannot be read or does not fit, or a file to resume holds weights only.
        """
        content = self.start if self.start is not None and filename == self.cfg.load_from else read_checkpoint(filename)
        self.start = None
        own = read_own_meta(content)
        content = content_of_run(content)
        if self.cfg.get("resume"):
            if not set(content) >= RESUMED:
                raise UserError(f"{filename} holds weights only and cannot be resumed; use --cfg-options load_from=...")
            content["message_hub"] = records_of(content["message_hub"])
            # mmengine would run the text of a config in meta["config"].
            content["meta"] = {name: value for name, value in content["meta"].items() if name != "config"}
        self.call_hook("after_load_checkpoint", checkpoint=content)
        left_out = load_state(self.model, content["state_dict"], filename, exact=strict or self.is_exact, own=own)
        if left_out:
            say_note(f"{filename} does not fit the model everywhere: {left_out}")
        is_test = self.cfg.get("train_dataloader") is None
        if is_test or not hasattr(unwrap(self.model), "class_names"):  # a classifier that trains refuses others itself
            classes = names_of(content, own or {}, filename)
            tell_other_classes(self.cfg, classes, self.classes_of_data(), filename, self.is_exact)
        if self.is_exact:
            follow_statistics(self.model, self.cfg, own, filename)
        self.loaded = True
        self.logger.info(f"loaded {filename}")
        return content

    def classes_of_data(self) -> Sequence[str] | None:
        """The class names of the training data, in a test of the test data; None if there are none."""
        loop = self.test_loop if self.cfg.get("train_dataloader") is None else self.train_loop
        dataset = getattr(getattr(loop, "dataloader", None), "dataset", None)
        return (getattr(dataset, "metainfo", None) or {}).get("classes")

    def load_pretrained(self) -> None:
        """Loads the weights that the model's backbone names as ``pretrained``, for a test without a checkpoint of ours.

        Raises:
            UserError: a tensor of the model is missing in the weights, such as those of a head.
        """
        load_published(unwrap(self.model))
        self.loaded = True

    def load_or_resume(self) -> None:
        """Loads or resumes ``cfg.load_from``, unless ``load_checkpoint`` was called before."""
        if not self.loaded:
            super().load_or_resume()

    @master_only
    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Writes weights, optimiser, schedulers and records in plain types, and renames the file into place.

        Hooks may change the content in ``before_save_checkpoint``. ``after_save_checkpoint`` gets the ``path`` of the
        finished file. A training goes on while a thread writes a copy of the content, and calls that hook.

        Raises:
            UserError: an earlier file could not be written.
        """
        finish_saving(self)
        meta = dict(meta or {})
        meta.setdefault("epoch", self.epoch + by_epoch)
        meta.setdefault("iter", self.iter + (not by_epoch))
        content = self.checkpoint_content(meta, save_optimizer, save_param_scheduler)
        self.call_hook("before_save_checkpoint", checkpoint=content)
        path = Path(out_dir).absolute() / filename
        later(self, tried_again, save_safely, copied(content), path)
        later(self, partial(self.call_hook, "after_save_checkpoint", path=path))

    def checkpoint_content(
        self, meta: dict[str, Any], save_optimizer: bool = True, save_param_scheduler: bool = True
    ) -> dict[str, Any]:
        """What a checkpoint of this moment holds, in plain types. ``meta`` has the finished ``epoch`` and ``iter``."""
        dataset_meta = getattr(self.train_dataloader.dataset, "metainfo", None)
        content = dict(
            meta=dict(
                meta,
                images=next((hook.images for hook in self.hooks if isinstance(hook, SeedHook)), 0),
                cfg=text_of(self.cfg),
                seed=self.seed,
                experiment_name=self.experiment_name,
                time=time.strftime("%Y%m%d_%H%M%S"),
                dataset_meta=dataset_meta,
                data=self.data and self.data._asdict(),
                ziggurat=meta_of_run(self.model, self.cfg, (dataset_meta or {}).get("classes")),
            ),
            state_dict=state_of(self.model),
            message_hub=plain_records(self.message_hub.state_dict()),
        )
        if save_optimizer:
            content["optimizer"] = self.optim_wrapper.state_dict()
        if save_param_scheduler and self.param_schedulers is not None:
            content["param_schedulers"] = states_of(self.param_schedulers)
        return to_plain_types(content)

    def dump_config(self) -> None:
        """Does nothing. ``ziggurat.engine.run`` writes the config of a training after the whole run is built."""
