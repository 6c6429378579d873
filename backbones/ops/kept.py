"""Tensors that are made once and kept for the next calls, up to so many bytes."""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor


class Kept:
    """The tensors made for each key. The last made stay, whatever their size, and others while ``limit`` bytes allow.

    Copies and pickles of it are empty.
    """

    def __init__(self, limit: int):
        self.limit, self.values = limit, {}

    def get(self, key: Hashable, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """The tensors kept for ``key``; those of ``make()`` where there are none."""
        if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
            return make()  # a captured graph holds nothing before it runs, and reads its tensors for ever
        values = self.values  # replaced, never changed: threads may share it
        if key not in values:
            with torch.inference_mode(False), torch.no_grad():  # else they could not serve a backward pass later
                values = {**values, key: make()}
            while len(values) > 1 and sum(t.nbytes for tensors in values.values() for t in tensors) > self.limit:
                del values[next(iter(values))]
            self.values = values
        return values[key]

    def __len__(self) -> int:
        return len(self.values)

    def clear(self) -> None:
        self.values = {}

    def __getstate__(self) -> dict:
        return {"limit": self.limit, "values": {}}
