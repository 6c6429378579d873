"""One cache for the tensors that operations make once and use in later calls."""

import weakref
from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor, nn

LIMIT = 256 << 20  # bytes in the whole process; the codes of pvig_small at 800x1344 take 53 MiB


class Entry(NamedTuple):
    """What is kept for a key.

    Attributes:
        tensors: what ``make`` gave.
        source: the tensor whose values went in, or None; ``state`` is what it was then.
    """

    tensors: tuple[Tensor, ...]
    source: weakref.ref | None
    state: tuple

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in self.tensors)


class TensorCache:
    """Tensors by key, up to ``limit`` bytes together; the first made go first."""

    def __init__(self, limit: int):
        self.limit = limit
        self.entries: dict[Hashable, Entry] = {}  # replaced, never changed: threads may share it

    def get(
        self, key: Hashable, make: Callable[[], tuple[Tensor, ...]], like: Tensor, source: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The tensors kept for ``key``; those of ``make()`` where there are none or where none may be kept.

        Args:
            key: all that ``make`` depends on, but for the values of ``source``.
            make: gives a tuple of tensors; not all of one call's results need the gradient mode of that call.
            like: the tensor that the results are used with, of their device.
            source: the tensor from whose values they are made, if any. Another version of it, or other memory, makes
                them anew. A write through ``source.data`` leaves no trace: call :meth:`forget` then.
        """
        if not may_keep(like) or (source is not None and (not may_keep(source) or source.is_inference())):
            return make()
        key, state = (id(source), key), state_of(source)
        entry = self.entries.get(key)
        if entry is None or entry.state != state or (source is not None and entry.source() is not source):
            with torch.inference_mode(False), torch.no_grad():  # else they could not serve a backward pass later
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
        """Drops what was made from the values of ``source``, but for what was made from this state of it."""
        if source is not None:
            self.drop(id(source), state)

    def drop(self, number: int, state: tuple | None = None) -> None:
        """:meth:`forget` by the ``id`` of a source."""
        self.entries = {
            key: entry for key, entry in self.entries.items() if key[0] != number or (state and entry.state == state)
        }


def state_of(source: Tensor | None) -> tuple:
    """What changes when the values of ``source`` do."""
    return () if source is None else (source.data_ptr(), source._version, source.device, source.dtype, source.shape)


def may_keep(like: Tensor) -> bool:
    """Whether tensors made now, beside ``like``, are plain values that later calls can use.

    Not in a graph that is compiled, exported or traced. Not beside a subclass of Tensor, as fake tensors and DTensor
    are. Not within a transform of ``torch.func``. Not while a CUDA graph is captured: the graph's memory holds nothing
    before the graph runs, and the graph reads its tensors for ever.
    """
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or type(like) not in (Tensor, nn.Parameter)
        or torch._C._functorch.peek_interpreter_stack() is not None
        or (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())
    )


CACHE = TensorCache(LIMIT)
