"""One cache for the tensors that operations make once and use again, such as the matrices of a Fourier transform."""

import weakref
from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from backbones.ops.exporting import are_free, constants, is_exporting

LIMIT = 256 << 20  # bytes in the whole process; the codes of pvig_small at 800x1344 take 53 MiB


class Entry(NamedTuple):
    """What is kept for a key.

    Attributes:
        tensors: the result of ``make``.
        source: the tensor that they were made from, or None.
        state: :func:`state_of` the source when they were made.
    """

    tensors: tuple[Tensor, ...]
    source: weakref.ref | None
    state: tuple

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in self.tensors)


class TensorCache:
    """Tensors by key, up to ``limit`` bytes together. Beyond the limit the oldest are dropped first."""

    def __init__(self, limit: int):
        self.limit = limit
        self.entries: dict[Hashable, Entry] = {}  # replaced, never changed: threads may share it

    def get(
        self, key: Hashable, make: Callable[[], tuple[Tensor, ...]], like: Tensor, source: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The tensors kept for ``key``. The first call makes them; so does a call where none may be kept.

        Args:
            key: all that ``make`` depends on, except the values of ``source``.
            make: gives a tuple of tensors. Kept tensors carry no gradient.
            like: the tensor that the results are used with, on their device. In a graph that is exported for this size,
                results without a source become constants.
            source: the tensor that the results are computed from, if any. A change of its values or its memory makes
                the results anew. A write through ``source.data`` leaves no trace: call :meth:`forget` after one.
        """
        if source is None and is_exporting() and not are_free(*key):
            return constants(make)
        if not may_keep(like) or (source is not None and (not may_keep(source) or source.is_inference())):
            return make()
        key, state = (id(source), key), state_of(source)
        entry = self.entries.get(key)
        if entry is None or entry.state != state or (source is not None and entry.source() is not source):
            with torch.inference_mode(False), torch.no_grad():  # inference tensors could not serve a backward pass
                tensors = make()
            self.forget(source, state)
            reference = None if source is None else weakref.ref(source, lambda _: self.drop(key[0]))
            entry = Entry(tensors, reference, state)
            self.keep(key, entry)
        return entry.tensors

    def keep(self, key: Hashable, entry: Entry) -> None:
        entries = {**self.entries, key: entry}
        held = sum(entry.nbytes for entry in entries.values())
        for oldest in list(entries):
            if held <= self.limit:
                break
            held -= entries.pop(oldest).nbytes
        self.entries = entries

    def forget(self, source: Tensor | None, state: tuple | None = None) -> None:
        """Drops the tensors made from ``source``, except those made from this ``state`` of the source."""
        if source is not None:
            self.drop(id(source), state)

    def drop(self, number: int, state: tuple | None = None) -> None:
        """:meth:`forget` by the ``id`` of a source."""
        self.entries = {
            key: entry for key, entry in self.entries.items() if key[0] != number or (state and entry.state == state)
        }


def state_of(source: Tensor | None) -> tuple:
    """A tuple that changes when the values of ``source`` change."""
    return () if source is None else (source.data_ptr(), source._version, source.device, source.dtype, source.shape)


def may_keep(like: Tensor) -> bool:
    """Whether tensors made now, beside ``like``, are plain values that later calls can use.

    They are not in four cases:

    - A graph is compiled, exported or traced.
    - ``like`` is of a subclass of Tensor, such as a fake tensor or a DTensor.
    - A transform of ``torch.func`` is at work.
    - A CUDA graph is captured. Its memory holds nothing before the graph runs, and the graph keeps reading it later.
    """
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or type(like) not in (Tensor, nn.Parameter)
        or torch._C._functorch.peek_interpreter_stack() is not None
        or (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())
    )


CACHE = TensorCache(LIMIT)
