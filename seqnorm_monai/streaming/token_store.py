"""Where the tokens of a large image are kept between two layers: in memory, or in files that are read and written.

Files are read and written, not mapped: a mapped page counts as memory of the process, a file's cache does not.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

import torch
from torch import Tensor


class TokenStore(Protocol):
    """An array (tokens, C), read and written by ranges of tokens; 0 until it is written."""

    def read(self, start: int, stop: int) -> Tensor:
        """Tokens start to stop, (1, stop - start, C), that the caller may keep."""

    def write(self, start: int, tokens: Tensor) -> None:
        """Put (1, n, C) at start to start + n."""

    def flush(self) -> None:
        """Return when everything written is safe from the end of the process."""

    def close(self) -> None:
        """Give back the memory or the file."""


class MemoryStore:
    """Tokens in memory: tokens * C numbers."""

    def __init__(self, tokens: int, hidden_size: int, dtype: torch.dtype) -> None:
        self.tokens = torch.zeros(tokens, hidden_size, dtype=dtype)

    def read(self, start: int, stop: int) -> Tensor:
        return self.tokens[start:stop].clone().unsqueeze(0)

    def write(self, start: int, tokens: Tensor) -> None:
        self.tokens[start : start + tokens.shape[1]] = tokens[0]

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.tokens = self.tokens[:0]


class FileStore:
    """Tokens in a file: tokens * C numbers, row after row, in the machine's byte order.

    Args:
        stream: opened for reading and writing, unbuffered; closed with the store.
    """

    def __init__(self, stream: BinaryIO, tokens: int, hidden_size: int, dtype: torch.dtype) -> None:
        self.stream = stream
        self.hidden_size = hidden_size
        self.dtype = dtype
        self.row = hidden_size * dtype.itemsize
        os.truncate(stream.fileno(), tokens * self.row)

    def read(self, start: int, stop: int) -> Tensor:
        tokens = torch.empty(1, stop - start, self.hidden_size, dtype=self.dtype)
        view = memoryview(tokens.numpy()).cast("B")
        self.stream.seek(start * self.row)
        while view:
            count = self.stream.readinto(view)
            if not count:
                raise OSError(f"the token file ends before token {stop}")
            view = view[count:]
        return tokens

    def write(self, start: int, tokens: Tensor) -> None:
        view = memoryview(tokens.detach().to(self.dtype).cpu().contiguous().numpy()).cast("B")
        self.stream.seek(start * self.row)
        while view:
            view = view[self.stream.write(view) :]

    def flush(self) -> None:
        os.fsync(self.stream.fileno())

    def close(self) -> None:
        self.stream.close()


class TokenStores:
    """The stores of a run, by layer: the input of layer l lies in store l modulo ``slots``. They close with the block.

    One slot: each layer's output takes its input's place. Two: the input of the layer at work stays whole, so that
    a run can go on from it after a kill. As many as there are layers: all inputs are there for the backward pass.

    Args:
        folder: where the files lie; None for memory. Made if needed.
        tokens: rows of each store.
        hidden_size: C.
        dtype: of the numbers.
        slots: how many stores; each needs tokens * C numbers of memory or disk, from its first use on.
        named: files that outlive the process, ``tokens.0`` and so on, instead of files that no crash leaves behind.
    """

    def __init__(
        self, folder: Path | None, *, tokens: int, hidden_size: int, dtype: torch.dtype, slots: int, named: bool = False
    ) -> None:
        self.folder = folder
        self.shape = (tokens, hidden_size, dtype)
        self.slots = slots
        self.named = named
        self._stores: dict[int, TokenStore] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> TokenStores:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for slot in list(self._stores):
            self.close(slot)

    def close(self, layer: int) -> None:
        """Give back the memory or the file of a layer's store."""
        store = self._stores.pop(layer % self.slots, None)
        if store is not None:
            store.close()

    def __getitem__(self, layer: int) -> TokenStore:
        slot = layer % self.slots
        if slot not in self._stores:
            self._stores[slot] = self._create(slot)
        return self._stores[slot]

    def _create(self, slot: int) -> TokenStore:
        if self.folder is None:
            return MemoryStore(*self.shape)
        if self.named:
            path = self.folder / f"tokens.{slot}"
            # w+b would empty the file that the run goes on from
            stream = path.open("r+b" if path.exists() else "w+b", buffering=0)
        else:
            # closed with the store, not here
            stream = tempfile.TemporaryFile(dir=self.folder, prefix="tokens.", buffering=0)  # noqa: SIM115
        return FileStore(stream, *self.shape)

    def require(self, layer: int) -> None:
        """Refuse to go on from a named file that is missing, or not as long as this run would have left it.

        Raises:
            ValueError: naming the file.
        """
        tokens, hidden_size, dtype = self.shape
        path, size = self.folder / f"tokens.{layer % self.slots}", tokens * hidden_size * dtype.itemsize
        found = path.stat().st_size if path.exists() else 0
        if found != size:
            raise ValueError(f"{path} has {found} bytes instead of {size}: delete the folder or choose another")

    def remove_files(self) -> None:
        """Delete the named files of this run."""
        if self.folder is not None and self.named:
            for slot in range(self.slots):
                (self.folder / f"tokens.{slot}").unlink(missing_ok=True)
