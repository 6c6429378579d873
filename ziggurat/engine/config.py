"""Configs: reading them with one-line errors, and changing them from the command line."""

import inspect
import traceback
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import load
from mmengine.runner import Runner

from backbones.errors import UserError, one_line, shown, unknown
from backbones.files import is_path
from backbones.images import SUFFIXES
from ziggurat.engine import safe_loading  # noqa: F401  a YAML config is read as data
from ziggurat.engine.arch_option import arch_of, follow_arch, leave_out_foreign, note_kept, typed_statistics
from ziggurat.engine.auto_batch import AUTO
from ziggurat.engine.cli import CONFIG_SUFFIXES, WEIGHT_SUFFIXES, is_safe
from ziggurat.engine.complete import complete
from ziggurat.engine.data_root import follow_data_root, move_data_root
from ziggurat.engine.inherited import check_names, check_options
from ziggurat.engine.named_bases import name_bases
from ziggurat.engine.options import flat, parse_options
from ziggurat.engine.own_data import OPTIONS as OWN_DATA
from ziggurat.engine.project_configs import is_ours, located, unknown_config
from ziggurat.engine.safe_config import check_file, check_model
from ziggurat.engine.training_options import OPTIONS

name_bases()
RUNNER_KEYS = {
    *inspect.signature(Runner.__init__).parameters,
    "activation_checkpointing",
    "compile",
    "custom_imports",
    "efficient_conv_bn_eval",
    "find_unused_parameters",
    "model_wrapper_cfg",
    "sync_bn",
} - {"self", "cfg"}
# Every top-level key that a run reads. mmengine's Runner reads the first group, our completion and tools the others.
READ_KEYS = (
    RUNNER_KEYS
    | {"train_pipeline", "test_pipeline"}
    | {"data_root", "classes", "input_size", "max_unreadable", "reading", "track"}
    | {"reduce_zero_label", "tta_model", "tta_pipeline", "auto_scale_lr"}
    | {"data_format", *OWN_DATA}
    | set(OPTIONS)
)


def load_config(path: str | Path, cfg_options: list[str] | dict[str, Any] | None = None) -> Config:
    """Reads a config, changes it by options, and completes it.

    Args:
        path: a config file. A config of this project is also found by its name, such as
            ``mask_rcnn_van_b2_fpn_1x_coco``, and from other folders by its path in the repository.
        cfg_options: ``["optim_wrapper.optimizer.lr=1e-4", ...]`` or ``{"optim_wrapper.optimizer.lr": 1e-4, ...}``. A
            dot leads into a nested dict.

    Raises:
        UserError: the config is absent (the message has the nearest names) or cannot be read, an option is bad, or the
            config cannot be completed, as in ``ziggurat.engine.complete.complete``. With ``--safe``, or ZIGGURAT_SAFE=1
            in the environment, also if the config is more than data.
    """
    if not isinstance(path, str | Path) or not str(path) or not is_path(str(path)):
        raise UserError(f"the config is {shown(path)}; allowed: the path of a file")
    path = located(Path(path))
    check_is_config(path)
    if is_safe():
        check_file(path)
    try:
        cfg = Config.fromfile(path)
    except UserError:
        raise
    except Exception as error:  # a config is a program, and can raise any error
        raise UserError(f"config {path} cannot be read: {cause_and_place(error)}") from error
    if is_safe():
        check_model(cfg)
    check_names(cfg, path, READ_KEYS)
    follow_data_root(cfg, path)
    options = dict(cfg_options) if isinstance(cfg_options, dict) else parse_options(cfg_options or [])
    if options.get("batch_size", AUTO) != AUTO:
        options["train_dataloader.batch_size"] = options.pop("batch_size")
    if "train_dataloader.batch_size" in flat(options) and cfg.get("batch_size") == AUTO:
        cfg.batch_size = None  # the number that is typed counts
    arch = arch_of(cfg)
    apply_options(cfg, options, path)
    changed = arch_of(cfg) != arch
    typed = typed_statistics(cfg, flat(options)) if changed else []
    if is_ours(path):
        follow_arch(cfg, typed)
        if changed and arch is not None and arch_of(cfg) is not None:
            leave_out_foreign(cfg, arch, flat(options))
    complete(cfg, flat(options))
    if not is_ours(path):
        note_kept(cfg, typed)
    return cfg


def cause_and_place(error: Exception) -> str:
    """An error that a config or one of its imports raised, on one line, with the imported file and line if any.

    mmengine replaces the error of an import by one that lists the folders of ``sys.path``.
    """
    while isinstance(error, ImportError) and isinstance(error.__context__, Exception):
        error = error.__context__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    last = frames[-1]
    imported = Path(last.filename).is_file() and "mmengine" not in Path(last.filename).parts
    return one_line(error) + (f" ({last.filename}, line {last.lineno})" if imported else "")


def check_is_config(path: Path) -> None:
    """Raises UserError for an absent file, and for what is no config: a folder, a checkpoint, an image, a data file."""
    wanted = f"a config is needed here, a file that ends in {', '.join(CONFIG_SUFFIXES)}"
    name = path.name.lower()
    if path.is_dir():
        raise UserError(f"{path} is a folder; {wanted}")
    if not path.is_file():
        raise unknown_config(path)
    if not name.endswith(CONFIG_SUFFIXES):
        kinds = {"a file of weights": WEIGHT_SUFFIXES, "an image": SUFFIXES}
        kind = next((kind for kind, suffixes in kinds.items() if name.endswith(suffixes)), "no config")
        raise UserError(f"{path} is {kind}; {wanted}")
    if not name.endswith(".py") and not describes_run(path):
        raise UserError(f"{path} is no config, since it names neither a model nor a _base_; {wanted}")


def describes_run(path: Path) -> bool:
    """Whether a JSON or YAML file holds a config. Reading the config says what is wrong in a malformed file."""
    try:
        content = load(path)
    except Exception:  # each format's parser has its own errors
        return True
    return isinstance(content, dict) and bool({"model", "_base_"} & set(content))


def apply_options(cfg: Config, options: dict[str, Any], path: Path) -> None:
    options = dict(options)
    known = set(cfg) | READ_KEYS
    for key in options:
        if key.split(".")[0] not in known:
            raise unknown(f"option of {path.name}", key.split(".")[0], sorted(known))
    check_options(flat(options), cfg, path, READ_KEYS)
    if "data_root" in options:
        move_data_root(cfg, str(options.pop("data_root")))
    try:
        cfg.merge_from_dict(options)
    except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
        raise UserError(f"options {', '.join(options)} do not fit {path}: {one_line(error)}") from None
