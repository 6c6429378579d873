"""Adds to what pyproject.toml describes: a start-up file, and beside the package `ziggurat` its tools and configs.

The start-up file puts mmcv's operators in place when the interpreter starts. Python reads every `.pth` file of
site-packages at start. So mm's own tools find operators in any order of imports.

Tools, configs and launch scripts lie in folders of the repository. Installed, they lie in the same folders of the
package `ziggurat`, so their paths are the same from `ziggurat.root.ROOT` on.
"""

from itertools import chain
from pathlib import Path
from shutil import copyfile

from setuptools import setup
from setuptools.command.build_py import build_py

START_UP = "ziggurat_vision.pth"
# One line, as such files want it. The package may be gone, for example the folder of an editable install.
LINE = r'exec("try:\n    from ziggurat.mmcv_ops.finder import start\n    start()\nexcept ImportError:\n    pass")'
# What a user of an installed package has beside the packages.
BESIDE = (
    "tools/*.py",
    "tools/demo/*",
    "tools/launch/*",
    "tools/scenes/*.py",
    "*/configs/**/*.py",
    "*/*.sh",
    "docs/published.json",
)


def files_beside() -> list[Path]:
    """Files of tools and configs, relative to the repository."""
    found = chain.from_iterable(Path().glob(pattern) for pattern in BESIDE)
    return sorted(path for path in found if path.is_file() and "build" not in path.parts)


class BuildWithTools(build_py):
    """The packages, and what belongs beside them. An editable install has the start-up file alone."""

    def run(self) -> None:
        super().run()
        file = self.start_up_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"import sys; {LINE}\n")
        for source, target in self.beside().items():
            target.parent.mkdir(parents=True, exist_ok=True)
            copyfile(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), str(self.start_up_file()), *map(str, self.beside().values())]

    def start_up_file(self) -> Path:
        # An editable wheel leaves the built packages out; what is installed is written straight into it.
        folder = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        return Path(folder, START_UP)

    def beside(self) -> dict[Path, Path]:
        """Each file of tools and configs, and its place in the built package."""
        return {} if self.editable_mode else {path: Path(self.build_lib, "ziggurat", path) for path in files_beside()}


setup(cmdclass={"build_py": BuildWithTools})
