"""mm's registries know the networks, beside networks of the same names that other projects register."""

import pytest
from mmdet.registry import MODELS as DETECTION
from mmengine.registry import MODELS
from mmseg.registry import MODELS as SEGMENTATION

import backbones
import detection  # noqa: F401
import segmentation  # noqa: F401
from ziggurat.engine.register import register_backbones

REGISTRIES = {"mmengine": MODELS, "mmdet": DETECTION, "mmseg": SEGMENTATION}


@pytest.mark.parametrize("library", REGISTRIES)
def test_types_are_known_without_a_prefix(library):
    for family in backbones.FAMILIES:
        assert REGISTRIES[library].get(family.__name__) is family
    net = REGISTRIES[library].build(dict(type="VAN", arch="van_b0"))
    assert net.arch == "van_b0"


def test_a_project_may_register_a_network_of_the_same_name(request):
    """As mmsegmentation's projects/van does; ours is then reached by mmengine's prefix, and in mmdet as before."""
    models = REGISTRIES["mmseg"]

    @models.register_module()
    class VAN:
        pass

    request.addfinalizer(lambda: models.module_dict.pop("VAN"))
    assert models.get("VAN") is VAN
    register_backbones()  # the other order: theirs is there before ours
    assert models.get("VAN") is VAN
    for library, name in (("mmseg", "mmengine.VAN"), ("mmdet", "VAN"), ("mmdet", "mmengine.VAN")):
        assert REGISTRIES[library].get(name) is backbones.VAN
