"""mmdet's index of a COCO file, by which labels follow the names of the classes.

mmdet numbers labels in the file's order of categories. In a file of another order, or without one of the classes, a
label would then mean another class than in the training file.
"""

from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation.metrics import coco_metric

from ziggurat.engine.own_data.reading import read_json


class NamedCOCO(COCO):
    """mmdet's COCO, for files with or without a byte order mark.

    Args:
        annotation_file: the file; None for an empty index.

    Raises:
        UserError: the file is absent or no JSON.
    """

    def __init__(self, annotation_file: str | None = None):
        super().__init__()
        if annotation_file is not None:
            self.dataset = read_json(Path(annotation_file))
            self.createIndex()
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def get_cat_ids(self, cat_names: Any = (), sup_names: Any = (), cat_ids: Any = ()) -> list[int]:
        """The ids of categories. Those of names come in the order of the names, one for each.

        A name without a category gets an id that no annotation has.
        """
        if not cat_names or len(sup_names) or len(cat_ids):
            return super().get_cat_ids(list(cat_names), list(sup_names), list(cat_ids))
        names = [cat_names] if isinstance(cat_names, str) else cat_names
        ids = {str(category["name"]): category["id"] for category in self.dataset["categories"]}
        unused = min([0, *ids.values()]) - 1
        return [ids.get(str(name), unused - i) for i, name in enumerate(names)]


CocoDataset.COCOAPI = coco_metric.COCO = NamedCOCO
