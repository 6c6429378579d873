"""Tiny data in the formats that people have, written by the tests that read them.

Every format shows the same two scenes, unless it cannot: in ``a.jpg``, 40x30 pixels, a cat in the columns 4 to 13 and
the rows 6 to 25, and in ``b.jpg``, 20x50 pixels, a dog in the columns 10 to 19 and the rows 0 to 9.
"""

import base64
import io
import json

import numpy as np
from PIL import Image

SIZES = {"a": (40, 30), "b": (20, 50)}
CAT, DOG = [4, 6, 10, 20], [10, 0, 10, 10]  # x, y, width, height
NAMES = ("cat", "dog")


def picture(path, size=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (*(size or SIZES[path.stem])[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def outline(box):
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def runs(box, size):
    """Run lengths by COCO's rule, of a box: by columns, from a run of ground on."""
    (x, y, w, h), (width, height) = box, size
    mask = np.zeros((height, width), np.uint8)
    mask[y : y + h, x : x + w] = 1
    ends = np.flatnonzero(np.diff(np.r_[0, mask.flatten("F"), 2]))
    return dict(size=[height, width], counts=np.diff(np.r_[0, ends]).tolist())


def coco_content(**changes):
    """The content of a COCO json of both scenes. ``changes`` go into each annotation; None takes a key out."""
    images = [dict(id=i, file_name=f"{n}.jpg", width=SIZES[n][0], height=SIZES[n][1]) for i, n in enumerate("ab", 1)]
    objects = [
        dict(id=i, image_id=i, category_id=i, bbox=box, area=box[2] * box[3], iscrowd=0, segmentation=[outline(box)])
        for i, box in ((1, CAT), (2, DOG))
    ]
    objects = [{k: v for k, v in (one | changes).items() if v is not None} for one in objects]
    return dict(images=images, annotations=objects, categories=[dict(id=1, name="cat"), dict(id=2, name="dog")])


def coco(root, content=None, split="train", folder=None):
    """``annotations/instances_<split>.json`` and images in the folder ``<split>``."""
    for name in "ab":
        picture(root / (folder or split) / f"{name}.jpg")
    text(root / f"annotations/instances_{split}.json", json.dumps(content or coco_content()))
    return root


def yolo(root, splits=("train", "val"), config=True):
    """``images/<split>``, ``labels/<split>`` and data.yaml. The cat is a box, the dog a polygon."""
    for split in splits:
        for name in "ab":
            picture(root / "images" / split / f"{name}.jpg")
        text(root / "labels" / split / "a.txt", f"0 {9 / 40} {16 / 30} {10 / 40} {20 / 30}")
        text(root / "labels" / split / "b.txt", "1 0.5 0 1 0 1 0.2 0.5 0.2")
    if config:
        text(root / "data.yaml", *(f"{split}: images/{split}" for split in splits), "nc: 2", "names: [cat, dog]")
    return root


def voc_xml(name, label, box, difficult=0, first=1, size=True):
    (x, y, w, h), (width, height) = box, SIZES[name]
    corners = dict(xmin=x + first, ymin=y + first, xmax=x + w, ymax=y + h)
    inside = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
    sizes = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>" if size else ""
    return (
        f"<annotation>\n<filename>{name}.jpg</filename>{sizes}\n"
        f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox>{inside}</bndbox></object>\n</annotation>"
    )


def voc(root, first=1):
    """VOC's own layout: ``a`` is for training, ``b`` for validation."""
    for name, label, box, split in (("a", "cat", CAT, "train"), ("b", "dog", DOG, "val")):
        picture(root / f"JPEGImages/{name}.jpg")
        text(root / f"Annotations/{name}.xml", voc_xml(name, label, box, first=first))
        text(root / f"ImageSets/Main/{split}.txt", name)
    return root


def shape(label, kind, points, **more):
    return dict(label=label, shape_type=kind, points=points, flags={}, **more)


def png_of(mask):
    file = io.BytesIO()
    Image.fromarray(np.asarray(mask, np.uint8) * 255).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def labelme_file(root, split, name, shapes):
    picture(root / split / f"{name}.jpg")
    width, height = SIZES[name]
    content = dict(version="5.5.0", flags={}, shapes=shapes, imagePath=f"{name}.jpg", imageData=None)
    text(root / split / f"{name}.json", json.dumps(content | dict(imageHeight=height, imageWidth=width)))


def labelme(root):
    for split in ("train", "val"):
        labelme_file(root, split, "a", [shape("cat", "rectangle", [[14, 26], [4, 6]])])
        labelme_file(root, split, "b", [shape("dog", "polygon", [[10, 0], [20, 0], [20, 10], [10, 10]])])
    return root


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
<version>1.1</version>
<meta><task><labels><label><name>dog</name></label><label><name>cat</name></label></labels></task></meta>
<image id="0" name="a.jpg" width="40" height="30">
<box label="cat" source="manual" occluded="0" xtl="4.0" ytl="6.0" xbr="14.0" ybr="26.0" z_order="0"></box>
<polyline label="cat" points="1,1;5,5"></polyline>
</image>
<image id="1" name="b.jpg" width="20" height="50">
<polygon label="dog" points="10,0;20,0;20,10;10,10"></polygon>
<mask label="dog" rle="1, 2, 1, 2" left="3" top="20" width="3" height="2"></mask>
</image>
</annotations>"""


def cvat(root, content=CVAT):
    for split in ("train", "val"):
        for name in "ab":
            picture(root / split / f"images/{name}.jpg")
        text(root / split / "annotations.xml", content)
    return root


def boxes_csv(root):
    for name in "ab":
        picture(root / f"images/{name}.jpg")
    for split in ("train", "val"):
        text(
            root / f"{split}.csv",
            "filename,width,height,class,xmin,ymin,xmax,ymax",
            "a.jpg,40,30,cat,4,6,14,26",
            "b.jpg,20,50,dog,10,0,20,10",
        )
    return root


WRITERS = dict(
    coco=lambda root: coco(coco(root), split="val"),
    yolo=yolo,
    voc=voc,
    labelme=labelme,
    cvat=cvat,
    boxes_csv=boxes_csv,
)
