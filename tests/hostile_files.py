"""Checkpoint files that somebody made to harm their reader, each by a name that says how.

``HOSTILE`` maps the name to what writes the file, and to words of the one line by which it is refused. Code in a file
would make the folder ``ran`` in the current directory.
"""

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import torch

MANY = 30 << 30  # bytes
REFUSED, DAMAGED, CODE = "refused: ", "not a checkpoint, or cut off: ", "which can run code"


class Hostile(NamedTuple):
    """A kind of hostile file: what writes one to a path, words of its refusal (``|`` stands for "or"), the suffix."""

    write: Callable
    words: str
    suffix: str = ".pth"


# Instructions of pickle, written out: a pickler would not write most of these.
def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value):
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def tupled(*parts):
    return b"(" + b"".join(parts) + b"t"


def called(function, *arguments):
    return function + tupled(*arguments) + b"R"


def entry(value, key="a"):
    """A dict of one entry."""
    return b"}" + text(key) + value + b"s"


def stored(numel, key="0", kind="FloatStorage"):
    parts = (text("storage"), named("torch", kind), text(key), text("cpu"), integer(numel))
    return tupled(*parts) + b"Q"


def tensor(size=(2,), stride=(1,), offset=0, numel=2, key="0"):
    numbers = (tupled(*map(integer, values)) for values in (size, stride))
    hooks = called(named("collections", "OrderedDict"))
    function = named("torch._utils", "_rebuild_tensor_v2")
    return called(function, stored(numel, key), integer(offset), *numbers, b"\x89", hooks)


def asks(module, name, *arguments):
    """Writes an archive that calls a function of these arguments."""
    return archived(entry(called(named(module, name), *arguments)))


def archived(instructions, parts=None, method=zipfile.ZIP_STORED):
    """Writes an archive as torch.save does, with these instructions and parts."""

    def write(path):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + instructions + b".")
            archive.writestr("archive/byteorder", "little")
            for name, data in {"data/0": bytes(8), **(parts or {})}.items():
                archive.writestr(f"archive/{name}", data)
            archive.writestr("archive/version", "3\n")

    return write


def raw(instructions, end=b"."):
    return lambda path: path.write_bytes(instructions + end)


def saved(content, **how):
    return lambda path: torch.save(content, path, **how)


MKDIR = called(named("os", "mkdir"), text("ran"))
OLD = tuple(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))


def old_format(instructions, rest=b"\x80\x02]."):
    return raw(b"".join(OLD) + b"\x80\x02" + instructions + b"." + rest, end=b"")


def header(text, body=b""):
    """Writes a .safetensors file with this header."""
    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    return lambda path: path.write_bytes(struct.pack("<Q", len(data)) + data + body)


def twice(path, second="data.pkl"):
    archived(entry(b"N"))(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"archive/{second}", b"\x80\x02" + MKDIR + b".")


def with_archive_behind(path):
    """The old format at the front, a harmless archive at the end."""
    old_format(MKDIR)(path)
    harmless = io.BytesIO()
    archived(entry(b"N"))(harmless)
    path.write_bytes(path.read_bytes() + harmless.getvalue())


def old_tar(path):
    with tarfile.open(path, "w") as archive:
        for name in ("pickle", "storages", "tensors"):
            part = tarfile.TarInfo(name)
            part.size = len(MKDIR) + 1
            archive.addfile(part, io.BytesIO(MKDIR + b"."))


def laughs():
    """Each list holds the one before ten times. Memory holds 30 lists, a walk would pass 10 ** 30."""
    steps = b"]q\x00"
    for i in range(30):
        steps += b"](" + b"h%c" % i * 10 + b"eq%c" % (i + 1)
    return b"(" + steps + b"t"


def deep(levels):
    return b"]" * levels + b"a" * (levels - 1)


def many_tensors(path, count=31_000):
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(count):
            archive.writestr(f"archive/data/{i}", b"")
        archive.writestr("archive/data.pkl", b"\x80\x02}.")


def flat(names):
    return {name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for name in names}


def numpy_scalar(code, state, data):
    kind = called(named("numpy", "dtype"), text(code), b"\x89", b"\x88") + state + b"b"
    return called(named("numpy.core.multiarray", "scalar"), kind, data)


def numpy_state(size=integer(-1), fields=b"N", order="<"):
    return tupled(integer(3), text(order), b"N", b"N", fields, size, integer(-1), integer(0))


def rebuilt(name, *arguments):
    return archived(entry(called(named("torch._utils", name), *arguments)))


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE = {
    # Code.
    "code in an archive": Hostile(archived(entry(MKDIR)), CODE),
    "code in the old format": Hostile(old_format(entry(MKDIR)), CODE),
    "code in the first pickle of the old format": Hostile(raw(b"\x80\x02" + MKDIR), CODE),
    "code in a pickle of protocol 4": Hostile(
        raw(b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93" + text("ran") + b"\x85R"), REFUSED
    ),
    "code by the instruction INST": Hostile(archived(entry(b"(" + text("ran") + b"ios\nmkdir\n")), REFUSED),
    "code by the instruction OBJ": Hostile(archived(entry(b"(" + named("os", "mkdir") + text("ran") + b"o")), CODE),
    "code by the instruction NEWOBJ": Hostile(
        archived(entry(named("subprocess", "Popen") + tupled(text("mkdir ran")) + b"\x81")), CODE
    ),
    "code by an extension number": Hostile(archived(entry(b"\x82\x01")), REFUSED),
    "eval": Hostile(asks("__builtin__", "eval", text("__import__('os').mkdir('ran')")), CODE),
    "getattr of a module": Hostile(
        archived(
            entry(called(named("__builtin__", "getattr"), called(named("__builtin__", "__import__"), text("os"))))
        ),
        CODE,
    ),
    "a load inside a load": Hostile(asks("torch.storage", "_load_from_bytes", text("x")), CODE),
    "torch.hub": Hostile(asks("torch.hub", "load", text("a/b"), text("c")), CODE),
    "a name with a dot": Hostile(archived(entry(named("torch", "Size.__class__"))), CODE),
    "code in a second part of one name": Hostile(twice, "two parts of one name"),
    "code in a part of another case": Hostile(lambda path: twice(path, "DATA.pkl"), "two parts of one name"),
    "code before an archive": Hostile(with_archive_behind, CODE),
    "code in a tar archive": Hostile(old_tar, DAMAGED),
    "a TorchScript program": Hostile(
        archived(entry(b"N"), {"constants.pkl": b"\x80\x02).", "code/a.py": b"x"}), DAMAGED
    ),
    "a slow codec": Hostile(asks("_codecs", "encode", text("\u00e9" * 9), text("IDNA")), REFUSED),
    # Objects of numpy, which crashed the process.
    "a numpy scalar that is a pointer": Hostile(
        archived(entry(numpy_scalar("O8", numpy_state(order="|"), text("AAAAAAAA")))), DAMAGED
    ),
    "a numpy scalar of a length that does not fit": Hostile(
        archived(entry(numpy_scalar("f8", numpy_state(), text("abc")))), DAMAGED
    ),
    "a numpy type with fields": Hostile(
        archived(entry(numpy_scalar("V8", numpy_state(integer(1 << 30), tupled(text("a"))), text("a")))), DAMAGED
    ),
    "a numpy array of objects": Hostile(asks("numpy", "array", text("a")), CODE),
    # Tensors.
    "30 GB in a tensor of 8 bytes": Hostile(archived(entry(tensor((MANY // 4,)))), "larger tensors|Error"),
    "strides beyond the storage": Hostile(archived(entry(tensor((2, 2), (1 << 28, 1)))), "larger tensors|Error"),
    "an offset beyond the storage": Hostile(archived(entry(tensor(offset=1 << 28))), "larger tensors|Error"),
    "a negative offset": Hostile(archived(entry(tensor(offset=-4))), DAMAGED),
    "a negative size": Hostile(archived(entry(tensor((-2,)))), DAMAGED),
    "negative strides": Hostile(archived(entry(tensor((2,), (-1,), 1))), DAMAGED),
    "sizes whose product overflows": Hostile(
        archived(entry(tensor((1 << 40, 1 << 40), (0, 0)))), DAMAGED + "|" + REFUSED
    ),
    "one number shown 100 billion times": Hostile(archived(entry(tensor((10**11,), (0,)))), "describes more than"),
    "a storage larger than its part": Hostile(archived(entry(tensor(numel=MANY // 4))), DAMAGED),
    "a storage without its part": Hostile(archived(entry(tensor(key="7"))), DAMAGED),
    "a storage outside the archive": Hostile(archived(entry(tensor(key="../../../etc/passwd"))), DAMAGED),
    "a storage of no type": Hostile(archived(entry(tupled(text("storage"), text("a")) + b"Q")), DAMAGED),
    "a persistent id that is text": Hostile(archived(entry(text("storage") + b"Q")), DAMAGED),
    "a persistent id of a module": Hostile(archived(entry(tupled(text("module"), text("os")) + b"Q")), DAMAGED),
    "30 GB from a number": Hostile(asks("torch", "FloatTensor", integer(MANY)), CODE),
    "a byte array of 30 GB": Hostile(asks("__builtin__", "bytearray", integer(MANY)), CODE),
    "storages of 30 GB in memory": Hostile(asks("torch.storage", "UntypedStorage", integer(MANY)), DAMAGED),
    "storages of 30 GB in the old format": Hostile(old_format(entry(tensor(numel=MANY // 4))), DAMAGED + "|larger"),
    "storages of the old format that do not follow": Hostile(old_format(entry(tensor())), "larger tensors|" + DAMAGED),
    "a sparse tensor": Hostile(saved({"a": torch.eye(2).to_sparse()}), CODE),
    "a quantised tensor": Hostile(rebuilt("_rebuild_qtensor", stored(2), b"N"), CODE),
    "a tensor without values": Hostile(saved({"a": torch.zeros(2, device="meta")}), CODE),
    "a nested tensor": Hostile(rebuilt("_rebuild_nested_tensor", b"N", b"N", b"N", b"N"), CODE),
    "a wrapped tensor": Hostile(rebuilt("_rebuild_wrapper_subclass", b"N"), CODE),
    # Sizes and shapes of the content.
    "a zip bomb": Hostile(
        archived(entry(b"N"), {"data/1": bytes(20 << 20)}, zipfile.ZIP_DEFLATED), "more bytes than it has"
    ),
    "lists 100,000 deep": Hostile(archived(entry(deep(100_000))), "nested deeper"),
    "lists 100,000 deep in the old format": Hostile(old_format(entry(deep(100_000))), "nested deeper"),
    "a list that holds itself": Hostile(archived(entry(b"]q\x00h\x00a")), "contains itself"),
    "lists of lists of lists": Hostile(archived(entry(laughs())), "describes more than"),
    "600,000 names": Hostile(
        archived(b"}(" + b"".join(text(f"a{i}") + b"K\x01" for i in range(600_000)) + b"u"), "too many parts"
    ),
    "31,000 tensors": Hostile(many_tensors, "holds 31001 parts"),
    "keys with one hash": Hostile(
        archived(b"}(" + b"".join(integer(i * (2**61 - 1) << 40) + b"N" for i in range(1, 20_000)) + b"u"), REFUSED
    ),
    "a key that cannot be a key": Hostile(archived(b"}]Ns"), DAMAGED),
    "what was never kept": Hostile(archived(entry(b"h\x63")), DAMAGED),
    "an empty stack": Hostile(archived(b"\x85\x85R"), DAMAGED),
    "a text of 4 GB": Hostile(archived(entry(b"X\xff\xff\xff\xffabc")), DAMAGED),
    "a list": Hostile(archived(b"]"), "holds a list"),
    "a tensor alone": Hostile(archived(tensor()), "holds a Tensor"),
    # .safetensors
    "a header of 2 ** 62 bytes": Hostile(raw(struct.pack("<Q", 1 << 62)), DAMAGED, ".safetensors"),
    "a header larger than its file": Hostile(raw(struct.pack("<Q", 1 << 20) + b"{"), DAMAGED, ".safetensors"),
    "a header 100,000 deep": Hostile(header(b'{"a":' + b"[" * 100_000), DAMAGED, ".safetensors"),
    "a million names in a header": Hostile(header(flat(map(str, range(10**6)))), "holds 1000000", ".safetensors"),
    "offsets beyond the file": Hostile(header({"a": {**ONE, "data_offsets": [0, MANY]}}), DAMAGED, ".safetensors"),
    "two tensors in one place": Hostile(header({"a": ONE, "b": ONE}, bytes(8)), DAMAGED, ".safetensors"),
    "a shape that overflows": Hostile(
        header({"a": {**ONE, "shape": [1 << 40, 1 << 40]}}, bytes(8)), DAMAGED, ".safetensors"
    ),
    "a type that is not known": Hostile(header({"a": {**ONE, "dtype": "O"}}, bytes(8)), DAMAGED, ".safetensors"),
    "a description 100,000 deep": Hostile(
        header({"__metadata__": {"ziggurat": "[" * 100_000}, "a": ONE}, bytes(8)), DAMAGED, ".safetensors"
    ),
    "a description with a bad tuple": Hostile(
        header({"__metadata__": {"ziggurat": '{"__tuple__": 3}'}, "a": ONE}, bytes(8)), DAMAGED, ".safetensors"
    ),
}
