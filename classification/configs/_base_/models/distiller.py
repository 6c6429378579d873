# A student and its teacher. A leaf gives model.backbone.arch and model.teacher.
model = dict(
    type="Distiller",
    backbone=dict(type="Backbone"),
    data_preprocessor=dict(type="BatchPreprocessor", mean="weights", std="weights"),
)
