"""One call to an OpenAI-compatible server: address, key, body, and what changes in the body when the server refuses a parameter."""

from __future__ import annotations

import email.utils
import itertools
import json
import logging
import time
from dataclasses import replace
from typing import Any

import httpx

from undo_hpc.chat.plain_text import neutral
from undo_hpc.config.schema import ModelConfig, OpenAIEngineConfig
from undo_hpc.engines.api_key import find_key
from undo_hpc.engines.base import Request
from undo_hpc.engines.http_answer import HEADERS, read_answer
from undo_hpc.engines.openai_parameters import (
    KNOWN_SERVERS,
    LIMIT_NAMES,
    Accepted,
    Change,
    changed,
    changes_for,
    context_room,
    is_context_error,
)
from undo_hpc.engines.openai_reply import Reply, read_reply, short
from undo_hpc.engines.service import Server
from undo_hpc.errors import ConfigError, EngineError, UndoError
from undo_hpc.system.credentials import credential_in, without

log = logging.getLogger(__name__)

_MAX_CHANGES = 20  # of the parameters and the limit of one request, after refusals
_MOST_BYTES = 64 << 20  # of an answer: the longest real ones, with all that was thought, have one
_CONNECT_S, _IDENTIFY_S = 30.0, 10.0
_ANY_IPV4 = "0.0.0.0"  # noqa: S104 -- where a request leaves from


class OpenAIClient:
    """Speaks to the servers of one configuration. Holds no connection; keeps in memory which parameters they accept.

    Raises:
        ConfigError: a key is required and there is none, its file cannot be read, or `base_url` is no address.
    """

    def __init__(self, config: OpenAIEngineConfig, model: ModelConfig) -> None:
        self._config, self._model = config, model
        self._name = config.served_model or model.model
        if config.base_url:
            _check_url(config.base_url)
        self._key = key = find_key(config.api_key_file, config.api_key_env, required=config.require_key)
        self._headers = {"Content-Type": "application/json"} | HEADERS
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
            if config.base_url and httpx.URL(config.base_url).host.endswith(".azure.com"):
                self._headers["api-key"] = key  # the older of Azure's two interfaces
        self._accepted = Accepted(dropped=set(config.omit))
        self._server_kind = ""

    def describe(self) -> dict[str, Any]:
        """What the completions depend on, as far as a client can know."""
        return {
            "engine": "openai",
            "server": self._config.base_url or "teacher service",
            "server_kind": self._server_kind,
            "model": self._name,
            "versions": {"httpx": httpx.__version__},
            "system_prompt": self._model.system_prompt,
            "chat_template_kwargs": dict(self._model.chat_template_kwargs),
            "extra_body": dict(self._config.extra_body),
            "parameters": self._accepted.describe(),
        }

    def open(self) -> httpx.AsyncClient:
        """Connections, to be closed by the caller."""
        connections = self._config.concurrency
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        options: dict[str, Any] = {"limits": limits}
        if not self._config.base_url:  # the run's own servers
            # They listen on IPv4: where their node's name has an IPv6 address, too, another user's program may listen there.
            options = {
                "transport": httpx.AsyncHTTPTransport(limits=limits, local_address=_ANY_IPV4, trust_env=False)
            }
            options["trust_env"] = False  # no proxy stands between the nodes of a cluster
        return httpx.AsyncClient(
            timeout=httpx.Timeout(self._config.timeout_s, connect=_CONNECT_S),
            headers=self._headers,
            **options,
        )

    async def identify(self, http: httpx.AsyncClient, server: Server) -> None:
        """Asks the server what it is. vLLM, SGLang and llama.cpp put a default of their own where a request leaves a parameter out, so
        they are sent all of them; others may refuse such parameters and get only what differs from its neutral value.
        """
        try:
            asked = http.stream(
                "GET", _endpoint(server.url, "models"), headers=_own_key(server), timeout=_IDENTIFY_S
            )
            _, content = await read_answer(asked, patience_s=_IDENTIFY_S, most=_MOST_BYTES)
            models = json.loads(content)["data"]
            owner = next((m["owned_by"] for m in models if m.get("id") == self._name), models[0]["owned_by"])
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            owner = ""  # not every server lists its models
        if isinstance(owner, str) and owner in KNOWN_SERVERS:
            self._server_kind = owner
            self._accepted.neutral = dict(KNOWN_SERVERS[owner])

    async def chat(
        self, http: httpx.AsyncClient, server: Server, request: Request, timeout_s: float | None
    ) -> tuple[Reply, dict[str, Any], float]:
        """The server's answer, the parameters sent beside model and messages, and what the server asks to wait in seconds.

        Asked again with other parameters where the server refuses one by name. Such changes are remembered once a request with them is
        accepted; a limit lowered for a prompt that leaves less room holds for that request alone.

        Raises:
            httpx.RequestError: no answer.
        """
        sent, changes = self._accepted.parameters(request), list[Change]()
        options: dict[str, Any] = {} if timeout_s is None else {"timeout": timeout_s}
        until = time.monotonic() + (timeout_s or self._config.timeout_s)  # for all that it is asked again for
        for turn in itertools.count():
            data = json.dumps(self._fixed(request) | sent | self._config.extra_body | server.extra)
            address = _endpoint(server.url, "chat/completions")
            post = http.stream("POST", address, content=data, headers=_own_key(server), **options)
            secrets = [key for key in (self._key, server.key) if key]
            response, content = await read_answer(
                post, patience_s=max(0.0, until - time.monotonic()), most=_MOST_BYTES, secrets=secrets
            )
            reply = read_reply(response.status_code, content, max_tokens=request.max_tokens)
            if reply.kind == "redirect" and response.has_redirect_location:
                reply = replace(reply, message=short(without(secrets, response.headers["location"])))
            reply = _without(secrets, reply)
            accepted = reply.kind == "answer" or (reply.kind == "refused" and reply.status == 200)
            if accepted:
                for change in self._accepted.apply(changes):
                    log.warning(
                        "%s: from now on %s, because the server refuses it otherwise", server.url, change
                    )
            if reply.kind == "refused" and not accepted and turn < _MAX_CHANGES:
                words = content.decode("utf-8", "replace")
                limit = next((name for name in LIMIT_NAMES if name in sent), "")
                if is_context_error(words):
                    if limit:
                        sent = _lowered(sent, limit, context_room(words))
                        continue
                elif new := [c for c in changes_for(words, sent) if c.name not in self._config.extra_body]:
                    for change in new:
                        sent = changed(sent, change)
                    changes += new
                    continue
            break
        return reply, sent | self._config.extra_body, _seconds(response.headers.get("retry-after", ""))

    def _fixed(self, request: Request) -> dict[str, Any]:
        """What is no sampling parameter."""
        from undo_hpc.engines.chat import messages

        body: dict[str, Any] = {
            "model": self._name,
            "messages": messages(self._model.system_prompt, neutral(request.prompt)),
        }
        if self._model.chat_template_kwargs and "chat_template_kwargs" not in self._config.omit:
            body["chat_template_kwargs"] = dict(self._model.chat_template_kwargs)
        return body

    def access_error(self, reply: Reply) -> UndoError:
        """The error for a server that answers nobody with this key, address or model, or whose account is empty."""
        url = self._config.base_url or "the teacher service"
        if reply.kind == "no_credit":
            return EngineError(
                f"{url}: the account has no credit left {reply.message}",
                hint="answers so far are kept; once it has, run the same command again",
            )
        if reply.kind == "no_access":
            return ConfigError(
                f"{url}: the server refuses the key {reply.message}",
                hint=f"put the key into {self._config.api_key_env}, or name its file in engine.openai.api_key_file "
                "(only a file reaches the tasks of a SLURM run)",
            )
        if reply.kind == "redirect":
            return ConfigError(
                f"{url}: the server redirects to {reply.message}",
                hint="set engine.openai.base_url to where that leads, without /chat/completions",
            )
        return ConfigError(
            f"{url}: the server does not know this address or the model {self._name!r} {reply.message}",
            hint="check engine.openai.base_url (it ends with /v1) and engine.openai.served_model",
        )


def _lowered(sent: dict[str, Any], limit: str, room: int) -> dict[str, Any]:
    """Parameters with the limit that the context leaves, or without one where that is unknown: the server stops at its context's end."""
    if 0 < room < sent[limit]:
        return sent | {limit: room}
    return {name: value for name, value in sent.items() if name != limit}


def _without(secrets: list[str], reply: Reply) -> Reply:
    """A reply whose words hold no key, of which a server may have sent the parts one by one."""
    for secret in secrets:
        cleaned = {
            name: getattr(reply, name).replace(secret, "***")
            for name in ("message", "text", "reasoning", "raw_finish_reason")
        }
        reply = replace(reply, **cleaned)
    return reply


def _own_key(server: Server) -> dict[str, str]:
    """The header with the key of the run's own server, where that has one; it goes before the client's own."""
    return {"Authorization": f"Bearer {server.key}"} if server.key else {}


def _check_url(base_url: str) -> None:
    """Raises ConfigError where `base_url` is no address, or holds a secret."""
    if what := credential_in(base_url):
        raise ConfigError(
            f"engine.openai.base_url holds {what}",
            hint="leave it out there, and put the key into a file that engine.openai.api_key_file names",
        )
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ConfigError(
            f"engine.openai.base_url: {base_url!r} is no address: {error}", hint="e.g. http://host:8000/v1"
        ) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(
            f"engine.openai.base_url: {base_url!r} does not begin with http:// or https://",
            hint="e.g. http://host:8000/v1",
        )


def _endpoint(base_url: str, name: str) -> str:
    """The address of a call; a query of the base (Azure's api-version) stays at the end."""
    base, question, query = base_url.partition("?")
    return f"{base.rstrip('/')}/{name}{question}{query}"


def _seconds(retry_after: str) -> float:
    """What a Retry-After header asks to wait: it holds seconds or a date (RFC 9110, 10.2.3). 0 where it says nothing."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError):
        return 0.0
