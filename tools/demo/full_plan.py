"""The cells of `make demo-full`: a head and a network each, and the options of its short training."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from full_heads import CLASSIFIER, DIGITS, HEADS, Head

from backbones import FAMILIES, UserError, list_archs
from backbones.errors import shorten
from backbones.registry import family_of

ROOT = Path(__file__).resolve().parents[2]
SIDE = 128  # pixels of a scene
DIGIT_SIDE = 32  # pixels of a single digit
BATCH = 4
SCORED = 40  # validation scenes
WINDOW = 10  # iterations that a logged loss is the mean of
META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
LOAD = {"type": "LoadImageFromFile"}
RESIZE = {"type": "Resize", "scale": (SIDE, SIDE), "keep_ratio": True}  # no mirroring: a mirrored 2 is no digit
LOADER = {"num_workers": 0, "persistent_workers": False}
SMALLEST = tuple(next(iter(family.ARCHS)) for family in FAMILIES)


@dataclass(frozen=True)
class Cell:
    """A head on a network."""

    head: str  # a key of HEADS
    arch: str

    @property
    def name(self) -> str:
        return f"{self.head}-{self.arch}"


def plan(heads: list[str], archs: list[str]) -> list[Cell]:
    """The cells of the heads and archs that match patterns (fnmatch), arch by arch.

    A family has a cell of a head if it has a leaf of the head. The first cell of an arch is its classifier, since the
    others start from its weights. No pattern of archs means the smallest arch of each family.

    Raises:
        UserError: a pattern matches nothing, or no cell is left.
    """
    chosen_heads = chosen(heads or ["*"], list(HEADS), "--heads")
    chosen_archs = chosen(archs, list_archs(), "--archs") if archs else list(SMALLEST)
    cells: list[Cell] = []
    for arch in chosen_archs:
        found = [cell for cell in (Cell(head, arch) for head in chosen_heads if head != CLASSIFIER) if leaf_of(cell)]
        if found or CLASSIFIER in chosen_heads:
            cells += [Cell(CLASSIFIER, arch), *found]
    if not cells:
        raise UserError(f"--heads {' '.join(heads)}: no family of {shorten(chosen_archs)} has a leaf of it")
    return cells


def chosen(patterns: list[str], names: list[str], option: str) -> list[str]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(f"{option} {pattern}: matches nothing; allowed: patterns of {shorten(names, len(names))}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def leaf_of(cell: Cell) -> Path | None:
    """The leaf of the head with the smallest arch of the family, relative to the repository. None if there is none."""
    if cell.head == CLASSIFIER:
        return Path("classification/configs/demo/van_b0_digits.py")
    head, family = HEADS[cell.head], family_of(cell.arch)
    folder = ROOT / head.task / "configs" / family.__name__.lower()
    for arch in family.ARCHS:
        for path in sorted(folder.glob(f"{head.leaf}_{arch}_*.py")):
            if path.stem.endswith(head.ending):
                return path.relative_to(ROOT)
    return None


def options_of(cell: Cell, data: Path, weights: Path | None, iterations: int) -> dict[str, Any]:
    """What the demo's data and a short training change in the cell's leaf, as options with dotted keys.

    ``weights`` is the checkpoint of the arch's classifier. The classifier itself has None, and starts at random.
    """
    head = HEADS[cell.head]
    options = {"model.backbone.arch": cell.arch, "randomness": {"seed": 0}, "log_processor.window_size": WINDOW}
    options |= {"default_hooks.logger.interval": WINDOW, "visualizer.vis_backends": [{"type": "LocalVisBackend"}]}
    options |= {f"{split}_dataloader.{key}": value for split in ("train", "val") for key, value in LOADER.items()}
    if cell.head == CLASSIFIER:
        return options | classification(data)
    options |= {"model.backbone.pretrained": str(weights), "model.backbone.drop_path_rate": 0.0}
    options |= {"val_dataloader.batch_size": BATCH, "val_dataloader.dataset.indices": SCORED}
    by_task = {"detection": detection, "segmentation": segmentation}
    return options | by_task[head.task](head, data) | head.options | schedule(head, iterations)


def as_text(options: dict[str, Any]) -> list[str]:
    """The options as ``--cfg-options`` takes them."""
    return [f"{key}={v if isinstance(v, str) else repr(v).replace(chr(39), chr(34))}" for key, v in options.items()]


def schedule(head: Head, iterations: int) -> dict[str, Any]:
    """A warm-up, then a cosine to zero; a test follows, so nothing is validated; one checkpoint, at the end."""
    loop = {"type": "IterBasedTrainLoop", "max_iters": iterations, "val_begin": iterations + 1}
    return {
        "train_dataloader.batch_size": BATCH,
        "train_cfg": {"_delete_": True, **loop},
        "optim_wrapper.optimizer.lr": head.rate,
        "optim_wrapper.clip_grad": {"max_norm": head.clip},
        "param_scheduler": [
            {"type": "LinearLR", "start_factor": 0.02, "by_epoch": False, "begin": 0, "end": WINDOW},
            {"type": "CosineAnnealingLR", "eta_min": 0.0, "by_epoch": False, "begin": 0, "end": iterations},
        ],
        "default_hooks.checkpoint": {"by_epoch": False, "interval": iterations, "save_optimizer": False},
        "log_processor.by_epoch": False,
    }


def classification(data: Path) -> dict[str, Any]:
    return {
        "data_root": str(data / "digits"),
        "train_dataloader.dataset.transform.input_size": DIGIT_SIDE,
        "val_dataloader.dataset.transform.input_size": DIGIT_SIDE,
        "train_cfg.max_epochs": 1,
        "train_cfg.val_begin": 2,
        "param_scheduler.1.end": 1,
    }


def detection(head: Head, data: Path) -> dict[str, Any]:
    if head.data == "panoptic":
        annotations = {"type": "LoadPanopticAnnotations", "with_bbox": True, "with_mask": True, "with_seg": True}
    else:
        annotations = {"type": "LoadAnnotations", "with_bbox": True, "with_mask": head.data == "masks"}
    pack = {"type": "PackDetInputs", "meta_keys": META_KEYS}
    return {
        "data_root": str(data / "coco"),
        "train_dataloader.sampler.type": "InfiniteSampler",
        "train_dataloader.batch_sampler": None,
        "train_dataloader.dataset.pipeline": [LOAD, annotations, RESIZE, {"type": "PackDetInputs"}],
        "val_dataloader.dataset.pipeline": [LOAD, RESIZE, pack],
    }


def segmentation(head: Head, data: Path) -> dict[str, Any]:
    masks, pack = {"type": "LoadMask"}, {"type": "PackSegInputs"}
    return {
        "data_root": str(data / "ade"),
        "classes": ["background", *DIGITS],
        "model.data_preprocessor.size": (SIDE, SIDE),
        "train_dataloader.dataset.pipeline": [LOAD, masks, RESIZE, pack],
        "val_dataloader.dataset.pipeline": [LOAD, RESIZE, masks, pack],
    }
