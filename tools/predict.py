"""Predicts on your own images: a picture with the prediction drawn on it, and JSON beside it.

python tools/predict.py CONFIG CHECKPOINT IMAGE_OR_FOLDER ... [--out DIR]

    classification   <name>.png with the five best classes         <name>.json: labels, categories, scores
    detection        <name>.png with boxes and masks               <name>.json: boxes [x1, y1, x2, y2] in the image's
                                                                   pixels, scores, labels, categories, masks (COCO RLE)
    segmentation     <name>.png tinted by class, with a legend     <name>.json: the classes present and their share
                     masks/<name>.png, uint8 class indices

Images that cannot be read, or have a side below 32 pixels, are named and skipped; the exit status is 1 then.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from backbones import UserError
from backbones.checks import MIN_SIZE
from backbones.images import list_images, output_stems, read_image
from engine.cli import Parser, add_config_options, output_folder, run_tool

Prediction = tuple[Image.Image, dict[str, Any], Image.Image | None]  # picture, JSON, mask of class indices


def main() -> int:
    args = parse_args()
    out = Path(args.out or Path("work_dirs/predict") / Path(args.config).stem)
    paths = without_results(list_images(args.images), args.images, out)
    stems = output_stems(paths)
    refuse_to_overwrite(paths, [folder / f"{stem}.png" for stem in stems for folder in (out, out / "masks")])

    predict = load_predictor(args)
    output_folder(out)
    skipped = []
    bar = tqdm(total=len(paths), unit="image", disable=None)
    for number, (path, stem) in enumerate(zip(paths, stems, strict=True), 1):
        try:
            picture, content, mask = predict(readable_image(path))
        except UserError as error:
            skipped.append(str(error))
            tqdm.write(f"skipped: {error}", file=sys.stderr)
        else:
            picture.save(out / f"{stem}.png")
            if mask is not None:
                (out / "masks").mkdir(exist_ok=True)
                mask.save(out / "masks" / f"{stem}.png")
            (out / f"{stem}.json").write_text(json.dumps({"image": str(path), **content}) + "\n")
        bar.update()
        if bar.disable and number % 100 == 0:
            print(f"{number}/{len(paths)}", flush=True)
    bar.close()

    print(f"{len(paths) - len(skipped)} of {len(paths)} images: {out}")
    for line in skipped:
        print(f"skipped: {line}", file=sys.stderr)
    return 1 if skipped else 0


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="the config the checkpoint was trained with")
    parser.add_argument("checkpoint", help="e.g. work_dirs/<config name>/epoch_12.pth")
    parser.add_argument("images", nargs="+", help="image files, or folders that are searched for images")
    parser.add_argument("--out", metavar="DIR", help="default: work_dirs/predict/<config name>")
    parser.add_argument("--score-thr", type=float, default=0.3, help="detection: leave out boxes below (default: 0.3)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: the GPU where there is one")
    add_config_options(parser)
    args = parser.parse_args()
    if not 0 <= args.score_thr <= 1:
        raise UserError(f"--score-thr {args.score_thr}: allowed 0 to 1")
    return args


def without_results(paths: list[Path], given: list[str], out: Path) -> list[Path]:
    """Leaves out what earlier predictions wrote, where ``out`` lies inside a folder that was given."""
    given, out = {Path(path).resolve() for path in given}, out.resolve()
    kept = [path for path in paths if out in given or path.resolve() in given or out not in path.resolve().parents]
    if not kept:
        raise UserError(f"no images but earlier predictions, in {out}")
    return kept


def refuse_to_overwrite(inputs: list[Path], outputs: list[Path]) -> None:
    inputs = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in inputs:
            raise UserError(f"--out would overwrite the input {path}; choose another folder")


def readable_image(path: Path) -> Image.Image:
    image = read_image(path)
    if min(image.size) < MIN_SIZE:
        raise UserError(f"{path} is {image.width}x{image.height} pixels; allowed: {MIN_SIZE}x{MIN_SIZE} and larger")
    return image


def load_predictor(args: argparse.Namespace) -> Callable[[Image.Image], Prediction]:
    """The config's model with the checkpoint's weights, as a function of one image."""
    from mmengine.registry import init_default_scope

    from backbones.weights import read_checkpoint
    from engine.config import load_config, task_of
    from engine.prepare import set_num_classes
    from engine.runner import load_state, pick_device

    device = pick_device(args.device)
    content = read_checkpoint(args.checkpoint)
    cfg = load_config(args.config, args.cfg_options)
    meta = (content.get("meta") or {}).get("dataset_meta") or {}
    classes = meta.get("classes") or config_classes(cfg)
    if classes:
        set_num_classes(cfg.model, len(classes))

    task = task_of(cfg)
    library = {"classification": "mmengine", "detection": "mmdet", "segmentation": "mmseg"}[task]
    init_default_scope(cfg.get("default_scope") or library)
    model = importlib.import_module(f"{library}.registry").MODELS.build(cfg.model)
    state = content.get("state_dict") or content.get("model") or content
    state = {name.removeprefix("module."): value for name, value in state.items()}
    load_state(model, state, args.checkpoint, exact=True)
    model.to(device).eval()
    build = {"classification": classify, "detection": detect, "segmentation": segment}[task]
    return build(model, cfg, classes, args)


def config_classes(cfg: Any) -> list[str] | None:
    """The class names a config implies, for checkpoints that do not carry them."""
    dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
    named = (dataset.get("metainfo") or {}).get("classes") or dataset.get("classes")
    if named:
        return list(named)
    if cfg.get("default_scope") in ("mmdet", "mmseg"):
        datasets = importlib.import_module(f"{cfg.default_scope}.registry").DATASETS
        default = {"mmdet": "CocoDataset", "mmseg": "ADE20KDataset"}[cfg.default_scope]
        return list(datasets.get(default).METAINFO["classes"])
    return None


def classify(model: Any, cfg: Any, classes: Any, args: argparse.Namespace) -> Callable[[Image.Image], Prediction]:
    import torch
    from timm.data import create_transform

    from classification.data import as_tensor
    from engine.draw import draw_scores

    options = cfg.test_dataloader.dataset.transform.to_dict()
    transform = create_transform(**{"interpolation": "bicubic", **options}, use_prefetcher=True)
    classes = classes or [f"class {i}" for i in range(model.num_classes)]

    def predict(image: Image.Image) -> Prediction:
        inputs = as_tensor(transform(image))[None]
        with torch.no_grad():
            scores = model.test_step({"inputs": inputs})[0]["scores"].cpu().numpy()
        labels = np.argsort(-scores, kind="stable")[:5].tolist()
        names = [str(classes[i]) for i in labels]
        top = [round(float(scores[i]), 6) for i in labels]
        return draw_scores(image, names, top), {"labels": labels, "categories": names, "scores": top}, None

    return predict


def detect(model: Any, cfg: Any, classes: Any, args: argparse.Namespace) -> Callable[[Image.Image], Prediction]:
    from pycocotools import mask as coco_mask

    from engine.draw import draw_instances, make_palette

    palette = make_palette(len(classes))
    run = through_pipeline(model, cfg)

    def predict(image: Image.Image) -> Prediction:
        found = run(image).pred_instances.cpu().numpy()
        found = found[found.scores >= args.score_thr]
        masks = found.masks.astype(bool) if "masks" in found else None
        names = [str(classes[i]) for i in found.labels]
        colours = [palette[i] for i in found.labels]
        content = {
            "width": image.width,
            "height": image.height,
            "boxes": found.bboxes.astype(float).round(2).tolist(),
            "scores": found.scores.astype(float).round(4).tolist(),
            "labels": found.labels.tolist(),
            "categories": names,
        }
        if masks is not None:
            content["masks"] = [rle(coco_mask, mask) for mask in masks]
        return draw_instances(image, found.bboxes, names, colours, found.scores, masks), content, None

    return predict


def rle(coco_mask: Any, mask: np.ndarray) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(map(int, encoded["size"])), "counts": encoded["counts"].decode("ascii")}


def segment(model: Any, cfg: Any, classes: Any, args: argparse.Namespace) -> Callable[[Image.Image], Prediction]:
    from engine.draw import draw_classes, make_palette

    dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
    palette = (dataset.get("metainfo") or {}).get("palette") or make_palette(len(classes))
    run = through_pipeline(model, cfg)

    def predict(image: Image.Image) -> Prediction:
        mask = run(image).pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
        counts = np.bincount(mask.ravel(), minlength=len(classes))
        present = [
            {"index": int(i), "name": str(classes[i]), "fraction": round(counts[i] / mask.size, 6)}
            for i in np.argsort(-counts, kind="stable")
            if counts[i]
        ]
        content = {"width": image.width, "height": image.height, "classes": present}
        return draw_classes(image, mask, classes, palette), content, Image.fromarray(mask)

    return predict


def through_pipeline(model: Any, cfg: Any) -> Callable[[Image.Image], Any]:
    """An image through the config's test pipeline and the model: mm's data sample, in the image's own pixels."""
    import torch
    from mmcv.transforms import Compose
    from mmengine.dataset import pseudo_collate

    steps = cfg.test_dataloader.dataset.pipeline
    pipeline = Compose([step for step in steps if not step["type"].startswith("Load")])  # images come decoded

    def run(image: Image.Image) -> Any:
        pixels = np.ascontiguousarray(np.asarray(image)[..., ::-1])  # mm's pipelines hold BGR
        shape = pixels.shape[:2]
        data = pipeline(
            dict(img=pixels, img_path="", img_id=0, img_shape=shape, ori_shape=shape, height=shape[0], width=shape[1])
        )
        with torch.no_grad():
            return model.test_step(pseudo_collate([data]))[0]

    return run


if __name__ == "__main__":
    run_tool(main)
