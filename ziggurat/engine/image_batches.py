"""Batches of images of any sizes: each batch has images of one size after preprocessing."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mmengine.config import Config
from torch.utils.data import DataLoader, Dataset

from backbones.checks import check_int
from backbones.errors import UserError
from backbones.features import ImageLike

Sample = dict[str, Any] | UserError


def batches_of(
    images: Iterable[ImageLike], prepare: Callable[[ImageLike], Sample], batch_size: int, num_workers: int
) -> Iterator[tuple[list[int], list[dict[str, Any]] | UserError]]:
    """Batches of images: their numbers in the input, and their preprocessed samples, or the error of one image.

    Args:
        images: one after the other. With workers a list.
        prepare: gives the sample of an image, whose ``inputs`` are the tensor, or a list of its views' tensors; or the
            image's error.
        batch_size: images in a batch, 1 or more. Batches of the last images of a size may have fewer.
        num_workers: processes that read and prepare images, 0 or more. 0 uses this process.

    Raises:
        UserError: ``num_workers`` is no integer from 0 up.
    """
    waiting: dict[tuple[tuple[int, ...], ...], tuple[list[int], list[dict[str, Any]]]] = {}
    check_int("num_workers", num_workers, 0, None)
    prepared = DataLoader(Samples(prepare, images), None, num_workers=num_workers) if num_workers else None
    for number, sample in enumerate(prepared or map(prepare, images)):
        if isinstance(sample, UserError):
            yield [number], sample
            continue
        views = sample["inputs"]
        size = tuple(tuple(view.shape) for view in (views if isinstance(views, list) else [views]))
        numbers, samples = waiting.setdefault(size, ([], []))
        numbers.append(number)
        samples.append(sample)
        if len(samples) == batch_size:
            yield waiting.pop(size)
    yield from waiting.values()


class Samples(Dataset):
    """Preprocessed images, for the workers of a data loader."""

    def __init__(self, prepare: Callable[[ImageLike], Sample], images: Sequence[ImageLike]):
        self.prepare = prepare
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Sample:
        return self.prepare(self.images[number])


def described(sample: dict[str, Any]) -> str:
    """The name and size of the image that a sample was made from, as far as the sample tells."""
    truth = sample.get("data_samples")
    truth = truth[0] if isinstance(truth, list) else truth  # of the views of one image
    name, size = getattr(truth, "img_path", None) or "image", getattr(truth, "ori_shape", None)
    return f"{name} is {size[1]}x{size[0]} pixels" if size else name


def collate_name(cfg: Config) -> str:
    """The name of the function by which the test loader makes batches; mmengine's by default."""
    return (cfg.test_dataloader.get("collate_fn") or {}).get("type", "pseudo_collate")
