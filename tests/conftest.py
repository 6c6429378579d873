"""Set-up of all tests: one thread per process, a work folder as current directory, the place of the parity files."""

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
# A few parity files travel with the tests; the full set is used where it lies beside the repository.
PARITY = [folder for folder in (ROOT / "tests/data/parity", ROOT.parent / "shared/parity") if folder.is_dir()]
TOOLS = ("bench", "demo", "docs", "heads", "launch", "reliability", "setup")
for folder in (ROOT, ROOT / "tools", *(ROOT / "tools" / name for name in TOOLS)):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

# Several test processes share the cores; spinning OpenMP threads would slow each other down many times.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ZIGGURAT_NO_WATCHDOG", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
torch.backends.cudnn.allow_tf32 = False  # on a GPU, sums are compared to more digits than TF32 has


def pytest_report_header():
    return f"torch: {torch.backends.cpu.get_cpu_capability()} kernels, threads: {torch.get_num_threads()}"


def pytest_collection_modifyitems(items):
    """The parity tests stay as they came, so their marker is set here: one format of each network is enough."""
    for item in items:
        if item.path.name == "test_parity.py" and re.search(r"equal_the_official_ones.*\.official[.\]]", item.name):
            item.add_marker("numeric")


def load_fill():
    spec = importlib.util.spec_from_file_location("parity_fill", PARITY[0] / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cut_depths(monkeypatch):
    """Gives an arch so many blocks in each stage."""

    def cut(arch, depths):
        from backbones.registry import family_of

        family = family_of(arch)
        monkeypatch.setattr(family, "ARCHS", family.ARCHS | {arch: family.ARCHS[arch]._replace(depths=depths)})

    return cut


@pytest.fixture(scope="module")
def noise_images(tmp_path_factory):
    """The folder of images that tools/reliability/paper_run.py trains on."""
    from paper_run import write_images

    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def shallow_van():
    """VAN-B0 with one block in each stage."""
    from backbones import VAN

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VAN, "ARCHS", VAN.ARCHS | {"van_b0": VAN.ARCHS["van_b0"]._replace(depths=(1, 1, 1, 1))})
        yield


@pytest.fixture
def tiny(cut_depths):
    """Makes backbones with one block a stage, for a compiler that remembers nothing."""

    def make(arch, **kwargs):
        from backbones import create_backbone

        cut_depths(arch, (1, 1, 1, 1))
        torch._dynamo.reset()
        return create_backbone(arch, **kwargs)

    return make


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
