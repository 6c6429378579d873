"""Published weights without a training config: the configs that test them as their authors do, and predict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from backbones.errors import UserError
from backbones.registry import arch_of, family_of
from backbones.weights import evaluation_of, read_own_meta
from backbones.weights.source import head_rows, open_source, read_source
from classification.class_maps import IMAGENET_1K, imagenet_1k_rows, known_heads, rows_of_file
from classification.data import ImageFolder, class_folders
from classification.imagenet import synsets
from classification.test_sets import folders_of, metrics_of
from ziggurat.engine.arguments import names_of as names_in
from ziggurat.engine.config import load_config
from ziggurat.engine.formats import class_of
from ziggurat.engine.num_classes import class_names
from ziggurat.engine.places import place_of
from ziggurat.engine.splits import under_root

SCOPE = "mmengine"
CONFIG_FIRST = "allowed: weights of a classifier with their head, or the config of its training before the checkpoint"
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
    settled, outputs = settled_by(weights)
    options, chosen = dict(options), class_names(options.get("classes"))
    options.pop("classes", None)
    if images is not None:
        options |= {"data_root": str(images), "test_dataloader.dataset.folder": "."}
    rows = None if chosen else imagenet_1k_rows().get(outputs)
    if rows is not None:
        settled["model.class_map"], outputs = IMAGENET_1K, len(rows)
    cfg = load_config(BASE, settled | options)
    cfg.work_dir = cfg.get("work_dir") or str(Path("work_dirs/test") / place_of(weights))
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


def predicting_config(weights: str | Path, options: dict[str, Any]) -> tuple[Config, list[str]]:
    """A config whose model is a published classifier, with the preparation of images for prediction.

    Args:
        weights: a name of ``backbones.list_weights()``, a URL, or a file.
        options: as for :func:`testing_config`. ``{"model.class_map": "imagenet1k"}`` takes ImageNet-1K's rows of a
            larger head.

    Returns:
        The completed config, and the names of the model's classes: those in the file, else the WordNet ids of a head
        whose classes are known by their number, else ``class 0`` and so on.

    Raises:
        UserError: as :func:`testing_config`.
    """
    settled, outputs = settled_by(weights)
    options, chosen = dict(options), class_names(options.get("classes"))
    options.pop("classes", None)
    class_map = options.get("model.class_map")
    if class_map is not None:
        outputs = len(synsets()) if class_map == IMAGENET_1K else len(rows_of_file(class_map))
    if chosen is not None and len(chosen) != outputs:
        raise UserError(f"classes has {len(chosen)} names; allowed: {outputs}, one for each output of {weights}")
    content = read_source(None, str(weights), ahead=True)[1]
    found = names_in(dict(content), read_own_meta(content) or {}, str(weights))
    found = found if found is not None and len(found) == outputs else known_heads().get(outputs)
    names = list(chosen or found or [f"class {i}" for i in range(outputs)])
    cfg = load_config(BASE, settled | options)
    cfg.model.num_classes = outputs  # completing the config may have counted folders
    cfg.test_dataloader.dataset.classes = names
    return cfg, names


def settled_by(weights: str | Path) -> tuple[dict[str, Any], int]:
    """The options of a config that weights settle, and the number of outputs of their head.

    Raises:
        UserError: the weights are absent, of no known arch, or without a classifier.
    """
    where, _ = read_source(None, str(weights), ahead=True)
    try:
        arch = arch_of(str(weights))
    except UserError:
        raise UserError(
            f"{where} carries no config and does not hold all tensors of any known arch; {CONFIG_FIRST}"
        ) from None
    outputs = head_rows(open_source(arch, family_of(arch).ARCHS[arch], str(weights), ahead=True))
    if outputs is None:
        raise UserError(f"{weights} carries no config and holds no classifier; {CONFIG_FIRST}")
    prepared = evaluation_of(arch, weights).options()
    settled = {f"test_dataloader.dataset.transform.{name}": value for name, value in prepared.items()}
    return settled | {"model.backbone.arch": arch, "model.backbone.pretrained": str(weights)}, outputs


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
