"""The machine and the versions that a measurement belongs to."""

import platform
from importlib import metadata
from pathlib import Path

import torch


def machine(device: torch.device, *packages: str) -> dict[str, str]:
    """``device``, the processor's or GPU's name, ``python``, ``torch``, and the versions of other ``packages``."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        names = [text.split(":", 1)[1].strip() for text in info.splitlines() if text.startswith("model name")]
        name = names[0] if names else platform.processor()
    versions = {package: metadata.version(package) for package in packages}
    return {"device": name, "python": platform.python_version(), "torch": torch.__version__, **versions}
