"""The target of own annotations: YOLO's text files, Pascal VOC, LabelMe, CVAT and a CSV of boxes, with odd values."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from random import Random

from fuzz_odd import Wrong, mutated
from PIL import Image

from ziggurat.engine.own_data import prepare

WIDTH, HEIGHT = 48, 40
FILES: dict[str, dict[str, str]] = {
    "yolo": {
        "data.yaml": "train: images\nval: images\nnc: 2\nnames:\n  0: cat\n  1: dog\n",
        "labels/a.txt": "0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.4 0.1 0.4 0.5\n",
    },
    "voc": {
        "images/a.xml": "<annotation><filename>a.png</filename><size><width>48</width><height>40</height></size>"
        "<object><name>cat</name><difficult>0</difficult><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax>"
        "<ymax>30</ymax></bndbox></object></annotation>",
    },
    "labelme": {
        "images/a.json": json.dumps(
            dict(
                version="5.0.1",
                flags={},
                shapes=[
                    dict(label="cat", points=[[3, 4], [20, 30]], shape_type="rectangle", group_id=None, flags={}),
                    dict(label="dog", points=[[3, 4], [20, 4], [20, 30]], shape_type="polygon", group_id=1, flags={}),
                    dict(label="dog", points=[[20, 20], [20, 30]], shape_type="circle", group_id=None, flags={}),
                ],
                imagePath="a.png",
                imageData=None,
                imageHeight=HEIGHT,
                imageWidth=WIDTH,
            )
        ),
    },
    "cvat": {
        "annotations.xml": '<annotations><version>1.1</version><image id="0" name="a.png" width="48" height="40">'
        '<box label="cat" occluded="0" xtl="3" ytl="4" xbr="20" ybr="30" z_order="0"/>'
        '<polygon label="dog" occluded="0" points="3,4;20,4;20,30" z_order="0"/>'
        '<mask label="cat" rle="2, 3, 4" left="3" top="4" width="3" height="3" z_order="0"/></image></annotations>',
    },
    "boxes_csv": {
        "boxes.csv": "image,class,xmin,ymin,xmax,ymax\nimages/a.png,cat,3,4,20,30\nimages/b.png,dog,1,1,9,9\n"
    },
}
ODD = ["", "-1", "0", "1e400", "nan", "1e9", "9" * 400, "x", "é", "\x00", "../../x", "0.5 0.5", "[", "<", "&x;", "null"]


class OwnData:
    """One file of annotations of some format is changed. The data are read, or refused.

    Args:
        folder: a folder to write to.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        for name, files in FILES.items():
            for image in "ab":
                path = folder / name / f"images/{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (WIDTH, HEIGHT), (90, 40, 10)).save(path)
            for file in files:
                self.run((name, file, files[file].encode()))  # the right file is taken

    def make(self, rng: Random) -> tuple[str, str, bytes]:
        name = rng.choice(list(FILES))
        file = rng.choice(list(FILES[name]))
        text = FILES[name][file]
        if rng.random() < 0.3:
            return name, file, mutated(rng, text.encode())
        words = list(re.finditer(r"[\w.-]+", text))
        for word in sorted(rng.sample(words, rng.choice((1, 1, 2))), key=lambda found: -found.start()):
            text = text[: word.start()] + rng.choice(ODD) + text[word.end() :]
        return name, file, text.encode(errors="surrogatepass")

    def run(self, given: tuple[str, str, bytes]) -> None:
        name, file, content = given
        root, cache = self.folder / name, self.folder / "cache"
        for other, text in FILES[name].items():
            (root / other).parent.mkdir(exist_ok=True)
            (root / other).write_bytes(content if other == file else text.encode())
        shutil.rmtree(cache, ignore_errors=True)
        with contextlib.redirect_stderr(io.StringIO()):
            found = prepare(root, name, cache=cache)
        for path in found.files.values():
            check(json.loads(path.read_text()))


def check(content: dict) -> None:
    """Raises ``Wrong`` for an object of no class or image, or whose box or area is not finite."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    classes = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in sizes or annotation["category_id"] not in classes:
            raise Wrong(f"an object of no image or class: {annotation}")
        if not all(abs(value) < 1 << 53 for value in [*annotation["bbox"], annotation["area"]]):
            raise Wrong(f"an object that is not finite: {annotation}")
