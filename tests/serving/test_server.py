"""A real server on this machine, asked over HTTP."""

import json
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from crosstune.errors import ConfigError
from crosstune.scoring import Reranker
from crosstune.serving import ServingSettings, listen, url_of
from crosstune.serving import worker as worker_module
from crosstune.serving.gate import is_key

DOCUMENTS = ["download the invoice", "reset your password", "a refund is paid", "export the report"]


def body(query="reset the password", **fields):
    return {"query": query, "documents": DOCUMENTS} | fields


def metric(client, name):
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"crosstune_{name}"))


class TestRanking:
    def test_as_the_model_ranks(self, server, model):
        found = server.client.post("/v1/rerank", json=body())
        assert found.status_code == 200
        ranked = Reranker.load(model).rank("reset the password", DOCUMENTS)
        results = found.json()["results"]
        assert [result["index"] for result in results] == [item.index for item in ranked]
        assert [result["relevance_score"] for result in results] == pytest.approx([item.probability for item in ranked])
        assert found.json()["model"] == "tiny"

    def test_first_stage_scores_count(self, server, model):
        scores = [5.0, 0.0, 0.0, 90.0]
        found = server.client.post("/v1/rerank", json=body(first_stage_scores=scores)).json()["results"]
        ranked = Reranker.load(model).rank("reset the password", DOCUMENTS, scores)
        assert found[0]["index"] == 3
        assert [result["index"] for result in found] == [item.index for item in ranked]
        assert [result["relevance_score"] for result in found] == pytest.approx([item.probability for item in ranked])

    def test_twenty_at_once_get_each_their_own(self, server, model):
        reranker = Reranker.load(model)
        queries = [f"{' '.join(DOCUMENTS)[i : i + 25]} number {i}" for i in range(20)]
        documents = [[f"{text} {i}" for text in DOCUMENTS[i % 4 :] + DOCUMENTS[: i % 4]] for i in range(20)]
        together = threading.Barrier(20)

        def ask(i):
            together.wait(20)
            return httpx.post(
                f"{server.url}/v2/rerank", json={"query": queries[i], "documents": documents[i]}, timeout=30
            ).json()["results"]

        with ThreadPoolExecutor(20) as threads:
            found = list(threads.map(ask, range(20)))
        for i, results in enumerate(found):
            ranked = reranker.rank(queries[i], documents[i])
            assert [result["index"] for result in results] == [item.index for item in ranked]
            assert [r["relevance_score"] for r in results] == pytest.approx([item.probability for item in ranked])
        assert len({results[0]["relevance_score"] for results in found}) == 20

    def test_headers(self, server):
        headers = server.client.post("/v1/rerank", json=body()).headers
        assert int(headers["x-total-time"]) >= int(headers["x-inference-time"]) >= 0
        assert int(headers["x-queue-time"]) >= 0
        assert len(headers["x-request-id"]) == 32
        assert "server" not in headers

    @pytest.mark.parametrize(
        "text",
        ["", " ", "\x00", "Rückerstattung 退款 😀", "\ud83d", "e\u0301" * 500, "\u202eabc", "\u200b"],
        ids=["empty", "blank", "nul", "letters", "half a pair", "combining", "right to left", "zero width"],
    )
    def test_any_text(self, server, text):
        content = json.dumps({"query": text, "documents": [text, "refund"], "return_documents": True})
        found = server.client.post("/v1/rerank", content=content)
        assert found.status_code == 200
        assert {result["document"]["text"] for result in json.loads(found.text)["results"]} == {text, "refund"}

    def test_any_encoding_of_json(self, server):
        plain = server.client.post("/v1/rerank", json=body()).json()["results"]
        for encoding in ("utf-8-sig", "utf-16", "utf-32"):
            found = server.client.post("/v1/rerank", content=json.dumps(body()).encode(encoding))
            assert found.json()["results"] == plain


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "status", "says"),
        [
            (b"", 400, "not valid JSON"),
            (b"{", 400, "not valid JSON"),
            (b"\xff\xfe\xfd", 400, "not valid JSON"),
            (b"[" * 100_000, 400, "not valid JSON"),
            (b'{"query": NaN}', 400, "not valid JSON"),
            (b'{"query": ' + b"1" * 10_000 + b"}", 400, "not valid JSON"),
            (b'["query"]', 400, "no JSON object"),
            (b"null", 400, "no JSON object"),
            (b"{}", 422, '"query" must be text, found nothing'),
            (b'{"query": "q"}', 422, '"documents" must be a list, found nothing'),
            (b'{"query": "q", "documents": []}', 400, "send at least one document"),
            (b'{"query": "q", "documents": ["a"], "first_stage_scores": [1e999]}', 422, "finite"),
            (b'{"query": "q", "documents": ["a"], "top_n": "1"}', 422, '"top_n"'),
        ],
    )
    @pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank", "/v1/v1/rerank", "/invocations"])
    def test_bodies_that_are_no_request(self, server, path, content, status, says):
        found = server.client.post(path, content=content)
        assert found.status_code == status
        assert says in found.json()["message"]
        assert found.json()["id"] == found.headers["x-request-id"]

    def test_in_the_dialects_own_form(self, server):
        found = server.client.post("/rerank", json={"query": "q", "texts": []})
        assert (found.status_code, set(found.json())) == (400, {"error", "error_type"})
        found = server.client.post("/v1/rerank", json={"query": "q", "documents": [], "top_k": 3})
        assert (found.status_code, set(found.json())) == (400, {"detail"})

    def test_too_many_documents(self, held_server):
        for n, status in ((20, 200), (21, 413)):
            found = held_server.client.post("/v1/rerank", json={"query": "q", "documents": ["d"] * n})
            assert found.status_code == status
        assert found.json()["message"] == "21 documents, at most 20 are taken; send them in several requests"

    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_that_is_too_large(self, held_server, chunked):
        for size, status in ((20_000, 200), (20_001, 413), (150_000, 413)):
            content = b'{"query": "q", "documents": ["d"]}'.ljust(size)
            found = held_server.client.post("/v1/rerank", content=iter([content]) if chunked else content)
            assert found.status_code == status
        assert found.json()["message"] == "the body has more than 20000 bytes; send fewer or shorter documents"

    @pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon", ""])
    def test_a_deadline_that_is_none(self, server, value):
        found = server.client.post("/v1/rerank", json=body(), headers={"X-Deadline-Ms": value})
        assert found.status_code == 422
        assert "X-Deadline-Ms" in found.json()["message"]

    @pytest.mark.parametrize(
        ("method", "path", "status"), [("POST", "/v3/rerank", 404), ("GET", "/v1/rerank", 405), ("GET", "/docs", 404)]
    )
    def test_other_paths_and_methods(self, server, method, path, status):
        found = server.client.request(method, path)
        assert found.status_code == status
        assert "/v1/rerank, /v2/rerank, /rerank" in found.json()["message"]


class TestTheLine:
    """One request is held in the model, two may wait."""

    @pytest.fixture
    def post(self, held_server):
        """Posts in threads, which all have ended when the test has."""
        with ThreadPoolExecutor(8) as threads:

            def send(query, path="/v1/rerank", **headers):
                return threads.submit(
                    httpx.post, f"{held_server.url}{path}", json=body(query), headers=headers, timeout=30
                )

            yield send
            held_server.worker._reranker.release.set()

    def test_full(self, held, held_server, post, wait_until):
        accepted = [post("wait")]
        assert held.entered.wait(20)
        accepted += [post("first"), post("second")]
        wait_until(lambda: held_server.worker.n_waiting == 2)
        assert metric(held_server.client, "queue_depth") == 2
        refused = held_server.client.post("/v1/rerank", json=body("third"))
        assert refused.status_code == 503
        # Two wait, and a ranking is first taken to last one second.
        assert (refused.headers["retry-after"], refused.json()["error"]["type"]) == ("2", "overloaded")
        tei = held_server.client.post("/rerank", json={"query": "third", "texts": DOCUMENTS})
        assert (tei.status_code, tei.json()["error_type"], tei.headers["retry-after"]) == (429, "Overloaded", "2")
        held.release.set()
        assert [found.result(20).status_code for found in accepted] == [200, 200, 200]
        assert sorted(held.seen[2:]) == ["first", "second"]
        assert metric(held_server.client, "queue_depth") == 0

    def test_first_come_first_served(self, held, held_server, post, wait_until):
        post("wait")
        assert held.entered.wait(20)
        for n, query in enumerate(("first", "second"), start=1):
            post(query)
            wait_until(lambda n=n: held_server.worker.n_waiting == n)
        held.release.set()
        wait_until(lambda: len(held.seen) == 4)
        assert held.seen[1:] == ["wait", "first", "second"]

    def test_a_client_that_leaves_is_forgotten(self, held, held_server, post, wait_until):
        post("wait")
        assert held.entered.wait(20)
        content = json.dumps(body("left")).encode()
        head = f"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        with socket.create_connection(held_server.url.removeprefix("http://").split(":")) as connection:
            connection.sendall(head + content)
            wait_until(lambda: held_server.worker.n_waiting == 1)
        wait_until(lambda: held_server.worker.n_waiting == 0)
        held.release.set()
        assert held_server.client.post("/v1/rerank", json=body("after")).status_code == 200
        assert held.seen[1:] == ["wait", "after"]
        assert metric(held_server.client, 'requests_total{dialect="cohere",path="/v1/rerank",status="499"}') == 1

    def test_a_deadline_that_comes_in_the_line(self, held, held_server, post):
        post("wait")
        assert held.entered.wait(20)
        late = post("late", **{"X-Deadline-Ms": "50"}).result(20)
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")
        assert "the deadline came while the request waited" in late.json()["message"]
        held.release.set()
        assert held_server.client.post("/v1/rerank", json=body("after")).status_code == 200
        assert "late" not in held.seen

    def test_a_deadline_that_comes_in_the_model(self, held_server):
        texts = [f"{DOCUMENTS[i % 4]} {i}" for i in range(12)]
        found = held_server.client.post(
            "/v1/rerank",
            json={"query": "q", "documents": texts, "first_stage_scores": list(range(12))},
            headers={"X-Deadline-Ms": "0.001"},
        ).json()
        assert [result["index"] for result in found["results"][8:]] == [3, 2, 1, 0]
        assert "4 of 12" in found["meta"]["warnings"][0]
        assert metric(held_server.client, "pairs_scored_total") == 8

    def test_the_servers_deadline_holds_for_all_and_the_shorter_counts(self, model, start):
        settings, texts = ServingSettings(deadline_ms=0.001), [f"text {i}" for i in range(12)]
        with start(lambda: Reranker.load(model), settings) as server:
            for headers in ({}, {"X-Deadline-Ms": "60000"}):
                found = server.client.post("/v1/rerank", json={"query": "q", "documents": texts}, headers=headers)
                assert "4 of 12" in found.json()["meta"]["warnings"][0]


class TestHealth:
    def test_before_the_model_is_loaded(self, model, start, wait_until):
        may_load = threading.Event()

        def load():
            assert may_load.wait(20)
            return Reranker.load(model)

        with start(load, wait=False) as server:
            client = server.client
            assert client.get("/health").json() == client.get("/ping").json() == {"status": "ok"}
            assert (client.get("/ready").status_code, client.get("/ready").json()) == (503, {"status": "loading"})
            assert metric(client, "ready") == 0
            for found in (client.post("/v1/rerank", json=body()), client.get("/info")):
                assert (found.status_code, found.headers["retry-after"]) == (503, "5")
                assert "/ready" in found.json()["message"]
            may_load.set()
            wait_until(lambda: client.get("/ready").status_code == 200)
            assert client.get("/ready").json() == {"status": "ready"}
            assert metric(client, "ready") == 1
            assert client.post("/v1/rerank", json=body()).status_code == 200

    def test_a_model_that_cannot_rank_is_a_failure(self, held, start, wait_until):
        held.broken, told = True, threading.Event()
        with start(lambda: held, wait=False) as server:
            server.worker.on_failure = told.set
            wait_until(lambda: server.worker.failure is not None)
            assert isinstance(server.worker.failure, RuntimeError)
            assert server.client.get("/ready").status_code == 503

    def test_a_request_that_fails_leaves_a_sound_model_ready(self, held_server):
        found = held_server.client.post("/v1/rerank", json=body("fail"))
        assert (found.status_code, found.json()["error"]["type"]) == (500, "failed")
        assert held_server.client.get("/ready").status_code == 200
        assert held_server.client.post("/v1/rerank", json=body()).status_code == 200

    def test_a_model_that_fails_is_not_ready_until_it_ranks_again(self, held, held_server, monkeypatch, wait_until):
        monkeypatch.setattr(worker_module, "_PROBE_EVERY_S", 0.05)
        held.broken = True
        assert held_server.client.post("/v1/rerank", json=body()).status_code == 500
        wait_until(lambda: held_server.client.get("/ready").status_code == 503)
        assert held_server.client.get("/ready").json() == {"status": "failing"}
        assert held_server.client.get("/health").status_code == 200
        assert held_server.client.post("/v1/rerank", json=body()).status_code == 503
        held.broken = False
        wait_until(lambda: held_server.client.get("/ready").status_code == 200)
        assert held_server.client.post("/v1/rerank", json=body()).status_code == 200

    @pytest.mark.filterwarnings("ignore:invalid value")
    def test_scores_that_are_not_finite_are_a_failure(self, held, held_server, monkeypatch):
        held.give(monkeypatch, 1.0, 2.0, float("nan"), 3.0)
        assert held_server.client.post("/v1/rerank", json=body()).status_code == 500

    def test_a_ranking_that_hangs(self, held, held_server, monkeypatch):
        monkeypatch.setattr(worker_module, "STUCK_S", 0.0)
        with ThreadPoolExecutor(1) as threads:
            threads.submit(httpx.post, f"{held_server.url}/v1/rerank", json=body("wait"), timeout=30)
            assert held.entered.wait(20)
            for path in ("/health", "/ready"):
                found = held_server.client.get(path)
                assert (found.status_code, found.json()) == (503, {"status": "stuck"})
            held.release.set()

    def test_a_line_that_has_ended(self, held_server, monkeypatch, wait_until):
        # A fault of our own, behind the answer.
        monkeypatch.setattr(held_server.worker._metrics, "pairs", lambda n: 1 / 0)
        assert held_server.client.post("/v1/rerank", json=body()).status_code == 200
        wait_until(lambda: held_server.client.get("/health").status_code == 503)
        assert held_server.client.get("/ready").status_code == 503
        assert held_server.client.post("/v1/rerank", json=body()).status_code == 503


class TestFacts:
    def test_info(self, server):
        found = server.client.get("/info").json()
        assert (found["model_id"], found["model_dtype"], found["max_input_length"]) == ("tiny", "float32", 64)
        assert (found["max_client_batch_size"], found["max_concurrent_requests"]) == (1000, 65)
        assert "reranker" in found["model_type"]

    def test_models(self, server):
        assert [entry["id"] for entry in server.client.get("/v1/models").json()["data"]] == ["tiny"]

    def test_openapi_tells_every_door_and_dialect(self, server):
        paths = server.client.get("/openapi.json").json()["paths"]
        assert {path for path, found in paths.items() if "post" in found} == {
            "/v1/rerank",
            "/v2/rerank",
            "/rerank",
            "/v1/v1/rerank",
            "/invocations",
        }
        content = paths["/rerank"]["post"]["requestBody"]["content"]["application/json"]
        assert [schema["required"] for schema in content["schema"]["anyOf"]] == [
            ["query", "texts"],
            ["query", "documents"],
            ["query", "documents"],
        ]

    def test_the_page_needs_nothing_from_elsewhere(self, server):
        found = server.client.get("/")
        assert found.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in found.headers["content-security-policy"]
        assert "connect-src 'self'" in found.headers["content-security-policy"]
        for foreign in ("http:", "https:", 'src="', "@import", "url("):
            assert foreign not in found.text

    def test_counts(self, model, start):
        with start(lambda: Reranker.load(model)) as server:
            client = server.client
            client.post("/v1/rerank", json=body())
            client.post("/v2/rerank", json=body())
            client.post("/rerank", json={"query": "q", "texts": DOCUMENTS[:3]})
            client.post("/rerank", json={"query": "q", "texts": []})
            client.post("/rerank", content=b"{")
            for labels, n in {
                'dialect="cohere",path="/v1/rerank",status="200"': 1,
                'dialect="cohere",path="/v2/rerank",status="200"': 1,
                'dialect="tei",path="/rerank",status="200"': 1,
                'dialect="tei",path="/rerank",status="400"': 1,
                'dialect="unknown",path="/rerank",status="400"': 1,
            }.items():
                assert metric(client, f"requests_total{{{labels}}}") == n
            assert metric(client, "pairs_scored_total") == 4 + 4 + 3
            assert metric(client, "request_seconds_count") == 3
            assert client.get("/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


class TestKey:
    KEY = "s3cret-ü"

    @pytest.fixture(scope="class")
    def guarded(self, model, start):
        with start(lambda: Reranker.load(model), ServingSettings(api_key=self.KEY)) as found:
            yield found

    @pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "{}"])
    def test_the_key_opens(self, guarded, form):
        headers = [(b"authorization", form.format(self.KEY).encode())]
        assert guarded.client.post("/v1/rerank", json=body(), headers=headers).status_code == 200

    @pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer s3cret", "Basic s3cret-ü", "s3cret-ü x"])
    def test_nothing_else_does(self, guarded, given):
        headers = [] if given is None else [(b"authorization", given.encode())]
        found = guarded.client.post("/v1/rerank", json=body(), headers=headers)
        assert (found.status_code, found.headers["www-authenticate"]) == (401, "Bearer")
        assert found.json()["message"].startswith("the API key is missing or wrong")

    def test_every_path_is_guarded_but_those_listed(self, guarded):
        routes = {route.path for route in guarded.app._app.routes}
        assert {"/v1/rerank", "/openapi.json", "/info", "/v1/models"} < routes
        without_key = {path for path in [*routes, "/no/such"] if guarded.client.get(path).status_code != 401}
        assert without_key == {"/", "/health", "/ping", "/ready", "/metrics"}

    def test_the_header_alone(self):
        for given, right in (
            (b"Bearer k", True),
            (b"k", True),
            (b"Bearer  k ", True),
            (b"Bearer ", False),
            (b"", False),
        ):
            assert is_key(given, "k") is right

    def test_it_is_not_shown(self):
        assert self.KEY not in repr(ServingSettings(api_key=self.KEY))


def test_no_text_of_a_user_is_logged(held_server, caplog):
    caplog.set_level(logging.DEBUG)
    secret = "zebra-7"
    client = held_server.client
    client.post("/v1/rerank", json={"query": secret, "documents": [secret, "b"]})
    client.post(f"/v1/rerank?q={secret}", json={"query": secret, "documents": [secret, 5]})
    client.post(f"/{secret}", content=secret)
    held_server.worker._reranker.broken = True
    assert client.post("/v1/rerank", json={"query": secret, "documents": [secret]}).status_code == 500
    ours = [record for record in caplog.records if not record.name.startswith("http")]  # the client's own log aside
    messages = [record.getMessage() for record in ours]
    assert any("/v1/rerank 200" in message and "cohere 2 documents" in message for message in messages)
    assert any("a ranking failed: RuntimeError" in message for message in messages)
    assert not any(secret in message or record.exc_info for message, record in zip(messages, ours, strict=True))


@pytest.mark.parametrize("name", ["max_documents", "max_body_bytes", "max_waiting", "deadline_ms"])
def test_limits_are_above_nothing(name):
    with pytest.raises(ConfigError, match=f"{name} must be above 0, found 0"):
        ServingSettings(**{name: 0})


def test_an_empty_key_is_refused():
    with pytest.raises(ConfigError, match="the API key is empty"):
        ServingSettings(api_key=" ")


def test_answers_do_not_wait_for_acknowledgements():
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_the_address_of_a_socket():
    with listen("127.0.0.1", 0) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_the_address_of_a_socket_of_ipv6():
    try:
        listener = listen("::1", 0)
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"
