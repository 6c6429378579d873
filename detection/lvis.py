"""LVIS, whose files have other entries than COCO's: the names of images are checked before a run."""

from typing import Any

from mmdet.datasets import LVISV05Dataset

from detection.coco_file import read_content
from ziggurat.engine.formats import Format, register_format
from ziggurat.engine.inside import check_inside
from ziggurat.engine.splits import under_root

HOST = "http://images.cocodataset.org/"  # mmdet takes the rest of an image's address as its name


def image_names(content: dict[str, Any]) -> tuple[str, ...]:
    """The names by ``file_name``, which version 0.5 has, and by ``coco_url``, which version 1 has."""
    images = content["images"]
    addresses = (image.get("coco_url", "").replace(HOST, "") for image in images)
    return (*(image.get("file_name", "") for image in images), *addresses)


@register_format(LVISV05Dataset)
class LvisFormat(Format):
    """An annotation file of LVIS, version 0.5 or 1."""

    def check(self, dataset: Any, split: str) -> None:
        """Raises UserError if the annotation file is missing or malformed, or names an image outside its folders."""
        file = under_root(dataset, dataset["ann_file"])
        folder = under_root(dataset, (dataset.get("data_prefix") or {}).get("img", ""))
        check_inside(file, "an image", read_content(file, image_names), folder, dataset.get("data_root"))
