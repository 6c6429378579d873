"""Published weights without a training config: the config that tests them as their authors do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from backbones.errors import UserError
from backbones.registry import arch_of, family_of
from backbones.weights import evaluation_of
from backbones.weights.source import head_rows, open_source
from classification.class_maps import IMAGENET_1K, imagenet_1k_rows
from classification.data import ImageFolder, class_folders
from classification.imagenet import synsets
from classification.test_sets import folders_of, metrics_of
from engine.config import load_config
from engine.formats import class_of
from engine.num_classes import class_names
from engine.splits import under_root

SCOPE = "mmengine"
BASE = Path(__file__).parent / "configs/_base_/testing.py"


def testing_config(
    weights: str | Path, options: dict[str, Any], images: str | Path | None = None
) -> tuple[Config, list[str]]:
    """A config whose model is a published classifier, and whose test images are prepared as its authors do.

    Size, crop ratio and interpolation follow the weights' row of the table, else the family. So do mean and std.

    Args:
        weights: a name of ``backbones.list_weights()``, a URL, or a file.
        options: changes of the config, ``{"data_root": "/data/imagenet"}``. ``classes`` names the outputs in order.
        images: the folder that holds the class folders. None takes ``val`` in ``data_root``.

    Returns:
        The completed config, and the names of the model's classes. These are ImageNet's WordNet ids for 1000 outputs,
        and for the larger heads of which ``imagenet_1k_rows`` knows the rows of these classes. Another number of
        outputs takes the names of as many class folders, sorted, as most trainers do.

    Raises:
        UserError: the weights are absent, of no known arch, or without a classifier; an option is bad; or the class
            folders do not tell which class they stand for.
    """
    arch = arch_of(str(weights))
    outputs = head_rows(open_source(arch, family_of(arch).ARCHS[arch], str(weights), ahead=True))
    if outputs is None:
        raise UserError(f"{weights} holds no classifier and cannot be tested; allowed: weights with their head")
    options, chosen = dict(options), class_names(options.get("classes"))
    options.pop("classes", None)
    if images is not None:
        options |= {"data_root": str(images), "test_dataloader.dataset.folder": "."}
    settled = {f"test_dataloader.dataset.transform.{k}": v for k, v in evaluation_of(arch, weights).options().items()}
    settled |= {"model.backbone.arch": arch, "model.backbone.pretrained": str(weights)}
    rows = None if chosen else imagenet_1k_rows().get(outputs)
    if rows is not None:
        settled["model.class_map"], outputs = IMAGENET_1K, len(rows)
    cfg = load_config(BASE, settled | options)
    cfg.work_dir = cfg.get("work_dir") or str(Path("work_dirs") / "test" / Path(weights).name)
    cfg.model.num_classes = outputs  # completing the config has counted the folders
    dataset = cfg.test_dataloader.dataset
    kind = class_of(dataset, SCOPE)
    if kind is not None and issubclass(kind, ImageFolder):
        root = under_root(dataset, dataset.folder)
        names = names_of(weights, outputs, root, chosen)
        dataset.classes = folders_of(root, names)
    else:
        names = dataset.classes = list(chosen or (synsets() if outputs == len(synsets()) else dataset.classes))
    for metric in metrics_of(cfg) if rows and None in rows else ():
        metric.subset = [index for index, row in enumerate(rows) if row is not None]
    return cfg, names


def names_of(weights: str | Path, outputs: int, root: Path, chosen: Sequence[str] | None) -> list[str]:
    """The names of the classes of published weights, in the order of the outputs; arguments as above.

    Raises:
        UserError: ``chosen`` has another number of names, or the folders in ``root`` do not name the classes.
    """
    if chosen is not None:
        if len(chosen) != outputs:
            raise UserError(f"classes has {len(chosen)} names; allowed: {outputs}, one for each output of {weights}")
        return list(chosen)
    found = class_folders(root)
    is_imagenet = outputs == len(synsets())
    if is_imagenet and any(name in synsets() or name.isdecimal() for name in found):
        return list(synsets())
    if len(found) == outputs:
        return found
    wanted = "ImageNet's folders, n01440764 and so on, or 0 to 999" if is_imagenet else f"{outputs} class folders"
    raise UserError(
        f"{weights} has {outputs} outputs, and {root} {len(found)} class folders, such as {found[0]}; allowed: "
        f"{wanted}, or --cfg-options 'classes=[...]' with the name of each output in order"
    )
