"""Adds one start-up file to what pyproject.toml describes: it puts `mmcv_ops` in place when the interpreter starts.

Python reads every `.pth` file of site-packages at start. So mm's own tools find operators in any order of imports.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

START_UP = "ziggurat_mmcv_ops.pth"
# One line, as such files want it. The package may be gone, for example the folder of an editable install.
LINE = r'exec("try:\n    from mmcv_ops.finder import start\n    start()\nexcept ImportError:\n    pass")'


class BuildWithStartUp(build_py):
    """The packages, and the start-up file beside them: in a wheel, or in the wheel of an editable install."""

    def run(self) -> None:
        super().run()
        file = self.start_up_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"import sys; {LINE}\n")

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), str(self.start_up_file())]

    def start_up_file(self) -> Path:
        # An editable wheel leaves the built packages out; what is installed is written straight into it.
        folder = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        return Path(folder, START_UP)


setup(cmdclass={"build_py": BuildWithStartUp})
