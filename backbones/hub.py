"""Backbones on the Hugging Face Hub: saved, loaded and pushed as a safetensors file, a config and a card.

net = HubBackbone("van_b2", pretrained="van_b2.in1k")
net.push_to_hub("me/van_b2")  # or net.save_pretrained("folder")
maps = HubBackbone.from_pretrained("me/van_b2")(images)

This module alone imports huggingface_hub.
"""

from pathlib import Path
from typing import Any

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from backbones.pyramid import FeatureInfo
from backbones.registry import create_backbone

CARD = """---
{{ card_data }}
---

# {{ arch }}

A multi-scale backbone of [Ziggurat]({{ repo_url }}): it gives maps of {{ maps }}.

```python
from backbones.hub import HubBackbone

net = HubBackbone.from_pretrained("{{ model_id | default("FOLDER", true) }}")
maps = net(images)  # (B, {{ in_chans }}, H, W), normalised, to one (B, C, H, W) map per stage, finest first
```
"""


class HubBackbone(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="ziggurat",
    pipeline_tag="image-feature-extraction",
    tags=["backbone", "dense-prediction"],
    model_card_template=CARD,
):
    """A backbone with ``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` of huggingface_hub.

    Args:
        arch: one of ``backbones.list_archs()``.
        **options: of :func:`backbones.create_backbone`. Those of the structure are saved.

    Attributes:
        backbone: the network.
    """

    def __init__(self, arch: str, **options: Any):
        super().__init__()
        self.backbone = create_backbone(arch, **options)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, in_chans, H, W) to one (B, C_i, H_i, W_i) map per out_indices, finest first."""
        return self.backbone(x)

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """Channels and stride of each map."""
        return self.backbone.feature_info

    @property
    def channels(self) -> list[int]:
        """Channels of each map, as heads of transformers ask for them."""
        return [info.channels for info in self.feature_info]

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Writes ``model.safetensors``, ``config.json`` with the structure as it is now, and ``README.md``."""
        self._hub_mixin_config = self.backbone.arguments()  # loaded weights settle some of it
        strides = ", ".join(f"{info.channels} channels at 1/{info.stride}" for info in self.feature_info)
        card = dict(arch=self.backbone.arch, maps=strides, in_chans=self.backbone.in_chans)
        options["model_card_kwargs"] = card | (options.get("model_card_kwargs") or {})
        return super().save_pretrained(save_directory, **options)
