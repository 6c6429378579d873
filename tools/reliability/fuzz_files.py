"""Targets that are files: checkpoints, images, masks."""

import io
import json
import os
import struct
import warnings
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from fuzz_odd import Wrong, changed_tree, mutated
from PIL import Image

from backbones import FeatureExtractor, UserError, create_backbone, load_weights
from backbones.errors import Notice
from backbones.images import read_image, upright_size
from backbones.plain_files import check_image
from backbones.weights import own_meta, read_checkpoint, save_safely, statistics
from detection.data import LoadImageFromFile as DetectionLoader
from segmentation.data import LoadImageFromFile as SegmentationLoader
from segmentation.data import LoadMask, read_mask
from ziggurat.engine.checkpoints import content_of_run

SMALL = dict(arch="van_b0", out_indices=(0,))  # a network whose file is small


class Checkpoints:
    """Damaged .pth and .safetensors files: of our own with checksums, and bare ones. The network must get no values
    but those that were saved."""

    def __init__(self, folder: Path):
        self.folder = folder
        torch.manual_seed(0)
        net = create_backbone(**SMALL)
        self.saved = {name: value.clone() for name, value in net.state_dict().items()}
        own = {"ziggurat": own_meta(net, [0.5] * 3, [0.25] * 3, "classification", ["a", "b"], {"model": {"x": (1, 2)}})}
        save_safely({"state_dict": self.saved, "meta": own | {"epoch": 1, "iter": 2}}, folder / "own.pth")
        save_safely(self.saved | {"meta": own}, folder / "own.safetensors")
        torch.save(self.saved, folder / "bare.pth")
        self.files = {path.name: path.read_bytes() for path in sorted(folder.glob("*.*"))}

    def make(self, rng: Random) -> tuple[str, bytes]:
        name = rng.choice(list(self.files))
        data = self.files[name]
        if rng.random() < 0.4:
            data = (edited_header if name.endswith(".safetensors") else edited_pickle)(rng, data)
            if data == self.files[name]:
                data = mutated(rng, data)
        else:
            data = mutated(rng, data)
        return name, data

    def run(self, given: tuple[str, bytes]) -> None:
        name, data = given
        path = self.folder / f"given_{name}"
        path.write_bytes(data)
        net = create_backbone(**SMALL)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", Notice)
            load_weights(net, path)
            statistics("van_b0", path)
        told = any(issubclass(one.category, Notice) for one in told)
        # The pickle of a bare file has no checksum. Its other parts have those of the zip archive.
        if not told and name != "bare.pth":
            for key, value in net.state_dict().items():
                if not torch.equal(value, self.saved[key]):
                    raise Wrong(f"{key} has other values than were saved")
        content_of_run(read_checkpoint(path))


def edited_header(rng: Random, data: bytes) -> bytes:
    """A .safetensors file whose header, which is JSON, has a value changed."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json.dumps(changed_tree(rng, json.loads(data[8 : 8 + size])), default=list).encode()
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def edited_pickle(rng: Random, data: bytes) -> bytes:
    """A .pth file whose pickle is damaged. All checksums of the archive are right."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for part in old.infolist():
            content = old.read(part)
            if part.filename.endswith("data.pkl"):
                content = mutated(rng, content)
            new.writestr(part.filename, content)
    return made.getvalue()


def sample_images() -> dict[str, bytes]:
    """Small images of many formats and kinds of pixels, by name."""
    rows = np.random.default_rng(0).integers(0, 255, (40, 48, 3), np.uint8)
    rows[5:30, 5:30] //= 4
    rgb, grey = Image.fromarray(rows), Image.fromarray(rows[..., 0])
    turned = Image.Exif()
    turned[0x0112] = 6
    depth = Image.fromarray(rows[..., 0].astype(np.uint16) * 256)
    floats = Image.fromarray(rows[..., 0].astype(np.float32) / 255)
    alpha = Image.fromarray(np.dstack([rows, rows[..., :1]]))
    kinds = {
        "rgb.png": (rgb, {}),
        "grey.png": (grey, {}),
        "palette.png": (rgb.convert("P"), {"transparency": 3}),
        "alpha.png": (alpha, {}),
        "depth.png": (depth, {}),
        "turned.png": (rgb, {"exif": turned}),
        "bits.png": (grey.convert("1"), {}),
        "rgb.jpg": (rgb, {}),
        "grey.jpg": (grey, {}),
        "turned.jpg": (rgb, {"exif": turned}),
        "progressive.jpg": (rgb, {"progressive": True}),
        "cmyk.jpg": (rgb.convert("CMYK"), {}),
        "rgb.webp": (rgb, {}),
        "lossless.webp": (alpha, {"lossless": True}),
        "rgb.tiff": (rgb, {}),
        "lzw.tiff": (rgb, {"compression": "tiff_lzw"}),
        "jpeg.tiff": (rgb, {"compression": "jpeg"}),
        "floats.tiff": (floats, {}),
        "depth.tiff": (depth, {}),
        "rgb.bmp": (rgb, {}),
        "palette.bmp": (rgb.convert("P"), {}),
        "rgb.gif": (rgb, {}),
        "turned.tiff": (rgb, {"exif": turned}),
        "inks.tiff": (rgb.convert("CMYK"), {}),
        "moving.png": (rgb, {"save_all": True, "append_images": [alpha]}),
        "rgb.avif": (rgb, {}),
        "rgb.jp2": (rgb, {}),
        "rgb.ppm": (rgb, {}),
    }
    made = {}
    for name, (image, options) in kinds.items():
        stream = io.BytesIO()
        kind = {"jpg": "jpeg", "jp2": "jpeg2000"}.get(name.split(".")[1], name.split(".")[1])
        image.save(stream, kind, **options)
        made[name] = stream.getvalue()
    stream = io.BytesIO()
    np.save(stream, rows)
    return {**made, "array.npy": stream.getvalue()}


SPECIAL = ("fifo", "folder", "loop", "zero", "absent", "empty", "eps")  # what is no file of an image, named x.jpg


class Images:
    """Damaged images, for every reader. All refuse the same files, and give the same pixels."""

    def __init__(self, folder: Path):
        self.folder, self.images = folder, sample_images()
        self.extractor = FeatureExtractor(**SMALL)
        self.loaders = [DetectionLoader(), SegmentationLoader()]

    def make(self, rng: Random) -> tuple[str, bytes | None]:
        if rng.random() < 0.02:
            return rng.choice(SPECIAL), None
        name = rng.choice(list(self.images))
        return name, mutated(rng, self.images[name])

    def run(self, given: tuple[str, bytes | None]) -> None:
        # A damaged header can declare a size that is large and allowed. Five readers need a minute for its pixels.
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, 2_000_000
        try:
            self.read_by_all(given)
        finally:
            Image.MAX_IMAGE_PIXELS = before

    def read_by_all(self, given: tuple[str, bytes | None]) -> None:
        name, data = given
        path = self.folder / f"given_{name}" if data is not None else special(self.folder, name)
        if data is not None:
            path.write_bytes(data)
        pixels, refusal = np.zeros(0), None
        try:
            pixels = np.asarray(read_image(path))
        except UserError as error:
            refusal = error
        for load in self.loaders:
            task = type(load).__module__
            try:
                found = load(dict(img_path=str(path)))["img"]
            except UserError as error:
                if refusal is None:
                    raise Wrong(f"read_image takes what the loader of {task} refuses: {error}") from None
                continue
            if refusal is not None:
                raise Wrong(f"the loader of {task} takes what read_image refuses: {refusal}")
            if not np.array_equal(found[..., ::-1], pixels):
                raise Wrong(f"the loader of {task} gives other pixels than read_image")
        size = accepted(upright_size, path)
        accepted(check_image, path)
        if refusal is not None:
            raise refusal
        if size != (pixels.shape[1], pixels.shape[0]):
            raise Wrong(f"upright_size is {size}, and the image has {pixels.shape[1]}x{pixels.shape[0]}")
        self.extractor.prepare(path)


def accepted(read: Any, path: Path) -> Any:
    """What ``read`` gives; None for a refusal."""
    try:
        return read(path)
    except UserError:
        return None


def special(folder: Path, kind: str) -> Path:
    """A path of something else than a file with pixels."""
    path = folder / f"{kind}.jpg"
    if kind == "fifo" and not path.exists():
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir(exist_ok=True)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "eps":
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n")
    elif kind in ("loop", "zero") and not path.is_symlink():
        path.symlink_to(path.name if kind == "loop" else "/dev/zero")
    return path


class Masks:
    """Damaged masks of classes. A mask that is read has the labels that Pillow finds."""

    def __init__(self, folder: Path):
        self.folder = folder
        labels = np.random.default_rng(0).integers(0, 4, (40, 48)).astype(np.uint8)
        grey, colours = Image.fromarray(labels), Image.fromarray(labels, "P")
        colours.putpalette(bytes(range(256)) * 3)
        self.masks = {}
        for name, image in {"grey.png": grey, "palette.png": colours, "grey.tif": grey, "grey.bmp": grey}.items():
            image.save(folder / name)
            self.masks[name] = (folder / name).read_bytes()
        self.masks["rgb.png"] = sample_images()["rgb.png"]
        self.load = LoadMask()

    def make(self, rng: Random) -> tuple[str, bytes | None]:
        if rng.random() < 0.02:
            return rng.choice(SPECIAL), None
        name = rng.choice(list(self.masks))
        return name, mutated(rng, self.masks[name])

    def run(self, given: tuple[str, bytes | None]) -> None:
        name, data = given
        path = self.folder / f"given_{name}" if data is not None else special(self.folder, name)
        if data is not None:
            path.write_bytes(data)
        found = read_mask(path, 3, reduce_zero_label=True)
        with Image.open(path) as image:
            stored = np.asarray(image).astype(np.int64)
        if not np.array_equal(found, np.where((stored == 0) | (stored == 255), 255, stored - 1)):
            raise Wrong("the labels are not those in the file")
        results = dict(seg_map_path=str(path), num_classes=3, reduce_zero_label=True, seg_fields=[], ori_shape=(40, 48))
        self.load(results)
