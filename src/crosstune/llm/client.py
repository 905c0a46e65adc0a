"""A language model behind an endpoint that speaks OpenAI's chat completions: OpenAI, Ollama, vLLM, llama.cpp ..."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from crosstune.errors import ConfigError, LlmError
from crosstune.extras import require
from crosstune.llm.dialect import Dialect
from crosstune.llm.failures import BadReply, Endpoint, translated
from crosstune.llm.schema import fault

MODEL_VARIABLE = "CROSSTUNE_LLM_MODEL"
BASE_URL_VARIABLE = "OPENAI_BASE_URL"
KEY_VARIABLE = "OPENAI_API_KEY"

_OPENAI = "https://api.openai.com/v1"
_UNFINISHED = {
    "length": "ran out of room before the end of its reply; take a shorter context, or raise the server's limit",
    "content_filter": "kept back the rest of its reply (content filter); ask in other words",
}
_BROKE_OFF = "broke off before the end of its reply; look at its log, or try again"
_NO_COUNTS = "the endpoint does not say how many tokens it used: they are not counted"

Message: TypeAlias = Mapping[str, str]
"""One turn of a conversation: "role" ("system", "user" or "assistant") and "content"."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used since `connect`.

    Attributes:
        prompt_tokens, completion_tokens: As the endpoint counts them.
        n_requests: Requests that were answered.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    n_requests: int = 0


def configured() -> bool:
    """Whether the environment names an endpoint: a base URL, or a key of OpenAI's own."""
    return bool(_variable(BASE_URL_VARIABLE) or _variable(KEY_VARIABLE))


def connect(
    model: str | None = None,
    base_url: str | None = None,
    *,
    temperature: float = 0.0,
    seed: int | None = None,
    timeout_s: float = 60.0,
    n_retries: int = 2,
) -> LanguageModel:
    """A language model; nothing is sent yet.

    The API key is read from OPENAI_API_KEY; an endpoint with a base URL may do without.

    Args:
        model: Name of the model; None reads CROSSTUNE_LLM_MODEL.
        base_url: Of the endpoint, usually ending in /v1; None reads OPENAI_BASE_URL, else OpenAI's own is taken.
        temperature: 0 asks for the most likely reply.
        seed: Of the endpoint's random choices, where it knows seeds.
        timeout_s: Longest wait for the next part of a reply.
        n_retries: Tries after the first one when the endpoint is busy, failing or out of reach.

    Raises:
        ConfigError: No endpoint or no model is named, or the base URL is none.
        MissingExtraError: The openai package is not installed.
    """
    base_url = base_url or _variable(BASE_URL_VARIABLE)
    key = _variable(KEY_VARIABLE)
    if not (base_url or key):
        raise ConfigError(
            f"no language model is set up; set {BASE_URL_VARIABLE} to the base URL of an OpenAI-compatible endpoint "
            f"(Ollama: http://localhost:11434/v1), or {KEY_VARIABLE} to a key of OpenAI's"
        )
    model = model or _variable(MODEL_VARIABLE)
    if not model:
        raise ConfigError(f"no language model is named; set {MODEL_VARIABLE} to the name the endpoint knows it by")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{KEY_VARIABLE} holds characters that no key has; copy the key again")
    base_url = base_url or _OPENAI
    endpoint = Endpoint(_address(base_url), model, timeout_s, n_retries)
    openai = require("openai", extra="llm", what="a language model")
    # The package insists on a key where a local server asks for none.
    client = openai.OpenAI(api_key=key or "none", base_url=base_url, timeout=timeout_s, max_retries=n_retries)
    return LanguageModel(client, endpoint, {"temperature": temperature} | ({} if seed is None else {"seed": seed}))


class LanguageModel:
    """Opened by `connect`. May be used from several threads."""

    def __init__(self, client: Any, endpoint: Endpoint, settings: Mapping[str, Any]) -> None:
        self._client = client
        self._endpoint = endpoint
        self._settings = settings
        self._dialect = Dialect()
        self._usage = Usage()
        self._uncounted = False
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        """Its name."""
        return self._endpoint.model

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return self._usage

    @property
    def notes(self) -> tuple[str, ...]:
        """What the endpoint turned out not to support, each once, in sentences for the user."""
        return self._dialect.notes + ((_NO_COUNTS,) if self._uncounted else ())

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """The reply, piece by piece as it comes.

        Raises:
            LlmError: The endpoint fails, or the reply ends before its end; from the iterator, which may have
                given pieces by then.
        """
        finish: str | None = None
        usage, spoke = None, False
        with translated(self._endpoint):
            response = self._send(messages, stream=True, stream_options={"include_usage": True})
            with response:
                for chunk in response:
                    spoke = True
                    usage = getattr(chunk, "usage", None) or usage
                    for choice in getattr(chunk, "choices", None) or ():
                        finish = choice.finish_reason or finish
                        if choice.delta and isinstance(choice.delta.content, str):
                            yield choice.delta.content
        if not spoke:
            raise self._no_completion()
        self._count(usage)
        why = _BROKE_OFF if finish is None else _UNFINISHED.get(finish)
        if why:
            raise LlmError(f"{self._endpoint} {why}")

    def ask_json(self, messages: Sequence[Message], schema: Mapping[str, Any], name: str) -> dict[str, Any]:
        """A reply that is one JSON object of the form a JSON Schema asks for.

        The endpoint is asked to enforce the schema. Where it refuses to, the words of the prompt must do (see
        `notes`). The reply is checked here in any case.

        Args:
            messages: The last one is the user's; the schema is added to it.
            schema: Of an object; every property required, no others allowed. `crosstune.llm.schema` reads it.
            name: Of the schema, letters and underscores.

        Raises:
            BadReply: The reply has another form.
            LlmError: The endpoint fails.
        """
        form = {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}
        with translated(self._endpoint):
            response = self._send(_with_schema(messages, schema), response_format=form)
        choices = getattr(response, "choices", None)
        if not choices or not choices[0].message:
            raise self._no_completion()
        self._count(response.usage)
        value = _object_in(choices[0].message.content)
        problem = "the reply is no JSON object" if value is None else fault(value, schema)
        if value is None or problem:
            unfinished = _UNFINISHED.get(choices[0].finish_reason)
            raise BadReply(self.model, f"it {unfinished}" if unfinished else str(problem))
        return value

    def _send(self, messages: Sequence[Message], **settings: Any) -> Any:
        """The endpoint's response; what it refuses to understand is left out and noted."""
        openai = require("openai", extra="llm", what="a language model")
        while True:
            spoken = self._dialect.spoken({**self._settings, **settings})
            try:
                return self._client.chat.completions.create(model=self.model, messages=list(messages), **spoken)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._dialect.learn(error, spoken):
                    raise

    def _count(self, usage: Any) -> None:
        with self._lock:
            self._uncounted |= usage is None
            self._usage = Usage(
                self._usage.prompt_tokens + (getattr(usage, "prompt_tokens", 0) or 0),
                self._usage.completion_tokens + (getattr(usage, "completion_tokens", 0) or 0),
                self._usage.n_requests + 1,
            )

    def _no_completion(self) -> LlmError:
        return LlmError(
            f"{self._endpoint} sent something that is no chat completion; check that {BASE_URL_VARIABLE} is the base "
            "URL of an OpenAI-compatible API: it usually ends in /v1"
        )


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


def _address(base_url: str) -> str:
    """The base URL without what may be secret in it."""
    try:
        parts = urlsplit(base_url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigError(
            f"the base URL of the language model is no http:// or https:// address; check {BASE_URL_VARIABLE}"
        )
    return f"{parts.scheme}://{host}{port}{parts.path}"


def _with_schema(messages: Sequence[Message], schema: Mapping[str, Any]) -> list[Message]:
    # In every case, not only where the schema is not enforced: a model that sees it fills it in better.
    wish = f"Reply with one JSON object of this JSON Schema and with nothing else:\n{json.dumps(schema)}"
    *before, last = messages
    return [*before, {**last, "content": f"{last['content']}\n\n{wish}"}]


def _object_in(reply: Any) -> dict[str, Any] | None:
    """The first JSON object in a reply; models put fences and thoughts around it when nothing keeps them from it."""
    if not isinstance(reply, str):
        return None
    for brace in re.finditer("{", reply):
        try:
            value: dict[str, Any] = json.JSONDecoder().raw_decode(reply, brace.start())[0]
        except (ValueError, RecursionError):
            continue
        return value
    return None
