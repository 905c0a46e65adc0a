"""Each format to the same collection; refusals that name file, row, cause and remedy; nothing lost unsaid."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from crosstune.data import LoadSettings, audit, load
from crosstune.data.audit import MAX_LISTED, Finding
from crosstune.errors import ConfigError, DataError, LeakageError, MissingExtraError
from crosstune.types import Collection

ROWS = [
    ("How do I pay?", "By card."),
    ("Where is my order?", "On its way, see “Orders”."),
    ("How do I pay?", "By bank."),
]
QRELS = {"q1": {"p1": 1, "p3": 1}, "q2": {"p2": 1}}


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def table(delimiter: str, header: str = "Question{}Answer") -> str:
    lines = [header.format(delimiter)] + [f'"{q}"{delimiter}"{a}"' for q, a in ROWS]
    return "\r\n".join(lines) + "\r\n"


def texts(collection: Collection) -> tuple[list[str], list[str]]:
    return [q.text for q in collection.queries.values()], [p.text for p in collection.passages.values()]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_csv_of_any_delimiter_and_encoding(tmp_path: Path, delimiter: str, encoding: str) -> None:
    path = write(tmp_path / "qa.csv", table(delimiter), encoding)
    loaded = load(path)
    assert texts(loaded.collection) == (
        ["How do I pay?", "Where is my order?"],
        ["By card.", "On its way, see “Orders”.", "By bank."],
    )
    assert loaded.collection.qrels == QRELS
    assert loaded.audit.delimiter == delimiter


@pytest.mark.parametrize(
    "header",
    ["question{}answer", " QUESTION {}ANSWER\u00a0", "Query{}Passage", "q{}a", "User question{}Response"],
)
def test_known_column_names(tmp_path: Path, header: str) -> None:
    assert load(write(tmp_path / "qa.csv", table(",", header))).collection.qrels == QRELS


def test_columns_by_name_and_the_rest_as_metadata(tmp_path: Path) -> None:
    path = write(tmp_path / "qa.csv", "id,Ask,Say,note\n7,Why?,Because of this.,\n")
    loaded = load(path, LoadSettings(question_column="ask", answer_column="SAY"))
    assert loaded.audit.columns == {"question": "Ask", "answer": "Say"}
    assert dict(loaded.collection.passages["p1"].metadata) == {"id": "7"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("Question,Answer\n", "no row can be used of 0"),
        ("Question,Answer\nq,\n,a\n", r"no row can be used of 2 \(empty-answer 1, empty-question 1\)"),
        ("Foo,Bar\n1,2\n", r"question column, found the columns 'Foo', 'Bar'; .*--question-column"),
        ("Question,Query,Answer\n1,2,3\n", "more than one column could be the question: 'Question', 'Query'"),
        ("Question,Answer,Answer\n1,2,3\n", "the column 'Answer' more than once"),
        (
            "Question,Answer\nWhy?,Because.\nWhy?,a,b\n",
            r"qa\.csv row 2: expected 2 fields .*, found 3; .*--skip-bad-rows",
        ),
        ('Question,Answer\nWhy?,"Because" so\n', r"qa\.csv row 1: text follows a closing quote"),
        (
            "Question,Answer,label\nq,a,1\n" + "q,b,1\n" * 120 + "q,b,maybe\n",
            r"row 122: label 'maybe' in column 'label'",
        ),
    ],
)
def test_refusals(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "qa.csv", text))


def test_missing_file_unknown_ending_and_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        load(tmp_path / "no.csv")
    with pytest.raises(DataError, match=r"'\.xlsx' names no known format"):
        load(write(tmp_path / "qa.xlsx", "x"))
    with pytest.raises(ConfigError, match="one character"):
        LoadSettings(delimiter=";;")
    with pytest.raises(ConfigError, match="not known"):
        LoadSettings(encoding="utf-9")


def test_one_damaged_line_does_not_make_utf8_another_encoding(tmp_path: Path) -> None:
    good = "".join(f"Was heißt Größe {i}?,Länge über alles {i}.\n" for i in range(9)).encode()
    (tmp_path / "qa.csv").write_bytes(b"Question,Answer\n" + good + b"Gr\xf6\xdfe?,Nichts.\n")
    with pytest.raises(DataError, match=r"line 11 has bytes that are not UTF-8.*--skip-bad-rows"):
        load(tmp_path / "qa.csv")
    report = audit(tmp_path / "qa.csv", LoadSettings(skip_bad_rows=True))
    assert [(f.row, f.kind) for f in report.findings if f.kind == "lost-characters"] == [(10, "lost-characters")]


def test_wrong_encoding_given(tmp_path: Path) -> None:
    path = write(tmp_path / "qa.csv", table(","), "cp1252")
    with pytest.raises(DataError, match="not utf-8; name the right encoding with --encoding"):
        load(path, LoadSettings(encoding="utf-8"))


def test_gb18030_is_guessed(tmp_path: Path) -> None:
    body = (
        "高血压患者应该注意什么？,平时应该低盐饮食，注意休息，按时吃药，定期测量血压。\n"
        "糖尿病会遗传吗？,有一定的遗传倾向。\n"
    )
    loaded = load(write(tmp_path / "qa.csv", "question,answer\n" + body * 20, "gb18030"))
    assert "糖尿病会遗传吗？" in texts(loaded.collection)[0]


def test_labelled_pairs_and_conflicts(tmp_path: Path) -> None:
    lines = ["query,passage,label", "q one?,a,1", "q one?,b,0", "q two?,c,0", "Q one,B,1.0"]
    loaded = load(write(tmp_path / "pairs.csv", "\n".join(lines)))
    # Row 4 says 1 of the pair that row 2 labels 0: the higher label is used and the conflict reported.
    assert loaded.collection.qrels == {"q1": {"p1": 1, "p2": 1}, "q2": {"p3": 0}}
    kinds = {(f.row, f.kind, f.other_row) for f in loaded.audit.findings}
    assert {(4, "conflicting-label", 2), (4, "near-duplicate", 2), (3, "no-relevant-answer", None)} <= kinds
    assert loaded.audit.n_queries_with_relevant == 1


def test_the_higher_label_wins_in_either_order(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.csv", "query,passage,label\nq one?,a,2\nq one?,a,0\n")
    assert load(path).collection.qrels == {"q1": {"p1": 2}}


def test_a_row_that_repeats_itself_is_used(tmp_path: Path) -> None:
    report = load(write(tmp_path / "g.jsonl", '{"query": "One?", "pos": ["a", "a"]}\n')).audit
    assert (report.rows_used, report.rows_merged, report.counts) == (1, 0, {"exact-duplicate": 1})


def test_the_sample_is_bounded_and_from_the_whole_file(tmp_path: Path) -> None:
    lines = [f"question number {i}?,answer number {i}" for i in range(4000)]
    sample = audit(write(tmp_path / "qa.csv", "question,answer\n" + "\n".join(lines))).sample_questions
    late = sum(int(text.split()[-1].rstrip("?")) >= 2000 for text in sample)
    # Half of 1,000 drawn without replacement of 4,000: standard deviation sqrt(1000/4 * 3000/3999) = 13.7.
    assert len(sample) == 1000
    assert abs(late - 500) < 4 * 13.7


def test_a_label_column_of_topics_is_metadata(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "qa.csv", "question,answer,label\nWhy?,Because so.,billing\n"))
    assert loaded.collection.qrels == {"q1": {"p1": 1}}
    assert dict(loaded.collection.passages["p1"].metadata) == {"label": "billing"}


def test_split_column(tmp_path: Path) -> None:
    text = "question,answer,Split\nOne one?,a,train\nTwo two?,b,validation\nThree three?,c,TEST\n"
    loaded = load(write(tmp_path / "qa.csv", text))
    assert loaded.splits_by_user == {"q1": "train", "q2": "dev", "q3": "test"}
    assert loaded.audit.user_split == {"train": 1, "dev": 1, "test": 1}
    leaky = write(tmp_path / "leaky.csv", text + "one ONE,d,test\n")
    with pytest.raises(LeakageError, match="row 4: the question is in test here and in train in row 1"):
        load(leaky)
    assert audit(leaky).counts["question-in-two-splits"] == 1


@pytest.mark.parametrize(("positives", "negatives"), [("pos", "neg"), ("relevant_passages", "hard_negatives")])
def test_grouped_jsonl(tmp_path: Path, positives: str, negatives: str) -> None:
    lines = [
        {"query": "One?", positives: ["a", "b"], negatives: ["c"], "lang": "en"},
        {"query": "Two?", positives: "c", negatives: None},
        {"query": "Three?", positives: [], negatives: []},
    ]
    loaded = load(write(tmp_path / "g.jsonl", "\n".join(map(json.dumps, lines)) + "\n"))
    assert loaded.collection.qrels == {"q1": {"p1": 1, "p2": 1, "p3": 0}, "q2": {"p3": 1}}
    report = loaded.audit
    assert (report.rows_read, report.rows_used, report.rows_dropped) == (3, 2, 1)
    assert [(f.row, f.action) for f in report.findings if f.kind == "empty-answer"] == [(3, "dropped")]
    assert dict(loaded.collection.passages["p1"].metadata) == {"lang": "en"}


def test_jsonl_pairs_and_bad_lines(tmp_path: Path) -> None:
    good = '{"question": "One?", "answer": "a", "n": 3, "ok": true}\n\n'
    bad = '[1]\n{"question": "Two?", "answer": ["b"]}\nnot json\n{"question": "Three?", "ans'
    path = write(tmp_path / "qa.jsonl", good + bad)
    with pytest.raises(DataError, match=r"qa\.jsonl row 3: found a JSON list, not an object; .*--skip-bad-rows"):
        load(path)
    loaded = load(path, LoadSettings(skip_bad_rows=True))
    assert [(f.row, f.kind) for f in loaded.audit.findings] == [
        (2, "blank-row"),
        (3, "unreadable-row"),
        (4, "unreadable-row"),
        (5, "unreadable-row"),
        (6, "truncated-file"),
    ]
    assert (loaded.audit.rows_read, loaded.audit.rows_used, loaded.audit.rows_dropped) == (6, 1, 5)
    assert dict(loaded.collection.passages["p1"].metadata) == {"n": "3", "ok": "true"}


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"Question": [q for q, _ in ROWS] + [None], "Answer": [a for _, a in ROWS] + ["x"]}
    parquet.write_table(arrow.table(columns), tmp_path / "qa.parquet")
    loaded = load(tmp_path / "qa.parquet")
    assert loaded.collection.qrels == QRELS
    assert [(f.row, f.kind) for f in loaded.audit.findings if f.action == "dropped"] == [(4, "empty-question")]
    with pytest.raises(DataError, match="not a whole Parquet file"):
        load(write(tmp_path / "broken.parquet", "PAR1 no"))


def test_parquet_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"crosstune\[parquet\]"):
        load(write(tmp_path / "qa.parquet", "x"))


def test_shared_answers_are_found_and_grouped(tmp_path: Path) -> None:
    text = "question,answer\nFirst one?,Same.\nSecond thing?,Same.\nThird matter?,Other.\n"
    report = audit(write(tmp_path / "qa.csv", text))
    found = [(f.row, f.kind, f.action, f.other_row) for f in report.findings]
    assert found == [(2, "same-answer-other-question", "kept", 1)]
    assert (report.n_queries, report.n_passages, report.n_groups, report.largest_group) == (3, 2, 2, 2)


def test_near_duplicates_are_flagged_and_never_merged(tmp_path: Path) -> None:
    long = "How long do I have to wait until my refund for the returned goods arrives"
    text = f"question,answer\n{long}?,One day.\n{long} here?,Two days.\n"
    loaded = load(write(tmp_path / "qa.csv", text))
    assert [(f.row, f.kind, f.other_row) for f in loaded.audit.findings] == [(2, "near-duplicate-question", 1)]
    assert len(loaded.collection.queries) == 2
    assert loaded.audit.n_groups == 1


def test_fingerprint_follows_content_alone(tmp_path: Path) -> None:
    text = table(",")
    first = load(write(tmp_path / "a.csv", text)).collection.fingerprint
    assert load(write(tmp_path / "b.csv", text, "utf-16")).collection.fingerprint == first
    assert load(write(tmp_path / "c.csv", text.replace("card", "cash"))).collection.fingerprint != first
    assert len(first) == 64


def test_listed_findings_are_capped_and_counts_are_not(tmp_path: Path) -> None:
    path = write(tmp_path / "qa.csv", "question,answer\nWhy?,Because so.\n" + "q,\n" * (MAX_LISTED + 7))
    seen: list[Finding] = []
    report = audit(path, sink=seen.append)
    assert report.counts == {"empty-answer": MAX_LISTED + 7}
    assert report.unlisted == {"empty-answer": 7}
    assert len(report.findings) == MAX_LISTED
    assert len(seen) == MAX_LISTED + 7


def test_a_synthetic_column(tmp_path: Path) -> None:
    path = tmp_path / "qa.csv"
    path.write_text(
        "question,answer,Synthetic\nwhat is red,roses are red,yes\nwhat is blue,the sky is blue,\n"
        "What is red?,roses are red,no\nwhat is green,grass is green,TRUE\n"
    )
    queries = load(path).collection.queries
    # A question that a person asked too is a person's.
    assert {q.text: q.synthetic for q in queries.values()} == {
        "what is red": False, "what is blue": False, "what is green": True
    }  # fmt: skip
    path.write_text("question,answer,synthetic\nwhat is red,roses are red,rubber\n")
    loaded = load(path).collection
    assert [q.synthetic for q in loaded.queries.values()] == [False]
    assert [p.metadata for p in loaded.passages.values()] == [{"synthetic": "rubber"}]
