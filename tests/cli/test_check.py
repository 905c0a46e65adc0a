"""`crosstune check` as a person and as a script see it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import typer
from tokenizers import Tokenizer, models
from typer.testing import CliRunner

from crosstune.cli.check import check
from crosstune.errors import DataError
from crosstune.recipes import check as recipe

ROWS = "question,answer\nHow do I pay?,By card.\nHow do I pay?,By card.\nWhere is it?,\nWhy?,Because [so].\n"


@pytest.fixture(autouse=True)
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Tokenizer(models.BPE({"a": 0}, []))
    monkeypatch.setattr(recipe, "load_tokenizer", lambda base: plain)


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(check)
    return app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "qa.csv"
    path.write_text(ROWS)
    return path


def test_human_output(app: typer.Typer, path: Path) -> None:
    result = CliRunner().invoke(app, [str(path), "--quiet"])
    assert result.exit_code == 0
    assert "4 read = 2 used + 1 merged + 1 dropped" in result.stdout
    assert "exact-duplicate" in result.stdout
    assert "2 (of 1)" in result.stdout
    assert "Too few" in result.stdout


def test_json_is_all_of_stdout(app: typer.Typer, path: Path) -> None:
    result = CliRunner().invoke(app, [str(path), "--json"])
    fields = json.loads(result.stdout)
    assert fields["audit"]["counts"] == {"empty-answer": 1, "exact-duplicate": 1}
    assert fields["audit"]["findings"][0] == {
        "row": 2,
        "kind": "exact-duplicate",
        "action": "merged",
        "detail": "question and answer are those of row 1",
        "other_row": 1,
    }
    assert fields["recommendation"] == "too few"


def test_findings_file(app: typer.Typer, path: Path, tmp_path: Path) -> None:
    target = tmp_path / "findings.csv"
    assert CliRunner().invoke(app, [str(path), "--quiet", "--findings", str(target)]).exit_code == 0
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["row"], row["kind"], row["other_row"]) for row in rows] == [
        ("3", "empty-answer", ""),
        ("2", "exact-duplicate", "1"),
    ]


def test_a_refused_file_leaves_no_findings_file(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "qa.csv"
    path.write_text(ROWS + "a,b,c\n")
    target = tmp_path / "findings.csv"
    result = CliRunner().invoke(app, [str(path), "--quiet", "--findings", str(target)])
    assert isinstance(result.exception, DataError)
    assert "row 5: expected 2 fields" in str(result.exception)
    assert sorted(tmp_path.iterdir()) == [path]
    assert CliRunner().invoke(app, [str(path), "--quiet", "--skip-bad-rows"]).exit_code == 0


def test_columns_by_option(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "qa.csv"
    path.write_text("ask;say\nWhy?;Because so.\n")
    options = ["--question-column", "ask", "--answer-column", "say", "--json"]
    result = CliRunner().invoke(app, [str(path), *options])
    assert json.loads(result.stdout)["audit"]["columns"] == {"question": "ask", "answer": "say"}
