"""All networks as backbones of Hugging Face transformers: ``import backbones.transformers``, then

config = ZigguratConfig(arch="van_b2", out_indices=[1, 2, 3, 4])
net = AutoBackbone.from_config(config)  # or a head's config with backbone_config=config

The outputs are transformers' ``BackboneOutput`` with ``feature_maps``. This module alone imports transformers.
"""

from typing import Any

from torch import Tensor
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from backbones.registry import create_backbone, family_of

STAGES = ("stage1", "stage2", "stage3", "stage4")


class ZigguratConfig(BackboneConfigMixin, PreTrainedConfig):
    """The structure of a backbone.

    Args:
        arch: one of ``backbones.list_archs()``.
        num_channels: of the input.
        drop_path_rate: stochastic depth of the last block.
        options: other arguments of :func:`backbones.create_backbone`, such as ``{"output_stride": 16}``.
        out_features, out_indices: the maps that are returned, by name (``"stage1"`` to ``"stage4"``) or by number
            from 0, one of the two; by default the last map.
    """

    model_type = "ziggurat"
    attribute_map = {"num_hidden_layers": "num_stages"}

    arch: str = "van_b0"
    num_channels: int = 3
    drop_path_rate: float = 0.0
    options: dict[str, Any] | None = None
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs: Any):
        row = family_of(self.arch).ARCHS[self.arch]
        self.depths, self.hidden_sizes, self.num_stages = list(row.depths), list(row.embed_dims), len(row.depths)
        self.stage_names = list(STAGES)
        self.set_output_features_output_indices(
            out_indices=kwargs.pop("out_indices", None), out_features=kwargs.pop("out_features", None)
        )
        super().__post_init__(**kwargs)


class ZigguratBackbone(BackboneMixin, PreTrainedModel):
    """A network of this package with the protocol of transformers' backbones."""

    config_class = ZigguratConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    has_attentions = False

    def __init__(self, config: ZigguratConfig):
        super().__init__(config)
        self.net = create_backbone(
            config.arch,
            out_indices=tuple(config.out_indices),
            in_chans=config.num_channels,
            drop_path_rate=config.drop_path_rate,
            **(config.options or {}),
        )
        self.num_features = config.hidden_sizes
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """The network has its own initial values."""

    def _set_gradient_checkpointing(self, enable: bool = True, **options: Any) -> None:
        self.net.grad_checkpointing = enable

    def forward(self, pixel_values: Tensor, return_dict: bool | None = None, **options: Any) -> Any:
        """(B, num_channels, H, W), normalised, to ``feature_maps``: one (B, C_i, H_i, W_i) map per out_indices."""
        maps = self.net(pixel_values)
        return BackboneOutput(feature_maps=maps) if return_dict is not False else (maps,)


AutoConfig.register("ziggurat", ZigguratConfig)
AutoBackbone.register(ZigguratConfig, ZigguratBackbone)
