"""Refuses a mix of OpenMMLab packages and their maintained onedl-* forks. They overwrite each other's files."""

from importlib.metadata import distributions

from backbones.errors import UserError

# Import name -> the distributions that install it, the maintained one first.
PROVIDERS = {
    "mmengine": ("onedl-mmengine", "mmengine", "mmengine-lite"),
    "mmcv": ("onedl-mmcv", "mmcv", "mmcv-lite", "mmcv-full"),
    "mmdet": ("onedl-mmdetection", "mmdet"),
    "mmseg": ("onedl-mmsegmentation", "mmsegmentation"),
}


def check(installed: set[str] | None = None) -> None:
    """Raises UserError if distributions of OpenMMLab and of the forks, or two of one package, are installed together.

    Args:
        installed: names of the installed distributions; those of this interpreter by default.
    """
    if installed is None:
        installed = {d.metadata["Name"].lower().replace("_", "-") for d in distributions() if d.metadata["Name"]}
    found = [name for names in PROVIDERS.values() for name in names if name in installed]
    maintained = [name for name in found if name.startswith("onedl-")]
    original = [name for name in found if name not in maintained]
    twice = any(len(installed.intersection(names)) > 1 for names in PROVIDERS.values())
    if (maintained and original) or twice:
        raise UserError(
            f"installed together: {', '.join(found)}; they overwrite each other's files. "
            f"Cure: pip uninstall {' '.join(found)}, then install this project's requirements again"
        )
