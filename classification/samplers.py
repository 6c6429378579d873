"""The order of training images."""

from mmengine.dist import get_dist_info
from timm.data.distributed_sampler import RepeatAugSampler
from torch.utils.data import Dataset


class RepeatAugmentation(RepeatAugSampler):
    """timm's repeated augmentation: an epoch shows each of 1 / ``num_repeats`` of the images ``num_repeats`` times.

    An epoch has as many images as the data set, rounded down to a multiple of 256 as in DeiT.
    """

    def __init__(self, dataset: Dataset, num_repeats: int = 3, seed: int | None = None):
        rank, world_size = get_dist_info()
        super().__init__(dataset, num_replicas=world_size, rank=rank, num_repeats=num_repeats)
