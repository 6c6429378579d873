"""Small data sets with what people meet in their own data, for the page docs/own_data.md."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from dense_data import CLASSES, SIZE, scene, write_coco, write_masks
from PIL import Image

ROOT = "my_data"  # the folder of every case


class Case(NamedTuple):
    """A section of the page.

    Attributes:
        title: what a user would say.
        text: what is the matter, before the command.
        make: writes the data into a folder.
        arguments: those of ``tools/check_dataset.py``.
        cure: what to do, after the output; "" for nothing.
    """

    title: str
    text: str
    make: Callable[[Path], None]
    arguments: tuple[str, ...] = (ROOT,)
    cure: str = ""


def yolo(root: Path, names: tuple[str, ...] = CLASSES, scale: float = 1.0) -> None:
    """Boxes in text files, their numbers multiplied by ``scale``."""
    for split, number in (("train", 4), ("val", 2)):
        for i in range(number):
            image, masks = scene(i + 10 * number)
            picture(root / f"images/{split}/{i}.png", image)
            lines = [f"{index} {' '.join(f'{v * scale:.4f}' for v in shares(mask))}" for index, mask in masks]
            text(root / f"labels/{split}/{i}.txt", *lines)
    text(root / "data.yaml", "train: images/train", "val: images/val", f"names: [{', '.join(names)}]")


def shares(mask: np.ndarray) -> list[float]:
    """The box of a mask as YOLO has it: centre, width and height, as shares of the image's sides."""
    rows, columns = np.nonzero(mask)
    x, y = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
    return [v / SIZE for v in (x, y, np.ptp(columns) + 1, np.ptp(rows) + 1)]


def labelme(root: Path) -> None:
    """A LabelMe file beside each image, and no split."""
    for i in range(6):
        image, masks = scene(i)
        picture(root / f"{i}.png", image)
        shapes = [
            dict(label=CLASSES[index], shape_type="rectangle", points=[list(map(float, one)) for one in corners(mask)])
            for index, mask in masks
        ]
        content = dict(imagePath=f"{i}.png", imageWidth=SIZE, imageHeight=SIZE, shapes=shapes)
        text(root / f"{i}.json", json.dumps(content))


def corners(mask: np.ndarray) -> list[list[int]]:
    """The upper left and the lower right corner of a mask's box."""
    rows, columns = np.nonzero(mask)
    return [[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]


def deep_images(root: Path) -> None:
    """Grey images of 12 bits in files of 16, which look black in a viewer."""
    yolo(root)
    for path in (root / "images").rglob("*.png"):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
        Image.fromarray(grey * 16).save(path)


def corners_as_boxes(root: Path) -> None:
    """A COCO json whose boxes are x1, y1, x2, y2."""
    coco_with(root, lambda a: a.update(bbox=[*a["bbox"][:2], *(a["bbox"][k] + a["bbox"][k + 2] for k in (0, 1))]))


def apart(root: Path) -> None:
    """Changes a pixel of each validation image, since the scenes of both splits are the same."""
    for path in (one for folder in ("val2017", "images/validation") for one in (root / folder).glob("*.png")):
        pixels = np.asarray(Image.open(path)).copy()
        pixels[:4, :4] = 255
        Image.fromarray(pixels).save(path)


def boxes_alone(root: Path) -> None:
    """A COCO json without segmentations."""
    coco_with(root, lambda a: a.pop("segmentation"))


def coco_with(root: Path, edit: Callable[[dict], object]) -> None:
    """A COCO json in which every annotation is changed."""
    write_coco(root)
    apart(root)
    for path in (root / "annotations").glob("*.json"):
        content = json.loads(path.read_text())
        for annotation in content["annotations"]:
            edit(annotation)
        path.write_text(json.dumps(content))


def binary_masks(root: Path) -> None:
    """Masks of 0 and 255."""
    masks_with(root, lambda labels: np.where(labels == 2, 255, 0).astype(np.uint8))


def colour_masks(root: Path) -> None:
    """RGB masks."""
    palette = np.array([[0, 0, 0], [220, 20, 60], [0, 130, 180], [60, 60, 60]], np.uint8)
    masks_with(root, lambda labels: palette[labels])


def larger_masks(root: Path) -> None:
    """Masks of twice the size of their images."""
    masks_with(root, lambda labels: labels.repeat(2, 0).repeat(2, 1))


def masks_with(root: Path, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    write_masks(root)
    apart(root)
    for path in (root / "annotations").rglob("*.png"):
        Image.fromarray(edit(np.asarray(Image.open(path)))).save(path)


def class_folders(root: Path) -> None:
    """A folder of images for each class, and one picture in both splits."""
    for split in ("train", "val"):
        for index, name in enumerate(("cat", "dog")):
            for i in range(2):
                picture(root / split / name / f"{i}.png", scene(4 * index + 2 * (split == "val") + i)[0])
    shutil.copy(root / "train/cat/0.png", root / "val/cat/again.png")


def turned_photographs(root: Path) -> None:
    """JPEGs with an EXIF orientation, and a json in the frame of the stored pixels."""
    write_coco(root)
    apart(root)
    for path in (root / "annotations").glob("*.json"):
        content = json.loads(path.read_text())
        for image in content["images"]:
            old = path.parent.parent / path.stem.removeprefix("instances_") / image["file_name"]
            exif = Image.Exif()
            exif[0x0112] = 6
            Image.open(old).crop((0, 0, SIZE, 48)).save(old.with_suffix(".jpg"), exif=exif)
            old.unlink()
            image.update(file_name=old.with_suffix(".jpg").name, height=48)
        content["annotations"] = [a | {"segmentation": []} for a in content["annotations"]]
        path.write_text(json.dumps(content))


def picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


DETECTOR = "detection/configs/van/mask_rcnn_van_b2_fpn_1x_coco.py"
SEGMENTER = "segmentation/configs/van/upernet_van_b2_512x512_160k_ade20k.py"
THREE = "classes=[box,disc,ground]"
CASES = [
    Case(
        "I have YOLO labels",
        "Text files beside the images or in `labels`, with data.yaml or without. The folder goes in as it is.",
        yolo,
        cure="A training takes the same folder: `python tools/train.py CONFIG --data my_data`.",
    ),
    Case(
        "AP is 0, or the boxes are too large",
        "COCO's boxes are `[x, y, width, height]`. Here they are `[x1, y1, x2, y2]`.",
        corners_as_boxes,
    ),
    Case(
        "My YOLO boxes are in pixels",
        "YOLO's numbers are shares of the image's sides, from 0 to 1.",
        lambda root: yolo(root, scale=SIZE),
        cure="Divide x and width by the image's width, y and height by its height.",
    ),
    Case(
        "I have one folder, and no validation images",
        "Each image has a LabelMe file here. Pascal VOC, CVAT, COCO, YOLO and a table of boxes are alike.",
        labelme,
        cure="With `--cfg-options val_share=0.2`, or `data_root=my_data data_format=auto val_share=0.2` in a config, a "
        "fifth of the images is taken for validation, as many of each class as can be. Later runs take the same ones.",
    ),
    Case(
        "My images are black",
        "Cameras and microscopes write 12 bits into files of 16.",
        deep_images,
    ),
    Case(
        "I have boxes and no masks",
        "A detector of masks needs outlines.",
        boxes_alone,
        (DETECTOR, "--data", ROOT),
    ),
    Case(
        "The boxes lie beside the objects",
        "Cameras store a photograph as it was held, and say how to turn it. Images are turned upright when they are "
        "read, and these annotations belong to the stored pixels.",
        turned_photographs,
    ),
    Case(
        "My masks are black, and mIoU is 100 or nan",
        "A mask of two classes often has the values 0 and 255, and 255 stands for pixels without a label.",
        binary_masks,
        (SEGMENTER, "--cfg-options", f"data_root={ROOT}", "classes=[ground,disc]", "reduce_zero_label=False"),
        "`--data my_data` makes that legend by itself.",
    ),
    Case(
        "My masks are colours",
        "RGB masks need to know which colour is which class.",
        colour_masks,
        (SEGMENTER, "--cfg-options", f"data_root={ROOT}", THREE),
        "A file with the legend in the folder serves as well, and `--data my_data` finds it.",
    ),
    Case(
        "My masks have another size than the images",
        "Nothing is scaled behind your back.",
        larger_masks,
        (SEGMENTER, "--cfg-options", f"data_root={ROOT}", THREE),
        "Scale the masks with the nearest neighbour, or take the images of that size.",
    ),
    Case(
        "The accuracy is too good",
        "The same picture may be in the training and in the validation.",
        class_folders,
        cure="Pictures of one patient or of one video are alike, too. `val_share=0.2 val_group=patient` keeps those on "
        "one side that have the same text in the column `patient` of a CSV file.",
    ),
]
