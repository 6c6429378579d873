"""The options of own data at a config's top level."""

from typing import Any

from backbones.errors import UserError, shown, unknown
from ziggurat.engine.own_data.cache import FOLDER, OwnData, prepare
from ziggurat.engine.own_data.split import SplitOptions
from ziggurat.engine.reading import chosen_reading

# ``data_format`` chooses the reader. Each of these needs it, but for the folder of the caches.
OPTIONS = ("val_share", "val_group", "val_seed", "data_files", "box_units", "data_cache")
UNITS = ("pixels", "shares")


def of_config(cfg: Any) -> OwnData | None:
    """The data that a config names by ``data_root`` and ``data_format``; None without ``data_format``.

    Raises:
        UserError: as ``prepare``; or another option of own data stands without ``data_format``.
    """
    given = [key for key in OPTIONS if cfg.get(key) is not None and key != "data_cache"]
    if cfg.get("data_format") is None:
        if given:
            raise UserError(f"{given[0]} needs data_format; allowed: data_format=auto, or the name of a format")
        return None
    if cfg.get("data_root") is None:
        raise UserError("data_format needs data_root; allowed: data_root=FOLDER")
    units = cfg.get("box_units")
    if units not in (None, *UNITS):
        raise unknown("box_units", units, UNITS)
    cache = cfg.get("data_cache") or FOLDER
    if not isinstance(cache, str):
        raise UserError(f"data_cache={shown(cache)}; allowed: a folder")
    files = cfg.get("data_files")
    return prepare(
        cfg.data_root,
        cfg.data_format,
        split_options(cfg),
        dict(files) if isinstance(files, dict) else files,
        units,
        cache,
        chosen_reading(cfg),
    )


def split_options(cfg: Any) -> SplitOptions | None:
    if cfg.get("val_share") is None:
        for key in ("val_group", "val_seed"):
            if cfg.get(key) is not None:
                raise UserError(f"{key} needs val_share; allowed: val_share=0.2, or another share")
        return None
    options = SplitOptions(cfg.val_share, cfg.get("val_group") or "", cfg.get("val_seed") or 0)
    options.check()
    return options


def check_kind(cfg: Any, split: str, dataset: Any, kind: type | None, is_right: bool, allowed: str) -> None:
    """Raises UserError for a data set of a config that takes no own data.

    Args:
        cfg: the config.
        split: of the data set.
        dataset: its config.
        kind: its class; None for an unknown one.
        is_right: whether it takes own data.
        allowed: the names of the classes that do.
    """
    if not is_right:
        name = kind.__name__ if kind else dataset.get("type")
        raise UserError(
            f"data_format={cfg.data_format}: {split}_dataloader.dataset is {name}; allowed: {allowed}, or "
            "data_format=None"
        )
