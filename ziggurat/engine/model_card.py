"""A model card in Markdown, from what a checkpoint says of its run."""

from collections.abc import Mapping
from typing import Any

from ziggurat.engine.splits import datasets_of


def model_card(name: str, sha256: str, own: Mapping[str, Any], content: Mapping[str, Any], which: str) -> str:
    """The card of a published file.

    Args:
        name: the file's name.
        sha256: of the file, in hexadecimal digits.
        own: the description that the file carries, as ``backbones.weights.own_meta`` makes it.
        content: the checkpoint that the file was made from. What it does not say is left out of the card.
        which: the set of weights, such as ``"averaged"``.
    """
    arch = own["backbone"]["arch"]
    lines = [f"# {name}", "", "| | |", "|:-|:-|"]
    lines += [f"| {what} | {text} |" for what, text in facts(sha256, own, content, which).items() if text]
    lines += ["", "```python", "from backbones import create_backbone", ""]
    lines += [f'net = create_backbone("{arch}", pretrained="{name}")', "```", ""]
    lines += [f"In a config of any task: `model.backbone.pretrained={name}`.", ""]
    lines += ["Licence and origin of the images: to be written by whoever publishes the file.", ""]
    return "\n".join(lines)


def facts(sha256: str, own: Mapping[str, Any], content: Mapping[str, Any], which: str) -> dict[str, str]:
    """The rows of the card; an empty text for what is not known."""
    said = (content.get("meta") or {}).get("ziggurat") or {}
    config = said.get("config") or {}
    classes = own.get("classes") or said.get("classes") or []
    structure = {key: value for key, value in own["backbone"].items() if key != "arch" and value is not None}
    return {
        "network": f"{own['backbone']['arch']} ({', '.join(f'{key} {value}' for key, value in structure.items())})",
        "weights": which,
        "SHA-256": sha256,
        "head": f"{own['task']}, {len(classes)} classes" if own.get("task") else "none, the backbone alone",
        "trained for": f"{said['task']}, {len(classes)} classes: {listed(classes)}" if said.get("task") else "",
        "input": f"RGB in 0..1, mean {numbers(own['mean'])}, std {numbers(own['std'])}" if own.get("mean") else "",
        "test images": test_images(config),
        "training": training(config, content),
        "best": best(config, content),
        "written by": f"Ziggurat {own['version']}",
    }


def numbers(values: Any) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def listed(classes: Any) -> str:
    names = [str(name) for name in classes]
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def test_images(config: Mapping[str, Any]) -> str:
    """How classification prepares the images that it tests on."""
    if not config.get("test_dataloader"):
        return ""
    transform = next(iter(datasets_of(config, "test"))).get("transform") or {}
    keys = ("input_size", "crop_pct", "crop_mode", "interpolation")
    return ", ".join(f"{key} {transform[key]}" for key in keys if key in transform)


def training(config: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """Length, optimiser, images per batch and seed of the run."""
    meta, loop = content.get("meta") or {}, config.get("train_cfg") or {}
    wrapper, loader = config.get("optim_wrapper") or {}, config.get("train_dataloader") or {}
    optimizer = wrapper.get("optimizer") or {}
    parts = []
    if loop.get("max_epochs") and "epoch" in meta:
        parts.append(f"{meta['epoch']} of {loop['max_epochs']} epochs")
    if "iter" in meta:
        parts.append(f"{meta['iter']} iterations")
    if optimizer:
        parts.append(", ".join(f"{key} {value}" for key, value in optimizer.items() if not isinstance(value, dict)))
    if loader.get("batch_size"):
        parts.append(f"{loader['batch_size']} images a process and batch")
    if config.get("data_root"):
        parts.append(f"data {config['data_root']}")
    if "seed" in meta:
        parts.append(f"seed {meta['seed']}")
    return "; ".join(parts)


def best(config: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """The best figure of the run's validations so far."""
    info = (content.get("message_hub") or {}).get("runtime_info") or {}
    named = ((config.get("default_hooks") or {}).get("checkpoint") or {}).get("save_best")
    if named == "auto":
        named = (info.get("early_stopping") or {}).get("name", named)
    return f"{named} {info['best_score']:.4g}" if isinstance(named, str) and "best_score" in info else ""
