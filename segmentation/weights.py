"""The published weights of segmenters, by the names of their configs.

Source: README.md of Visual-Attention-Network/VAN-Segmentation@8285fc7, projects/van/README.md of
open-mmlab/mmsegmentation@76b6b89, and semantic_segmentation/README.md of raoyongming/HorNet@ac9e210.
"""

from backbones.weights.table import HORNET, TSINGHUA, Terms
from ziggurat.engine.published import PublishedModel

VAN = Terms(
    "Visual-Attention-Network/VAN-Segmentation", "Apache-2.0; its README asks commercial users to contact the authors"
)
OPENMMLAB = "https://download.openmmlab.com/mmsegmentation/v0.5/van_3rdparty/van-"


def hornet(page: str) -> PublishedModel:
    return PublishedModel(HORNET, (f"{TSINGHUA}{page}/?dl=1",))


def van(mirror: str | None, page: str | None = None) -> PublishedModel:
    """VAN's weights. ``mirror`` is mmsegmentation's file, ``page`` the authors' own. Both have the same tensors."""
    urls = [] if mirror is None else [f"{OPENMMLAB}{mirror}.pth"]
    return PublishedModel(VAN, (*urls, *([] if page is None else [f"{TSINGHUA}{page}/?dl=1"])))


WEIGHTS = {
    "semantic_fpn_van_b0_512x512_40k_ade20k": van("b0-in1kpre_fpn_3rdparty_512x512-ade20k_20230522-75a76298"),
    "semantic_fpn_van_b1_512x512_40k_ade20k": van("b1-in1kpre_fpn_3rdparty_512x512-ade20k_20230522-104499ff"),
    "semantic_fpn_van_b2_512x512_40k_ade20k": van("b2-in1kpre_fpn_3rdparty_512x512-ade20k_20230522-7074e6f8"),
    "semantic_fpn_van_b3_512x512_40k_ade20k": van("b3-in1kpre_fpn_3rdparty_512x512-ade20k_20230522-2c3b7f5e"),
    "upernet_van_b2_512x512_160k_ade20k": van(
        "b2-in1kpre_upernet_3rdparty_512x512-ade20k_20230522-19c58aee", "68c8b494f3824d30bf07"
    ),
    # mmsegmentation names one hash for its files of B3 and B4, so one of the two is wrong.
    "upernet_van_b3_512x512_160k_ade20k": van(None, "97bde65fbe334b358797"),
    "upernet_van_b4_512x512_160k_ade20k": van(None, "5273f92c77a94395b804"),
    "upernet_van_b4_in22k_512x512_160k_ade20k": van(
        "b4-in22kpre_upernet_3rdparty_512x512-ade20k_20230522-4a4d744a", "8f1f0a9c4c71478fa43b"
    ),
    "upernet_van_b5_in22k_512x512_160k_ade20k": van(
        "b5-in22kpre_upernet_3rdparty_512x512-ade20k_20230522-5bb6f2b4", "2175bdc39d094e5f8f99"
    ),
    "upernet_van_b6_in22k_512x512_160k_ade20k": van(
        "b6-in22kpre_upernet_3rdparty_512x512-ade20k_20230522-e226b363", "853d9d0ea0f44c2aa090"
    ),
    "upernet_hornet_tiny_7x7_512x512_160k_ade20k": hornet("684334b0a7ea436b9a97"),
    "upernet_hornet_tiny_gf_512x512_160k_ade20k": hornet("34725e1401194786bb76"),
    "upernet_hornet_small_7x7_512x512_160k_ade20k": hornet("0e488e21a88d414da90c"),
    "upernet_hornet_small_gf_512x512_160k_ade20k": hornet("d37290faa8a34bc091c3"),
    "upernet_hornet_base_7x7_512x512_160k_ade20k": hornet("98288e9023c2425a880c"),
    "upernet_hornet_base_gf_512x512_160k_ade20k": hornet("e50ecead21e4408187b7"),
    "upernet_hornet_large_7x7_in22k_640x640_160k_ade20k": hornet("d7a782e07a354f59bf62"),
    "upernet_hornet_large_gf_in22k_640x640_160k_ade20k": hornet("3dbb38bae1694653a666"),
}
