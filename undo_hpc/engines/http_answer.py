"""The body of an HTTP answer, of which a server may send neither too much nor for ever."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import httpx

from undo_hpc.system.credentials import spelled, without

# Of an answer in brotli, or packed twice, a kilobyte may be a gigabyte before anybody counts it.
HEADERS = {"Accept-Encoding": "gzip"}
_PACKED = ("gzip", "x-gzip")


async def read_answer(
    asked: AbstractAsyncContextManager[httpx.Response],
    *,
    patience_s: float,
    most: int,
    secrets: Sequence[str] = (),
) -> tuple[httpx.Response, bytes]:
    """A response with its body, unpacked.

    Args:
        patience_s: seconds from the request to the last byte; httpx counts from one part to the next.
        most: bytes of the body.
        secrets: what the server was sent and may repeat: taken out of the body and of the errors' words, which quote the server.

    Raises:
        httpx.RequestError: no answer, or more than that.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(patience_s), asked as response:
            named = response.headers.get("content-encoding", "identity")
            how = named.strip().lower()
            if how not in ("identity", "", *_PACKED):
                raise httpx.DecodingError(
                    f"the answer is packed as {without(secrets, named)[:40]!r}, which nobody asked for"
                )
            packed = zlib.decompressobj(zlib.MAX_WBITS | 16) if how in _PACKED else None
            async for part in response.aiter_raw():
                body += part if packed is None else packed.decompress(part, most + 1 - len(body))
                if len(body) > most:
                    raise httpx.ReadError(f"the server's answer has more than {most >> 20} MiB")
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"the answer was not complete within {round(patience_s, 1):g} s") from error
    except zlib.error as error:
        raise httpx.DecodingError(f"the answer cannot be unpacked: {error}") from error
    except httpx.RequestError as error:
        raise type(error)(without(secrets, str(error))) from None  # the cause has the same words
    return response, spelled(*secrets).sub(b"***", body) if secrets else bytes(body)
