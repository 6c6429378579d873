"""Targets that are calls: odd arguments of the public functions, and odd inputs of the networks."""

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from fuzz_odd import Wrong
from PIL import Image
from torch import nn

import backbones
from backbones.images import read_image
from backbones.registry import family_of
from backbones.weights import own_meta, save_safely, statistics
from classification import create_classifier
from ziggurat import engine
from ziggurat.engine.config import load_config
from ziggurat.engine.tasks import task_for

CONFIG = "classification/configs/demo/van_b0_digits.py"
ARCHS = ("van_b0", "hornet_tiny_gf", "pvig_tiny", "vig_tiny", "vvt_tiny")
# Values that a call may change are made anew for each call.
PLAIN = (None, True, False, -1, 0, 1, 2, 3, 31, 1000, 10**30, -(10**30), 2.5, 0.5, 1e308, 1e-300, 1j)
PLAIN += (float("nan"), float("inf"), -float("inf"), "", "x", "van_b0", "van_*", "two\nlines", "\x00", "cpu", "cuda:7")
PLAIN += ("é" * 300, b"", b"x", (), (0,), (0, 1), (-1, 0), ("a", "b"), range(3), Path(), Path("/"), Ellipsis)
PLAIN += (torch.float16, torch.int8, torch.device("meta"), int, dict, len)
VALUES: list[Callable[[], Any]] = [
    *(lambda value=value: value for value in PLAIN),
    list,
    dict,
    set,
    object,
    lambda: [0, 1],
    lambda: [None],
    lambda: ["a", 1],
    lambda: [[0, 1], [2]],
    lambda: {0},
    lambda: {"a": 1},
    lambda: {"type": "Pretrained", "checkpoint": "x.pth"},
    lambda: {"type": "Pretrained", "checkpoint": None},
    lambda: {1: 2},
    lambda: iter([0, 1]),
    lambda: np.array(1),
    lambda: np.array([0, 1]),
    lambda: np.array(["a"]),
    lambda: np.array([None, 1], object),
    lambda: np.float32(0.5),
    lambda: np.int64(1),
    lambda: np.zeros((40, 40, 3), np.uint8),
    lambda: np.zeros((40, 40), bool),
    lambda: torch.tensor(1),
    lambda: torch.tensor([0, 1]),
    lambda: torch.zeros(3, 40, 40),
    lambda: torch.zeros(2, 3, 40, 40),
    lambda: torch.full((3, 40, 40), float("nan")),
    lambda: torch.zeros(3, 40, 40, device="meta"),
    lambda: torch.zeros(3, 40, 40).to_sparse(),
    lambda: torch.zeros(0, 3, 40, 40),
    lambda: Image.new("RGB", (40, 40)),
    lambda: Image.new("F", (40, 40), 7.0),
    lambda: Image.new("RGB", (0, 0)),
    nn.Identity,
    lambda: nn.Conv2d(1, 1, 1),
]


class Call(NamedTuple):
    """A public function, right arguments for it, and what looks at a result."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    check: Callable[[Any], None] = lambda result: None


def check_net(net: Any) -> None:
    """Raises ``Wrong`` unless the maps of a network are what its ``feature_info`` says."""
    with torch.no_grad():
        maps = net.eval()(torch.zeros(1, net.in_chans, 64, 64))
    if [m.shape[1] for m in maps] != [info.channels for info in net.feature_info]:
        raise Wrong(f"channels {[m.shape[1] for m in maps]}, and feature_info {net.feature_info}")
    if not all(torch.isfinite(m).all() for m in maps):
        raise Wrong("maps are not finite")


def check_groups(groups: Any) -> None:
    """Raises ``Wrong`` unless an optimiser can take the groups, and its rates are finite."""
    torch.optim.SGD([{key: value for key, value in group.items() if key != "names"} for group in groups])
    if not groups or not all(np.isfinite([group["lr"], group["weight_decay"]]).all() for group in groups):
        raise Wrong(f"groups {[(group['lr'], group['weight_decay']) for group in groups]}")


class Api:
    """One or two arguments of a public function are odd."""

    def __init__(self, folder: Path):
        net = backbones.create_backbone("van_b0", out_indices=(0,))
        image, small, whole = (str(folder / name) for name in ("image.png", "small.pth", "whole.pth"))
        torch.save(net.state_dict(), small)
        Image.new("RGB", (40, 40)).save(image)
        cfg = load_config(CONFIG, {"data_root": str(folder)})
        model = task_for(cfg).build_model(cfg)
        names = [str(i) for i in range(10)]
        own = own_meta(model, [0.5] * 3, [0.25] * 3, "classification", names, cfg.to_dict())
        save_safely({"state_dict": model.state_dict(), "meta": {"ziggurat": own}}, whole)
        predictor = engine.Predictor(whole)
        extractor = backbones.FeatureExtractor("van_b0", out_indices=(0,))
        pyramid = extractor(image)
        made: dict[str, tuple] = {
            "list_archs": (backbones.list_archs, dict(pattern="*")),
            "list_weights": (backbones.list_weights, dict(pattern="*")),
            "statistics": (statistics, dict(arch="van_b0", pretrained=small)),
            "read_image": (read_image, dict(path=image)),
            "load_weights": (backbones.load_weights, all_arguments(backbones.load_weights, model=net, source=small)),
            "param_groups": (
                backbones.param_groups,
                all_arguments(backbones.param_groups, model=net, lr=0.1, weight_decay=0.1, num_layers=6),
                check_groups,
            ),
            "FeatureExtractor": (
                backbones.FeatureExtractor,
                all_arguments(backbones.FeatureExtractor, arch="van_b0", out_indices=(0,)),
            ),
            "extractor": (extractor.__call__, dict(images=image)),
            "pyramid.of": (pyramid.of, dict(image=0)),
            "SimpleFeaturePyramid": (
                backbones.SimpleFeaturePyramid,
                all_arguments(backbones.SimpleFeaturePyramid, in_channels=8, out_channels=8),
            ),
            "create_classifier": (
                create_classifier,
                all_arguments(create_classifier, arch="van_b0", num_classes=2, in_chans=3),
            ),
            "net.train": (net.train, dict(mode=True)),
            "Predictor": (
                engine.Predictor,
                all_arguments(engine.Predictor, config_or_checkpoint=whole),
            ),
            "predictor": (predictor.__call__, dict(images=image)),
            "predictor.draw": (predictor.draw, dict(image=image, result=predictor(image))),
            "predictor.describe": (predictor.describe, dict(result=predictor(image))),
        }
        for arch in ARCHS:
            family = family_of(arch)
            made[f"create_backbone {arch}"] = (backbones.create_backbone, all_arguments(family, arch=arch), check_net)
            made[family.__name__] = (family, all_arguments(family, arch=arch), check_net)
        self.calls = {name: Call(*call) for name, call in made.items()}

    def make(self, rng: Random) -> tuple[str, dict[str, int]]:
        """The name of a call, and the numbers of ``VALUES`` for some of its arguments."""
        name = rng.choice(list(self.calls))
        names = list(self.calls[name].arguments)
        if "nowhere" not in names and takes_any(self.calls[name].function):
            names.append("nowhere")
        chosen = rng.sample(names, min(len(names), rng.choice((1, 1, 1, 2))))
        return name, {argument: rng.randrange(len(VALUES)) for argument in chosen}

    def run(self, given: tuple[str, dict[str, int]]) -> None:
        name, odd = given
        call = self.calls[name]
        arguments = call.arguments | {argument: VALUES[number]() for argument, number in odd.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call.check(call.function(**arguments))


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether a function checks the names of its arguments itself."""
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(function).parameters.values())


def all_arguments(function: Callable[..., Any], **given: Any) -> dict[str, Any]:
    """The arguments of a function, or of a class and its bases: those given, and the defaults of the others."""
    parts = [function] if not inspect.isclass(function) else [base.__init__ for base in function.__mro__]
    defaults = {
        name: parameter.default
        for part in reversed(parts)
        for name, parameter in inspect.signature(part).parameters.items()
        if parameter.default is not parameter.empty
    }
    return defaults | given


TENSORS: dict[str, Callable[[int], Any]] = {
    "plain": lambda c: torch.rand(1, c, 64, 64),
    "odd sides": lambda c: torch.rand(2, c, 33, 47),
    "long": lambda c: torch.rand(1, c, 32, 300),
    "small": lambda c: torch.rand(1, c, 31, 64),
    "one pixel": lambda c: torch.rand(1, c, 1, 1),
    "no rows": lambda c: torch.rand(1, c, 0, 64),
    "no images": lambda c: torch.rand(0, c, 64, 64),
    "channels": lambda c: torch.rand(1, c + 1, 64, 64),
    "no channels": lambda c: torch.rand(1, 0, 64, 64),
    "three dims": lambda c: torch.rand(c, 64, 64),
    "five dims": lambda c: torch.rand(1, 1, c, 64, 64),
    "scalar": lambda c: torch.tensor(1.0),
    "half": lambda c: torch.rand(1, c, 64, 64).half(),
    "bfloat16": lambda c: torch.rand(1, c, 64, 64).bfloat16(),
    "double": lambda c: torch.rand(1, c, 64, 64).double(),
    "bytes": lambda c: torch.zeros(1, c, 64, 64, dtype=torch.uint8),
    "bool": lambda c: torch.zeros(1, c, 64, 64, dtype=torch.bool),
    "complex": lambda c: torch.rand(1, c, 64, 64).to(torch.complex64),
    "float8": lambda c: torch.rand(1, c, 64, 64).to(torch.float8_e4m3fn),
    "sparse": lambda c: torch.rand(1, c, 64, 64).to_sparse(),
    "mkldnn": lambda c: torch.rand(1, c, 64, 64).to_mkldnn(),
    "nested": lambda c: torch.nested.nested_tensor([torch.rand(c, 64, 64)]),
    "quantized": lambda c: torch.quantize_per_tensor(torch.rand(1, c, 64, 64), 0.1, 0, torch.quint8),
    "meta": lambda c: torch.rand(1, c, 64, 64, device="meta"),
    "expanded": lambda c: torch.rand(1, c, 1, 1).expand(2, c, 64, 64),
    "transposed": lambda c: torch.rand(1, c, 64, 80).transpose(2, 3),
    "strided": lambda c: torch.rand(1, c, 128, 128)[:, :, ::2, ::2],
    "flipped": lambda c: torch.rand(1, c, 64, 64).flip(3),
    "channels last": lambda c: torch.rand(2, c, 64, 64).contiguous(memory_format=torch.channels_last),
    "gradient": lambda c: torch.rand(1, c, 64, 64, requires_grad=True),
    "parameter": lambda c: nn.Parameter(torch.rand(1, c, 64, 64)),
    "array": lambda c: np.zeros((1, c, 64, 64), np.float32),
    "list": lambda c: [torch.rand(c, 64, 64)],
    "tuple": lambda c: (torch.rand(1, c, 64, 64),),
    "none": lambda c: None,
    "text": lambda c: "image.png",
    "dict": lambda c: {"x": torch.rand(1, c, 64, 64)},
    "image": lambda c: Image.new("RGB", (64, 64)),
    "inference": lambda c: inference_tensor(c),
    "huge values": lambda c: torch.full((1, c, 64, 64), 1e30),
}
STATES: dict[str, Callable[[Any], Any]] = {
    "train": lambda net: net.train(),
    "eval": lambda net: net.eval(),
    "fused": lambda net: net.fuse(),
    "half": lambda net: net.half(),
    "double": lambda net: net.double().eval(),
    "checkpointing": lambda net: setattr(net, "grad_checkpointing", True) or net.train(),
    "meta": lambda net: net.to("meta"),
}


def inference_tensor(channels: int) -> torch.Tensor:
    with torch.inference_mode():
        return torch.rand(1, channels, 64, 64)


class Forward:
    """Odd inputs of networks in odd states."""

    def __init__(self):
        self.archs = (*ARCHS, "hornet_tiny_7x7")

    def make(self, rng: Random) -> tuple[str, str, str, int]:
        return rng.choice(self.archs), rng.choice(list(STATES)), rng.choice(list(TENSORS)), rng.choice((3, 3, 1, 4))

    def run(self, given: tuple[str, str, str, int]) -> None:
        arch, state, kind, channels = given
        torch.manual_seed(0)
        net = STATES[state](backbones.create_backbone(arch, in_chans=channels))
        x = TENSORS[kind](channels)
        maps = net(x)
        if [m.shape[1] for m in maps] != [info.channels for info in net.feature_info]:
            raise Wrong(f"channels {[m.shape[1] for m in maps]}, and feature_info {net.feature_info}")
        for m, info in zip(maps, net.feature_info):
            if any(abs(side - given / info.stride) >= 1 for side, given in zip(m.shape[2:], x.shape[2:])):
                raise Wrong(f"a map {tuple(m.shape)} of an input {tuple(x.shape)} by stride {info.stride}")
        finite = not maps[0].is_meta and kind != "huge values" and state != "half"
        if finite and not all(torch.isfinite(m).all() for m in maps):
            raise Wrong("maps are not finite")
