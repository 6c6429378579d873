"""The network of a store, made again from what the store says of it."""

import torch

from backbones import FeatureExtractor, UserError
from backbones.checks import check_device
from backbones.store import FeatureStore
from ziggurat.engine.features.network import network_of
from ziggurat.engine.features.run import settings_of


def extractor_of(store: FeatureStore, weights: str | None, device: str) -> FeatureExtractor:
    """The network with the weights, stages, types and preprocessing that the store records.

    Args:
        store: the store.
        weights: where its weights are now; None for the place that the store records.
        device: where to compute.

    Raises:
        UserError: the weights cannot be read, or they are others than those of the store.
    """
    check_device(device)
    settings, recorded = store.meta["settings"], store.meta.get("weights")
    given = recorded if weights is None else weights
    try:
        extractor = network_of(
            settings["arch"],
            [int(name.removeprefix("stage")) for name in store.stages],
            given,
            device,
            getattr(torch, settings["computed_in"]),
            short_side=settings["short_side"],
            mean=settings["mean"],
            std=settings["std"],
            reading=settings["reading"],
            which=settings.get("which"),
        )
        found = settings_of(extractor, given, settings["pool"], settings["dtype"])["weights_sha256"]
    except UserError as error:
        if weights is not None or recorded is None:
            raise
        raise UserError(f"the weights of {store.path} are {recorded!r}: {error}; allowed: --weights FILE") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{store.path} does not say how its features were made ({error}); allowed: a store of "
            "tools/extract_features.py"
        ) from None
    if found != settings["weights_sha256"]:
        what = f"{given} is {found[:8]}" if given else f"random weights of this PyTorch are {found[:8]}"
        raise UserError(
            f"{store.path} is of weights with the SHA-256 {settings['weights_sha256'][:8]}, and {what}; "
            "allowed: --weights with the same file"
        )
    return extractor
