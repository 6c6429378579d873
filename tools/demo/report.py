"""Writes report.html, report.json and readme.jpg of a demo's work dir; tools/demo/demo.py calls this tool last.

python tools/demo/report.py WORK_DIR [--data data/demo]

The report is made from steps.json (seconds), and from the files of each run: metrics.json (tools/test.py), the training
log, predictions (tools/predict.py) and feature maps (tools/extract_features.py). report.html contains its pictures, so
the file can be moved.
"""

import argparse
import base64
import io
import json
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, ImageOps

import backbones
from backbones import UserError
from backbones.colours import pca_colours
from backbones.images import read_image
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.draw import draw_classes, draw_instances, make_palette

STARTS = ("pretrained", "scratch")
COLOURS = {"pretrained": "#2563eb", "scratch": "#d97706"}
METRICS = {"coco/bbox_mAP_50": "bbox_AP50", "coco/bbox_mAP": "bbox_AP"}
METRICS |= {"coco/segm_mAP_50": "segm_AP50", "coco/segm_mAP": "segm_AP"}
PACKAGES = ("torch", "torchvision", "onedl-mmengine", "onedl-mmcv", "onedl-mmdetection", "onedl-mmsegmentation")
NEXT_STEPS = """\
# your images: boxes and masks drawn, JSON beside them
python tools/predict.py detection/configs/demo/mask_rcnn_van_b0_digits.py \\
    $(cat work_dirs/demo/detection-pretrained/last_checkpoint) your_images/

# your COCO json, masks or folders of images, from ImageNet weights
python tools/train.py detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py --cfg-options data_root=your_coco/
python tools/train.py segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py --cfg-options data_root=your_masks/
python tools/train.py classification/configs/van/van_b0_8xb128_in1k.py --cfg-options data_root=your_folders/

# feature maps of any image, in Python
import backbones
pyramid = backbones.FeatureExtractor("van_b0", pretrained="van_b0.in1k")("photo.jpg")
"""
BACKGROUND = (28, 30, 36)  # the same colour as in the segmentation config's palette
CLASSES = [str(digit) for digit in range(10)]


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work_dir", type=Path, help="work dir of the demo")
    parser.add_argument("--data", type=Path, default=Path("data/demo"), help="the demo's data (default: data/demo)")
    args = parser.parse_args()
    write_report(args.work_dir, *collect(args.work_dir, args.data))
    print(f"{args.work_dir / 'report.html'}")


def collect(work_dir: Path, data: Path) -> tuple[dict, dict, list, dict]:
    """Figures, titles, curves and pictures: the arguments of `write_report` after `out`."""
    runs = [f"{task}-{start}" for task in ("detection", "segmentation") for start in STARTS]
    metrics = {run: read_json(work_dir / run / "metrics.json") for run in ("classification", *runs)}
    logs = {run: read_scalars(work_dir / run) for run in metrics}
    steps = read_json(work_dir / "steps.json")
    figures = {
        "classification": {"top1": round(metrics["classification"]["top1"], 2)},
        "detection": {s: {METRICS[k]: round(metrics[f"detection-{s}"][k], 4) for k in METRICS} for s in STARTS},
        "segmentation": {s: {"mIoU": round(metrics[f"segmentation-{s}"]["mIoU"] / 100, 4)} for s in STARTS},
        "seconds": {**steps["seconds"], "total": round(sum(steps["seconds"].values()), 1)},
        "versions": versions(),
    }
    curves = [
        curve("Classification: top-1, %", {"pretrained": points(logs["classification"], "top1")}),
        curve("Classification: training loss", {"pretrained": points(logs["classification"], "loss")}),
    ]
    for task, title, key, scale in (
        ("detection", "Mask R-CNN: box AP50", "coco/bbox_mAP_50", 1),
        ("segmentation", "UPerNet: mIoU", "mIoU", 0.01),
    ):
        name = title.split(":")[0]
        curves.append(curve(title, {s: points(logs[f"{task}-{s}"], key, scale) for s in STARTS}))
        curves.append(curve(f"{name}: training loss", {s: points(logs[f"{task}-{s}"], "loss") for s in STARTS}))
    return figures, steps["titles"], curves, collect_pictures(work_dir, data)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: not there; has the demo run to its end?") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: is not JSON ({error})") from error


def read_scalars(run: Path) -> list[dict[str, float]]:
    """The lines of a run's log, in order, training and validation mixed."""
    files = sorted(run.rglob("vis_data/scalars.json"))
    return [json.loads(line) for line in files[-1].read_text().splitlines()] if files else []


def points(log: list[dict[str, float]], key: str, scale: float = 1.0) -> list[tuple[float, float]]:
    """(iteration, value) of one entry. A validation logged by epoch gets the iteration of the training line before."""
    found, iteration = [], 0
    for row in log:
        iteration = max(iteration, row["step"])
        if key in row:
            found.append((iteration, row[key] * scale))
    return found


def curve(title: str, series: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    return {"title": title, "series": series}


def collect_pictures(work_dir: Path, data: Path) -> dict[str, Any]:
    """For each dense task rows of (ground truth, prediction); for each photograph its maps as colours, finest first."""
    truth = read_json(data / "coco/annotations/instances_val2017.json")
    scenes = sorted((work_dir / "detection-pretrained/predictions").glob("*.json"))
    detection, segmentation = [], []
    for scene in scenes:
        name = f"{scene.stem}.jpg"
        image = read_image(data / "coco/val2017" / name)
        picture = predicted(work_dir / "detection-pretrained/predictions", scene.stem)
        detection.append((draw_truth(image, truth, name), picture))
        mask = np.asarray(Image.open(data / f"ade/annotations/validation/{scene.stem}.png")) - 1
        drawn = draw_classes(image, mask, ["background", *CLASSES], [BACKGROUND, *make_palette(len(CLASSES))])
        segmentation.append((drawn, predicted(work_dir / "segmentation-pretrained/predictions", scene.stem)))
    features = read_json(work_dir / "features/features.json")
    maps = [(read_image(i["image"]), stage_pictures(work_dir / "features" / i["file"])) for i in features["images"]]
    return {"detection": detection, "segmentation": segmentation, "features": maps}


def stage_pictures(file: Path) -> list[Image.Image]:
    """One picture for each map of an extract_features file: principal components as colours."""
    with np.load(file) as maps:
        return [Image.fromarray(pca_colours(torch.from_numpy(maps[name]))) for name in maps.files]


def predicted(folder: Path, stem: str) -> Image.Image:
    """The picture that tools/predict.py drew of an image."""
    drawn = [path for path in folder.glob(f"{stem}.*") if path.suffix != ".json"]
    if not drawn:
        raise UserError(f"{folder}: no picture of {stem}; has the demo run to its end?")
    return read_image(drawn[0])


def draw_truth(image: Image.Image, coco: dict[str, Any], file_name: str) -> Image.Image:
    """An image with the boxes and masks that a COCO json has for it."""
    (image_id,) = (row["id"] for row in coco["images"] if row["file_name"] == file_name)
    annotations = [row for row in coco["annotations"] if row["image_id"] == image_id]
    labels = [row["category_id"] - 1 for row in annotations]
    boxes = [[x, y, x + width, y + height] for x, y, width, height in (row["bbox"] for row in annotations)]
    masks = np.stack([decode(row["segmentation"]) for row in annotations])
    palette = make_palette(len(CLASSES))
    return draw_instances(
        image, np.array(boxes, float), [CLASSES[i] for i in labels], [palette[i] for i in labels], masks=masks
    )


def decode(rle: dict[str, Any]) -> np.ndarray:
    """An uncompressed COCO run-length code as a (H, W) bool mask."""
    values = np.arange(len(rle["counts"])) % 2 == 1
    return np.repeat(values, rle["counts"]).reshape(rle["size"], order="F")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "ziggurat-vision": backbones.__version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found | {"machine": f"{platform.system()} {platform.machine()}"}


def write_report(
    out: Path,
    figures: dict[str, Any],
    titles: dict[str, str],
    curves: Sequence[dict[str, Any]],
    pictures: dict[str, Any],
) -> None:
    """Writes report.json, report.html and readme.jpg into `out`.

    Args:
        out: an existing folder.
        figures: the content of report.json.
        titles: name in figures["seconds"] -> title of the step.
        curves: dicts of title and series; a series is a list of (iteration, value) under "pretrained" or "scratch".
        pictures: "detection" and "segmentation": rows of (ground truth, prediction); "features": rows of
            (image, [picture of each stage]).
    """
    (out / "report.json").write_text(json.dumps(figures, indent=2) + "\n")
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    templates.filters["uri"] = data_uri
    page = templates.get_template("report.html.jinja").render(
        figures=figures,
        titles=titles,
        charts=[
            {"title": c["title"], "svg": Markup(line_chart(c["series"]))} for c in curves if any(c["series"].values())
        ],
        comparison=comparison(figures),
        longest=max(seconds for name, seconds in figures["seconds"].items() if name != "total"),
        pictures=pictures,
        colours=COLOURS,
        next_steps=NEXT_STEPS,
    )
    (out / "report.html").write_text(page)
    montage(pictures).save(out / "readme.jpg", quality=86, optimize=True)


def comparison(figures: dict[str, Any]) -> list[tuple[str, str, float, float]]:
    """Rows of network, measure, pretrained, scratch."""
    measures = [
        ("Mask R-CNN", "box AP at IoU 0.5", "detection", "bbox_AP50"),
        ("Mask R-CNN", "box AP, IoU 0.5 to 0.95", "detection", "bbox_AP"),
        ("Mask R-CNN", "mask AP at IoU 0.5", "detection", "segm_AP50"),
        ("Mask R-CNN", "mask AP, IoU 0.5 to 0.95", "detection", "segm_AP"),
        ("UPerNet", "mean IoU over 11 classes", "segmentation", "mIoU"),
    ]
    return [
        (network, words, *(figures[task][start][key] for start in STARTS))
        for network, words, task, key in measures
        if all(key in figures[task][start] for start in STARTS)
    ]


def data_uri(image: Image.Image, smooth: bool = True) -> str:
    """The picture as a data URI: JPEG, or with `smooth` off PNG, which keeps sharp pixels."""
    buffer = io.BytesIO()
    if smooth:
        image.save(buffer, "JPEG", quality=85)
    else:
        image.save(buffer, "PNG")
    return f"data:image/{'jpeg' if smooth else 'png'};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def line_chart(series: dict[str, list[tuple[float, float]]], width: int = 340, height: int = 200) -> str:
    """Lines over iterations as SVG, with round numbers at the axes and the last value at the end of each line."""
    left, right, top, bottom = 44, 50, 12, 28
    xs = [x for line in series.values() for x, _ in line]
    ys = [y for line in series.values() for _, y in line]
    x_ticks, y_ticks = ticks(0, max(xs)), ticks(0, max(ys))
    x_max, y_max = max(max(xs), 1), max(y_ticks[-1], max(ys)) or 1

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            round(left + x / x_max * (width - left - right), 1),
            round(height - bottom - y / y_max * (height - top - bottom), 1),
        )

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img">']
    for value in y_ticks:
        _, y = place(0, value)
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{y}" y2="{y}" class="grid"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for value in x_ticks:
        x, _ = place(value, 0)
        parts.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle">{value:g}</text>')
    ends = {}
    for name, line in series.items():
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline points="{path}" stroke="{COLOURS[name]}"/>')
        if len(line) <= 12:
            parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{COLOURS[name]}"/>' for x, y in (place(*p) for p in line)]
        if line:
            ends[name] = place(*line[-1])
    for name, y in spread({name: y for name, (_, y) in ends.items()}).items():
        value = series[name][-1][1]
        label = f"{value:.1f}" if value >= 10 else f"{value:.2f}"
        parts.append(f'<text x="{ends[name][0] + 7}" y="{y + 4}" fill="{COLOURS[name]}" class="end">{label}</text>')
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float) -> list[float]:
    """Four to six round values from `low` up to `high`."""
    step = 10 ** np.floor(np.log10(max(high - low, 1e-9) / 4))
    step = next(step * k for k in (1, 2, 2.5, 5, 10) if (high - low) / (step * k) <= 5)
    return [round(float(low + i * step), 10) for i in range(int((high - low) / step + 1e-9) + 1)]


def spread(places: dict[str, float], gap: float = 13) -> dict[str, float]:
    """Moves labels down until no label covers another."""
    result, last = {}, -gap
    for name, y in sorted(places.items(), key=lambda item: item[1]):
        result[name] = last = max(y, last + gap)
    return result


def montage(pictures: dict[str, Any], side: int = 236, gap: int = 6) -> Image.Image:
    """The picture of the README: a row with an image and its maps, then a row of predictions for each dense task."""
    image, stages = pictures["features"][-1]
    rows = [[image, *(stage.resize(image.size, Image.Resampling.NEAREST) for stage in stages)]]
    rows += [[prediction for _, prediction in pictures[task]][: len(rows[0])] for task in ("detection", "segmentation")]
    page = Image.new("RGB", (len(rows[0]) * (side + gap) - gap, len(rows) * (side + gap) - gap), "white")
    for j, row in enumerate(rows):
        for i, picture in enumerate(row):
            square = ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS, centering=(0.5, 0))  # no legend
            page.paste(square, (i * (side + gap), j * (side + gap)))
    return page


if __name__ == "__main__":
    run_tool(main)
