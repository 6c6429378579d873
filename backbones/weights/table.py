"""The published weights by name: addresses, origin, licence, and the normalisation of the input."""

import fnmatch
from pathlib import Path
from typing import NamedTuple

from backbones.checks import check_pattern
from backbones.errors import UserError, shown
from backbones.weights.evaluation import Evaluation

OPENMMLAB = "https://download.openmmlab.com/mmclassification/v0/"
HUGGING_FACE = "https://huggingface.co/Visual-Attention-Network/"
TSINGHUA = "https://cloud.tsinghua.edu.cn/f/"
GITHUB = "https://github.com/huawei-noah/Efficient-AI-Backbones/releases/download/"
ONEDRIVE = "https://1drv.ms/u/s!"


class Terms(NamedTuple):
    """The origin of weights, a GitHub repository, and their licence."""

    origin: str
    licence: str


class Input(NamedTuple):
    """The normalisation that a network was trained with: per channel of an RGB image in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Weights(NamedTuple):
    """One published set of weights.

    Attributes:
        terms: origin and licence.
        input: the normalisation in training.
        urls: addresses of the same weights, tried in order. A file name ending in -xxxxxxxx.pth carries its sha256.
        page: a page where a browser can download the file, if no address gives the file itself.
        evaluation: how the authors prepare the images that they evaluate on. None takes the family's way.
    """

    terms: Terms
    input: Input
    urls: tuple[str, ...] = ()
    page: str | None = None
    evaluation: Evaluation | None = None


HALF = Input((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = Input((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# What most weights of a family were published with. A row of WEIGHTS names its own.
FAMILY_INPUT = {"van": HALF, "hornet": IMAGENET, "pvig": HALF, "vig": HALF, "vvt": IMAGENET}
FAMILY_EVALUATION = {"van": Evaluation(crop_pct=0.9), "pvig": Evaluation(crop_pct=0.9), "vig": Evaluation(crop_pct=0.9)}
FAMILY_EVALUATION |= {"hornet": Evaluation(), "vvt": Evaluation()}
WHOLE_384 = Evaluation(384, 1.0, "squash")  # HorNet's script does not crop from 384 pixels up

VAN = Terms(
    "Visual-Attention-Network/VAN-Classification", "Apache-2.0; its README asks commercial users to contact the authors"
)
HORNET = Terms("raoyongming/HorNet", "MIT, copyright 2021 Yongming Rao")
VIG = Terms("huawei-noah/Efficient-AI-Backbones", "Apache-2.0, copyright 2020 Huawei Technologies Co., Ltd.")
VVT = Terms("OpenNLPLab/Vicinity-Vision-Transformer", "Apache-2.0")


def published(
    terms: Terms, input: Input, *urls: str, page: str | None = None, evaluation: Evaluation | None = None
) -> Weights:
    return Weights(terms, input, urls, page, evaluation)


# Source of addresses and preprocessing: README.md and models/van.py of VAN-Classification@e19779b; configs/van,
# configs/hornet and configs/vig of mmpretrain@ee7f2e8 and mmcls-0.x@4ec2509; the 22K recipe of
# LGYoung/VAN-Classification@b3e3188; README.md and datasets.py of HorNet@ac9e210; the readme, pyramid_vig.py and vig.py
# of Efficient-AI-Backbones@f90e129, and timm's pull request 1578 for the 21K file; README.md and datasets.py of
# Vicinity-Vision-Transformer@2c49e0f.
WEIGHTS = {
    "van_b0.in1k": published(
        VAN,
        HALF,
        OPENMMLAB + "van/van-tiny_8xb128_in1k_20220501-385941af.pth",
        HUGGING_FACE + "VAN-Tiny-original/resolve/main/van_tiny_754.pth.tar",
    ),
    "van_b1.in1k": published(
        VAN,
        HALF,
        OPENMMLAB + "van/van-small_8xb128_in1k_20220501-17bc91aa.pth",
        HUGGING_FACE + "VAN-Small-original/resolve/main/van_small_811.pth.tar",
    ),
    "van_b2.in1k": published(
        VAN,
        HALF,
        OPENMMLAB + "van/van-base_8xb128_in1k_20220501-6a4cc31b.pth",
        HUGGING_FACE + "VAN-Base-original/resolve/main/van_base_828.pth.tar",
    ),
    "van_b3.in1k": published(
        VAN,
        HALF,
        OPENMMLAB + "van/van-large_8xb128_in1k_20220501-f212ba21.pth",
        HUGGING_FACE + "VAN-Large-original/resolve/main/van_large_839.pth.tar",
    ),
    "van_b4.in1k": published(VAN, HALF, OPENMMLAB + "van/van-b4_3rdparty_in1k_20220909-f4665b92.pth"),
    "van_b4.in22k": published(
        VAN, IMAGENET, OPENMMLAB + "van/van-b4_3rdparty_in21k_20220909-db926b18.pth", evaluation=Evaluation()
    ),
    "van_b5.in22k": published(
        VAN, IMAGENET, OPENMMLAB + "van/van-b5_3rdparty_in21k_20220909-18e904e3.pth", evaluation=Evaluation()
    ),
    "van_b6.in22k": published(
        VAN, IMAGENET, OPENMMLAB + "van/van-b6_3rdparty_in21k_20220909-96c2cb3a.pth", evaluation=Evaluation()
    ),
    "hornet_tiny_7x7.in1k": published(
        HORNET,
        IMAGENET,
        OPENMMLAB + "hornet/hornet-tiny_3rdparty_in1k_20220915-0e8eedff.pth",
        TSINGHUA + "bac9690c72944d19aca1/?dl=1",
    ),
    "hornet_tiny_gf.in1k": published(
        HORNET,
        IMAGENET,
        OPENMMLAB + "hornet/hornet-tiny-gf_3rdparty_in1k_20220915-4c35a66b.pth",
        TSINGHUA + "460e759c82324ea6bfa3/?dl=1",
    ),
    "hornet_small_7x7.in1k": published(
        HORNET,
        IMAGENET,
        OPENMMLAB + "hornet/hornet-small_3rdparty_in1k_20220915-5935f60f.pth",
        TSINGHUA + "8ef64277da0e469ea857/?dl=1",
    ),
    "hornet_small_gf.in1k": published(
        HORNET,
        IMAGENET,
        OPENMMLAB + "hornet/hornet-small-gf_3rdparty_in1k_20220915-649ca492.pth",
        TSINGHUA + "959603ca287d4c09ad49/?dl=1",
    ),
    "hornet_base_7x7.in1k": published(
        HORNET,
        IMAGENET,
        OPENMMLAB + "hornet/hornet-base_3rdparty_in1k_20220915-a06176bb.pth",
        TSINGHUA + "13a748487711492e9704/?dl=1",
    ),
    "hornet_base_gf.in1k": published(
        HORNET,
        IMAGENET,
        OPENMMLAB + "hornet/hornet-base-gf_3rdparty_in1k_20220915-82c06fa7.pth",
        TSINGHUA + "c212d1d8a3914b47a5c1/?dl=1",
    ),
    "hornet_large_7x7.in22k": published(
        HORNET,
        IMAGENET,
        OPENMMLAB + "hornet/hornet-large_3rdparty_in21k_20220909-9ccef421.pth",
        TSINGHUA + "c2fc23caae084a3aa73d/?dl=1",
    ),
    "hornet_large_gf.in22k": published(
        HORNET,
        IMAGENET,
        OPENMMLAB + "hornet/hornet-large-gf_3rdparty_in21k_20220909-3aea3b61.pth",
        TSINGHUA + "8600206ebdfa485f98d0/?dl=1",
    ),
    "hornet_large_gf384.in22k": published(
        HORNET,
        IMAGENET,
        OPENMMLAB + "hornet/hornet-large-gf384_3rdparty_in21k_20220909-80894290.pth",
        TSINGHUA + "eec48d5eca5a48d98fd2/?dl=1",
        evaluation=WHOLE_384,
    ),
    "vig_tiny.in1k": published(
        VIG, HALF, OPENMMLAB + "vig/vig-tiny_3rdparty_in1k_20230117-6414c684.pth", GITHUB + "vig/vig_ti_74.5.pth"
    ),
    "vig_small.in1k": published(
        VIG, HALF, OPENMMLAB + "vig/vig-small_3rdparty_in1k_20230117-5338bf3b.pth", GITHUB + "vig/vig_s_80.6.pth"
    ),
    "vig_base.in1k": published(
        VIG, HALF, OPENMMLAB + "vig/vig-base_3rdparty_in1k_20230117-92f6f12f.pth", GITHUB + "vig/vig_b_82.6.pth"
    ),
    "pvig_tiny.in1k": published(
        VIG,
        HALF,
        OPENMMLAB + "vig/pvig-tiny_3rdparty_in1k_20230117-eb77347d.pth",
        GITHUB + "pyramid-vig/pvig_ti_78.5.pth.tar",
    ),
    "pvig_small.in1k": published(
        VIG,
        HALF,
        OPENMMLAB + "vig/pvig-small_3rdparty_in1k_20230117-9433dc96.pth",
        GITHUB + "pyramid-vig/pvig_s_82.1.pth.tar",
    ),
    "pvig_medium.in1k": published(
        VIG,
        HALF,
        OPENMMLAB + "vig/pvig-medium_3rdparty_in1k_20230117-21057a6d.pth",
        GITHUB + "pyramid-vig/pvig_m_83.1.pth.tar",
    ),
    "pvig_medium.in21k": published(VIG, HALF, GITHUB + "pyramid-vig/pvig_m_im21k_90e.pth"),
    "pvig_base.in1k": published(
        VIG,
        HALF,
        OPENMMLAB + "vig/pvig-base_3rdparty_in1k_20230117-dbab3c85.pth",
        GITHUB + "pyramid-vig/pvig_b_83.66.pth.tar",
        evaluation=Evaluation(crop_pct=0.95),
    ),
    "vvt_tiny.in1k": published(VVT, IMAGENET, page=ONEDRIVE + "Ak3sXyXVg781gtRFwwHih3Yu9G3FGg?e=yHKvuc"),
    "vvt_small.in1k": published(VVT, IMAGENET, page=ONEDRIVE + "Ak3sXyXVg781gtREWfCdlLJVy1IgpA?e=l4h3Wi"),
    "vvt_medium.in1k": published(VVT, IMAGENET, page=ONEDRIVE + "Ak3sXyXVg781gtRG4lD_uEVyj7cPYw?e=ihjjtO"),
    "vvt_large.in1k": published(VVT, IMAGENET, page=ONEDRIVE + "Ak3sXyXVg781gtRHmfu0BybCZ8k1FQ?e=fLskgG"),
}


def names_for(arch: str) -> list[str]:
    """The names of the weights table that belong to ``arch``, the recommended one first."""
    return [name for name in WEIGHTS if name.split(".")[0] == arch]


def list_weights(pattern: str = "*") -> list[str]:
    """The names of the weights table that match a shell pattern, e.g. ``"van*"`` or ``"*.in22k"``."""
    return fnmatch.filter(WEIGHTS, check_pattern(pattern))


def first_name(arch: str) -> str:
    """The name that ``pretrained=True`` stands for: the first of ``arch``; UserError if the table has none."""
    names = names_for(arch)
    if not names:
        raise UserError(f"pretrained is True, and no weights of {arch} are published; allowed: None, a URL or a file")
    return names[0]


def name_of_file(file: str) -> str | None:
    """The name in the table of a published file, such as ``van_b2.in1k``, by its file name; None for other files."""
    for name, row in WEIGHTS.items():
        if any(url.rpartition("/")[2] == file for url in row.urls):
            return name
    return None


def published_name(arch: str, pretrained: object) -> str | None:
    """The name in the table of ``pretrained``, a name or a published file under any path or URL; None for others."""
    name = str(pretrained) if str(pretrained) in WEIGHTS else name_of_file(Path(str(pretrained or "")).name)
    return name if name is not None and name.split(".")[0] == arch else None


def check_pretrained(arch: str, pretrained: bool | str | Path | None) -> str | Path | None:
    """``pretrained`` as a name, URL, path or None; UserError for anything else."""
    if pretrained is True:
        return first_name(arch)
    if pretrained is None or pretrained is False:
        return None
    if not isinstance(pretrained, str | Path) or not str(pretrained):
        raise UserError(f"pretrained is {shown(pretrained)}; allowed: None, True, a name of weights, a URL, a file")
    return pretrained
