"""A bundle as one `model.tar.gz`: the same bytes for the same files, made while they are read."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

_BLOCK = 512  # tar's own unit
_READ = 2**20
_GZIP = 16 + zlib.MAX_WBITS  # zlib's word for a gzip frame; it writes no time and no name
# Only framed: int8 weights would shrink by a tenth, for 15 times the time here and at each start.
_LEVEL = 0


def stream(bundle: Path, names: Iterable[str]) -> Iterator[bytes]:
    """The archive of these files in this order, in pieces.

    Owners, times and modes of the files do not show, so equal content gives equal bytes.

    Args:
        bundle: the bundle's folder.
        names: files below it, with forward slashes.
    """
    squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for piece in _tar(bundle, names):
        if squeezed := squeeze.compress(piece):
            yield squeezed
    yield squeeze.flush()


class Reader:
    """A stream of pieces as a file that can only be read on."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = bytearray()

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, all that is left for -1; fewer only at the end."""
        while size < 0 or len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest += piece
        end = len(self._rest) if size < 0 else size
        data = bytes(self._rest[:end])
        del self._rest[:end]
        return data


def _tar(bundle: Path, names: Iterable[str]) -> Iterator[bytes]:
    for name in names:
        path = bundle / name
        entry = tarfile.TarInfo(name)
        entry.size = path.stat().st_size
        yield entry.tobuf(tarfile.PAX_FORMAT)
        left = entry.size
        with path.open("rb") as file:
            while left:
                data = file.read(min(_READ, left))
                if not data:
                    raise OSError(f"{path} became shorter while it was read")
                left -= len(data)
                yield data
        yield bytes(-entry.size % _BLOCK)
    yield bytes(2 * _BLOCK)
