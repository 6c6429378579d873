# A backbone and its head. A leaf or a recipe gives model.backbone.arch.
# ziggurat/engine/complete.py replaces "weights" by the statistics of the weights, for an image in 0..1.
model = dict(
    type="Classifier",
    backbone=dict(type="Backbone"),
    num_classes=1000,
    data_preprocessor=dict(type="BatchPreprocessor", mean="weights", std="weights"),
)
