"""Questions written for documents: what is kept, what a kill leaves, and what is asked again."""

import csv
import json
import re
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from crosstune.cli.main import app
from crosstune.data import load
from crosstune.documents import ChunkSettings
from crosstune.errors import ConfigError, DataError, LlmError
from crosstune.llm import connect
from crosstune.recipes.synth import SynthSettings, synth

TEXTS = ["a refund is paid to your card after thirty days", "download the invoice of every month", "export the report"]


def write_pairs(body):
    """The scripted model: two questions made of words of the passage; a third would be cut off."""
    prompt = body["messages"][-1]["content"]
    text = next(text for text in TEXTS if text in prompt)
    first = re.findall(r"\w+", text)
    styles = re.findall(r"\d\. ([\w-]+):", prompt)
    pairs = [
        {"question": f"{' '.join(first[:4])} {n}", "answer": text[:10], "style": style}
        for n, style in enumerate(styles, start=1)
    ]
    return json.dumps({"pairs": pairs})


@pytest.fixture
def place(tmp_path, bare_bert, stub):
    stub.default = write_pairs
    docs = tmp_path / "docs"
    docs.mkdir()
    for n, text in enumerate(TEXTS):
        (docs / f"{n}.txt").write_text(text)
    settings = SynthSettings(n_questions=2, n_workers=1, embedder=str(bare_bert), chunks=ChunkSettings(60, 0))
    model = connect("tiny", stub.base_url, n_retries=0, timeout_s=5)
    out = tmp_path / "out.csv"

    def run(changed=settings, **options):
        return synth(docs, out, model, changed, **options)

    return SimpleNamespace(docs=docs, out=out, run=run, settings=settings, stub=stub, model=model)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_questions_with_their_passage_as_answer_marked_as_synthetic(place):
    done = place.run()
    assert (done.n_passages, done.n_written, done.n_kept, done.failed) == (3, 6, 6, 0)
    written = rows(place.out)
    assert [row["answer"] for row in written] == [text for text in TEXTS for _ in range(2)]
    assert written[0]["question"] == "a refund is paid 1"
    assert written[0]["short_answer"] == "a refund i"
    assert (written[0]["source"], written[0]["synthetic"]) == ("0.txt", "yes")
    assert all(query.synthetic for query in load(place.out).collection.queries.values())
    assert done.usage.n_requests == 3


def test_a_finished_run_asks_nothing_again(place):
    place.run()
    before = len(place.stub.requests)
    again = place.run()
    assert (len(place.stub.requests), again.n_kept, again.n_passages) == (before, 6, 3)


def test_killed_in_the_middle_it_continues_and_half_a_line_is_passed_over(place):
    class Stop(Exception):
        pass

    def stop_after_two(label, total):
        from contextlib import contextmanager

        @contextmanager
        def bar():
            n = 0

            def advance(k):
                nonlocal n
                n += k
                if label == "Writing questions" and n == 2:
                    raise Stop

            yield advance

        return bar()

    with pytest.raises(Stop):
        place.run(progress=stop_after_two)
    assert not place.out.exists()
    journal = place.out.with_name("out.csv.progress.jsonl")
    n_done = len(journal.read_text().splitlines()) - 1
    assert n_done >= 2
    with journal.open("a") as file:
        file.write('{"passage_id": "half a l')
    before = len(place.stub.requests)
    done = place.run()
    assert len(place.stub.requests) - before == 3 - n_done
    assert done.n_kept == 6


def test_repeats_and_questions_that_lead_nowhere_are_left_out(place, monkeypatch):
    def other(body):
        pairs = json.loads(write_pairs(body))["pairs"]
        pairs[1]["question"] = pairs[0]["question"].upper()
        return json.dumps({"pairs": pairs})

    place.stub.default = other
    done = place.run(SynthSettings(**{**_fields(place.settings), "depth": 1}))
    assert done.dropped["says the same as an earlier question"] == 3
    lost = sum(n for reason, n in done.dropped.items() if "among the first 1" in reason)
    assert done.n_kept == 3 - lost == len(rows(place.out))


def _fields(settings):
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def test_a_passage_that_fails_is_counted_and_tried_again(place):
    from llm_stub import Reply

    place.stub.script(write_pairs_of(0), Reply("no json"), Reply("no json"), Reply("no json"))
    done = place.run()
    assert (done.failed, done.n_passages) == (1, 2)
    again = place.run()
    assert (again.failed, again.n_passages) == (0, 3)


def write_pairs_of(n):
    return write_pairs({"messages": [{"content": f"{TEXTS[n]}\n1. how-to: x\n2. factoid: y"}]})


def test_an_endpoint_that_does_not_work_stops_the_run(place):
    from llm_stub import Reply

    place.stub.default = lambda body: "no json"
    place.stub.script(*[Reply(status=401)] * 10)
    for n in range(3, 9):
        (place.docs / f"{n}.txt").write_text(f"text number {n}")
    with pytest.raises(LlmError, match="OPENAI_API_KEY"):
        place.run()
    assert not place.out.exists()


def test_other_documents_or_settings_are_refused_or_begin_anew(place):
    place.run()
    (place.docs / "0.txt").unlink()
    with pytest.raises(ConfigError, match="--overwrite"):
        place.run()
    done = place.run(overwrite=True)
    assert (done.n_passages, done.n_kept) == (2, 4)


def test_a_limit_spreads_over_the_documents(place):
    limited = SynthSettings(**{**_fields(place.settings), "limit": 2})
    assert [row["source"] for row in rows(place.out)] if place.out.exists() else True
    place.run(limited)
    # Of places 0, 1, 2 the two that are evenly spread: 0 * 3 // 2 and 1 * 3 // 2.
    assert list(dict.fromkeys(row["source"] for row in rows(place.out))) == ["0.txt", "1.txt"]
    with pytest.raises(ConfigError, match="limit of 0"):
        place.run(SynthSettings(**{**_fields(place.settings), "limit": 0}))


def test_nothing_to_write_for(place):
    for file in place.docs.iterdir():
        file.write_text(" ")
    with pytest.raises(DataError, match="nothing to write questions for"):
        place.run()


def test_the_command_says_what_was_written_and_what_it_cost(place, bare_bert, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", place.stub.base_url)
    options = ["synth", str(place.docs), "--out", str(place.out), "--llm", "tiny", "--embedder", str(bare_bert), "-q"]
    result = CliRunner().invoke(app, [*options, "--prices", "1000,2000"])
    assert result.exit_code == 0, result.output
    assert "6 questions for 3 passages" in result.stdout
    usage = re.search(r"Used (\d+) prompt and (\d+) completion tokens in 3 requests, ([\d.]+) in all", result.stdout)
    # A thousand for a million prompt tokens, two thousand for a million completion tokens.
    assert float(usage[3]) == pytest.approx(int(usage[1]) / 1000 + 2 * int(usage[2]) / 1000, abs=0.006)
    assert CliRunner().invoke(app, [*options, "--prices", "cheap"]).exit_code != 0
    assert json.loads(CliRunner().invoke(app, [*options, "--json"]).stdout)["n_kept"] == 6
