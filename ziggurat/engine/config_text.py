"""The text of a config, from which the same config is read again."""

from mmengine.config import Config

FILLED_IN, ESCAPED = "{{", "{\\x7b"  # the same two characters for Python, in a text between quotes


def text_of(cfg: Config) -> str:
    """A config as a Python file. A name such as ``{{ fileDirname }}`` or ``{{$HOME:x}}`` in it stays what it is.

    mmengine would fill in these, of which a file of classes may have any, when it reads the file.
    """
    return cfg.pretty_text.replace(FILLED_IN, ESCAPED)
