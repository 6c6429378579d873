"""A config's ``_base_`` may be the name of a config of this project. mmengine alone takes paths."""

from functools import wraps
from pathlib import Path

from mmengine.config import Config

from backbones.errors import UserError
from ziggurat.engine.project_configs import config_named, refuse_mistyped


def name_bases() -> None:
    """Lets mmengine's ``Config`` find a base by its name, where no file beside the config has that path."""
    if not hasattr(Config._get_cfg_path, "__wrapped__"):
        Config._get_cfg_path = staticmethod(by_name(Config._get_cfg_path))


def by_name(find):
    """A form of mmengine's ``_get_cfg_path`` that knows names."""

    @wraps(find)
    def found(cfg_path: str, filename: str) -> tuple[str, str | None]:
        named = config_named(cfg_path) if isinstance(cfg_path, str) else None
        if isinstance(cfg_path, str) and not Path(filename).parent.joinpath(cfg_path).is_file():
            if named is not None:
                return str(named), None
            try:
                refuse_mistyped(cfg_path)
            except UserError as error:
                raise UserError(f"_base_ of {filename}: {error}") from None
        return find(cfg_path, filename)

    return found
