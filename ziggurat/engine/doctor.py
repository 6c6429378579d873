"""The environment that the project runs in: its facts, and known causes of trouble with their cures."""

import importlib
import importlib.util
import locale
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch

from backbones.errors import UserError, one_line
from ziggurat.engine import installed
from ziggurat.engine.findings import UNUSABLE, WARNING, Finding
from ziggurat.engine.machine import machine
from ziggurat.root import ROOT

PROJECT = "ziggurat-vision"
LIBRARIES = ("torch", "torchvision", "timm", *(names[0] for names in installed.PROVIDERS.values()), "numpy", "pillow")
IMPORTED = {"torch": "torch", "torchvision": "torchvision", "timm": "timm", "numpy": "numpy"}
IMPORTED |= {names[0]: package for package, names in installed.PROVIDERS.items()}  # distribution -> its package
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
NEEDS_TORCH = re.compile(r"torch\s*\(?(==|>=)\s*([\d.]*\d)")
OLDEST_TORCH = (2, 10)  # older releases can run code from a weights-only file: CVE-2026-24747
SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED = 1 << 30
LEAST_FILES = 1024
DRIVER = Path("/proc/driver/nvidia/version")


def facts() -> dict[str, str]:
    """What is there: versions, the processor, GPUs, and which of mmcv's operators are used."""
    here = machine(torch.device("cpu"))
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "ziggurat": f"{version_of(PROJECT)} in {ROOT}",
        "python": f"{here['python']} in {sys.prefix}",
        "system": platform.platform(),
        "processor": f"{here['device']}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "gpus": ", ".join(gpus) or "none",
        "cuda of torch": torch.version.cuda or "none",
        **{name: version_of(name) for name in LIBRARIES},
        "mmcv's operators": operators(),
    }


def version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def operators() -> str:
    """Which operators mmcv is given: compiled ones, the project's, or none."""
    if importlib.util.find_spec("mmcv") is None:
        return "none, since mmcv is not installed"
    try:
        origin = importlib.import_module("mmcv._ext").__spec__.origin
    except ImportError as error:
        return f"none: {one_line(error)}"
    return "the project's, on torchvision and PyTorch" if origin == "ziggurat.mmcv_ops" else f"compiled: {origin}"


def findings() -> Iterator[Finding]:
    """What is known to go wrong in such an environment: each with its cure."""
    yield from packages()
    yield from accelerators()
    yield from system()


def packages() -> Iterator[Finding]:
    try:
        installed.check()
    except UserError as error:
        yield Finding("packages-mixed", UNUSABLE, str(error))
    if numbers(torch.__version__) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        yield Finding(
            "torch-old",
            UNUSABLE,
            f"torch is {torch.__version__}; releases before {oldest} can run code from a weights-only file",
            cure=f"pip install 'torch>={oldest}' with the torchvision that belongs to it",
        )
    yield from torchvision_of_another_torch()
    found = [name for name in OPENCV if version_of(name) != "not installed"]
    if len(found) > 1:
        yield Finding(
            "opencv-twice",
            WARNING,
            f"installed together: {', '.join(found)}; they overwrite each other's files",
            cure=f"pip uninstall {' '.join(found)}, then pip install 'opencv-python-headless<5'",
        )
    for name in found:
        if numbers(version_of(name)) >= (5,):
            yield Finding(
                "opencv-new",
                WARNING,
                f"{name} is {version_of(name)}; mmcv's image functions are written for OpenCV 4",
                cure=f"pip install '{name}<5'",
            )
    folder = Path(importlib.util.find_spec("ziggurat").origin).parent.parent
    for name in ("backbones", "classification", "detection", "segmentation"):
        there = importlib.util.find_spec(name)
        place = Path(there.origin or "nowhere").parent if there else None
        if place is None or place.resolve().parent != folder.resolve():
            yield Finding(
                "package-hidden",
                UNUSABLE,
                f"the package {name} is {place}, and not the project's in {folder}",
                cure=f"start from another folder, or rename {place}",
            )
    yield from packages_elsewhere()
    if not operators().startswith(("compiled", "the project's", "none, since")):
        yield Finding(
            "operators-absent",
            UNUSABLE,
            f"mmcv's operators are not there: {operators().removeprefix('none: ')}",
            cure="pip install --force-reinstall --no-deps onedl-mmcv, and ZIGGURAT_NO_MMCV_OPS not set; or a compiled "
            "mmcv for this torch",
        )


def packages_elsewhere() -> Iterator[Finding]:
    """Packages that are imported from another place than the one that their distribution was installed in."""
    for distribution, name in IMPORTED.items():
        there = importlib.util.find_spec(name)
        if there is None or version_of(distribution) == "not installed":
            continue
        files = metadata.distribution(distribution)
        is_editable = files.read_text("direct_url.json") is not None  # its folder may be anywhere
        wanted = Path(str(files.locate_file(name))).resolve()
        found = Path(there.origin or next(iter(there.submodule_search_locations or ["nowhere"]))).resolve()
        if not is_editable and wanted not in (found.parent, found):
            yield Finding(
                "package-hidden",
                UNUSABLE,
                f"the package {name} is imported from {found.parent}, and {distribution} is installed in {wanted}",
                cure=f"take {found.parent.parent} from PYTHONPATH, or start from another folder",
            )


def torchvision_of_another_torch() -> Iterator[Finding]:
    """torchvision's compiled operators are built against a release of torch, which its metadata name."""
    if version_of("torchvision") == "not installed":
        return
    needs = next(filter(None, map(NEEDS_TORCH.match, metadata.requires("torchvision") or [])), None)
    if needs is None:
        return
    here, there = numbers(torch.__version__), numbers(needs[2])
    if here[: len(there)] != there if needs[1] == "==" else here < there:
        yield Finding(
            "torchvision-mismatch",
            UNUSABLE,
            f"torchvision {version_of('torchvision')} needs torch{needs[1]}{needs[2]}; torch is {torch.__version__}",
            cure=f"pip install 'torch{needs[1]}{needs[2]}', or the torchvision that belongs to this torch",
        )


def numbers(version: str) -> tuple[int, ...]:
    """The release of a version, such as (2, 14, 1) for 2.14.1+cu130."""
    return tuple(map(int, re.match(r"[\d.]*\d", version)[0].split(".")))


def accelerators() -> Iterator[Finding]:
    if DRIVER.exists() and not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        yield Finding(
            "gpu-unused",
            WARNING,
            f"there is an NVIDIA driver, and no GPU that torch can use; {built}",
            cure="install torch for the driver's CUDA (pytorch.org), and look at CUDA_VISIBLE_DEVICES",
        )
    built_for = torch.cuda.get_arch_list() if torch.cuda.is_available() else []
    for number in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(number)
        newest = max((int(name[3:].rstrip("af")) for name in built_for if name.startswith("sm_")), default=0)
        if built_for and major * 10 + minor > newest and f"compute_{major}{minor}" not in built_for:
            yield Finding(
                "gpu-too-new",
                WARNING,
                f"{torch.cuda.get_device_name(number)} is of {major}.{minor}; torch has {', '.join(built_for)}",
                cure="install a newer torch",
            )


def system() -> Iterator[Finding]:
    if SHARED_MEMORY.is_dir() and (size := shutil.disk_usage(SHARED_MEMORY).total) < LEAST_SHARED:
        yield Finding(
            "shared-memory-small",
            WARNING,
            f"{SHARED_MEMORY} has {size >> 20} MiB; loaders' workers then end with 'Bus error'",
            cure="docker run --shm-size=8g, or --cfg-options train_dataloader.num_workers=0",
        )
    files = open_files()
    if files is not None and files < LEAST_FILES:
        yield Finding(
            "open-files-few",
            WARNING,
            f"a process may open {files} files; loaders then end with 'Too many open files'",
            cure="ulimit -n 4096",
        )
    encoding = locale.getpreferredencoding(False)
    if encoding.lower().replace("-", "") not in ("utf8", "cp65001"):
        yield Finding(
            "locale-not-utf8",
            WARNING,
            f"the system's text encoding is {encoding}; names of files and classes in other letters cannot be read",
            cure="export LC_ALL=C.UTF-8, or PYTHONUTF8=1",
        )


def open_files() -> int | None:
    """How many files a process may open; None where the system does not say."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft
