"""Judging a backbone by its frozen features: nearest neighbours and linear probes, without training the backbone.

source = Source("van_b2.in1k", "data/imagenet")
features = features_of(source, Path("van_b2.safetensors"))
knn(features.train, features.val, len(source.classes))

``source`` names what features are made from, ``extract`` computes them into a file, ``cache`` is that file, ``knn`` and
``probe`` judge.
"""
