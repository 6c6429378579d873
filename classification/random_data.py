"""Random images of random classes, for measurements that need no files."""

from mmengine.registry import DATASETS

from ziggurat.engine.random_data import RandomSamples, random_image


@DATASETS.register_module(force=True)
class RandomImages(RandomSamples):
    """Images, each of a random class."""

    def sample(self, rng, height, width):
        return {"inputs": random_image(rng, height, width), "data_samples": int(rng.integers(self.classes))}
