"""Random images of random classes, for measurements that need no files."""

from mmengine.registry import DATASETS

from engine.random_data import RandomSamples, random_image


@DATASETS.register_module(force=True)
class RandomImages(RandomSamples):
    """Images, each of a random class.

    Args:
        classes: number of classes.
        number, height, width: see ``engine.random_data.RandomSamples``.
    """

    def __init__(self, classes: int, **size: int):
        self.classes = classes
        super().__init__(**size)

    def sample(self, rng, height, width):
        return {"inputs": random_image(rng, height, width), "data_samples": int(rng.integers(self.classes))}
