"""A scripted language model over real HTTP, on this machine only: OpenAI's chat completions, standard library only.

with Stub() as stub:
    stub.script("Hello.", Reply(status=500))     # what the next requests get
    model = connect("stub", stub.base_url)
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What one request gets.

    Attributes:
        text: Of the assistant.
        status: 200, or an error with `code`, `message` and `param`.
        headers: More headers.
        finish: Its finish_reason.
        cut: "clean" ends a stream after its first word as if it were whole, "broken" tears the connection there, and
            "error" sends an error in the stream.
        counted: Whether it says how many tokens it used.
        hang_s: Silence before anything is sent.
        body: Sent instead of all of it, as text/html.
    """

    text: str = ""
    status: int = 200
    code: str | None = None
    message: str = "scripted failure"
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    finish: str | None = "stop"
    cut: str | None = None
    counted: bool = True
    hang_s: float = 0.0
    body: str | None = None


class Stub:
    """The server, from `with` to the end of it.

    Attributes:
        base_url: What to give `connect`.
        requests: Bodies of the requests so far; `headers` their headers, names in lower case.
        refuses: Settings that get HTTP 400: "temperature", "response_format", or "json_schema" for that type of
            response_format only.
        default: Request body -> text, when the script is used up.
    """

    def __init__(self, default: Callable[[dict[str, Any]], str] = lambda body: "ok") -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refuses: set[str] = set()
        self.default = default
        self._script: deque[Reply] = deque()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"stub": self}))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Stub:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def script(self, *replies: Reply | str) -> None:
        """Queue replies, one for each of the next requests that are not refused."""
        self._script.extend(Reply(reply) if isinstance(reply, str) else reply for reply in replies)

    def reply_to(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        """Record a request and pick its reply."""
        with self._lock:
            self.requests.append(body)
            self.headers.append(headers)
            refused = next((name for name in sorted(self.refuses) if _asks(body, name)), None)
            if refused:
                param = "response_format" if refused == "json_schema" else refused
                return Reply(status=400, message=f"Unsupported value: {param}", param=param)
            scripted = self._script.popleft() if self._script else None
        reply = scripted or Reply(self.default(body))
        self._closing.wait(reply.hang_s)
        return reply


def _asks(body: dict[str, Any], setting: str) -> bool:
    if setting == "json_schema":
        return bool(body.get("response_format", {}).get("type") == "json_schema")
    return setting in body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: Stub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        reply = self.stub.reply_to(body, {name.lower(): value for name, value in self.headers.items()})
        try:
            if self.path != "/v1/chat/completions":
                self._send(404, "text/html", "<h1>not here</h1>")
            elif reply.body is not None:
                self._send(reply.status, "text/html", reply.body)
            elif reply.status != 200:
                error = {"message": reply.message, "type": "stub", "code": reply.code, "param": reply.param}
                self._send(reply.status, "application/json", json.dumps({"error": error}), reply.headers)
            elif body.get("stream"):
                self._stream(body, reply)
            else:
                self._send(200, "application/json", json.dumps(_completion(body, reply)))
        except (BrokenPipeError, ConnectionResetError):  # the client gave up waiting
            self.close_connection = True

    def _send(self, status: int, kind: str, text: str, headers: dict[str, str] | None = None) -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, body: dict[str, Any], reply: Reply) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for place, word in enumerate(reply.text.split(" ")):
            if place and reply.cut:
                return self._cut(reply)
            delta = {"content": word if place == 0 else f" {word}"}
            self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish}]})
        if reply.counted and body.get("stream_options", {}).get("include_usage"):
            self._event({"choices": [], "usage": _usage(body, reply)})
        self._chunk("data: [DONE]\n\n")
        return self._chunk("")

    def _cut(self, reply: Reply) -> None:
        if reply.cut == "error":
            self._event({"error": {"message": reply.message, "code": reply.code}})
        if reply.cut != "broken":
            self._chunk("")
        self.close_connection = True

    def _event(self, content: dict[str, Any]) -> None:
        self._chunk(f"data: {json.dumps({'object': 'chat.completion.chunk', **content})}\n\n")

    def _chunk(self, text: str) -> None:
        content = text.encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
        self.wfile.flush()


def _completion(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.text}
    completion = {
        "id": "stub",
        "object": "chat.completion",
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish}],
    }
    return {**completion, "usage": _usage(body, reply)} if reply.counted else completion


def _usage(body: dict[str, Any], reply: Reply) -> dict[str, int]:
    """Words for tokens, so that a test can count them."""
    n_prompt = sum(len(message["content"].split()) for message in body["messages"])
    n_completion = len(reply.text.split())
    return {"prompt_tokens": n_prompt, "completion_tokens": n_completion, "total_tokens": n_prompt + n_completion}
