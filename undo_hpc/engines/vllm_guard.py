"""vLLM's own key guards some of its server's paths. Others answer everybody: `/invocations` writes text, `/tokenize` and `/metrics` tell of
what is asked (vllm/entrypoints/serve/middleware/authenticate.py). This one, loaded by the server (`--middleware`), guards all but its health.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

KEY = "VLLM_API_KEY"
_OPEN = "/health"  # that it answers is no secret
_Message = MutableMapping[str, Any]


class RequireKey:
    """An ASGI application before another: answers 401 where a request does not bring the key."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app, self._wanted = app, f"Bearer {os.environ[KEY]}".encode()

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Hands the request on, or refuses it."""
        if scope["type"] == "lifespan" or scope.get("path") == _OPEN or self._brings_key(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b'{"error": "Unauthorized"}'})

    def _brings_key(self, scope: _Message) -> bool:
        return any(
            name == b"authorization" and hmac.compare_digest(value, self._wanted)
            for name, value in scope["headers"]
        )
