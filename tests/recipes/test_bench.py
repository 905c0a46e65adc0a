import json
import xml.etree.ElementTree as ET

import pytest
from typer.testing import CliRunner

from crosstune.bundle import ModelBundle, save_bundle
from crosstune.cli.main import app
from crosstune.errors import BundleError, ConfigError
from crosstune.pair_encoding import PairEncoder
from crosstune.recipes.bench import BenchSettings, bench, measure_cells
from crosstune.recipes.bench_pairs import BenchPairs, one_token_words
from crosstune.types import Calibration, Fusion, Part, Reading, ScoreKind

FAMILIES = ("bert", "xlm-roberta", "modernbert", "distilbert")


class Machine:
    """Rankings that take the seconds given for their shape, one after the other; the last one for ever after."""

    def __init__(self, **seconds):
        self.seconds = {tuple(map(int, shape[1:].split("x"))): list(given) for shape, given in seconds.items()}
        self.now, self.calls = 0.0, []

    def clock(self):
        return self.now

    def rank(self, shape):
        self.calls.append(shape)
        given = self.seconds[shape]
        self.now += given.pop(0) if len(given) > 1 else given[0]

    def measure(self, repeat, budget_s):
        cells = measure_cells(self.rank, list(self.seconds), repeat, budget_s, clock=self.clock)
        assert [(cell.candidates, cell.tokens) for cell in cells] == list(self.seconds)
        return cells


class TestFigures:
    def test_percentiles_by_hand(self):
        # The warm-up of 9 s does not count. Of 1..7 s the median is 4; the 95th percentile stands at place
        # 0.95 * 6 = 5.7 from 0, between 6 and 7: 6.7. 10 candidates in 4 s are 2.5 pairs a second.
        (cell,) = Machine(_10x64=[9, 3, 1, 7, 5, 2, 6, 4]).measure(7, 1000)
        assert (cell.p50_ms, cell.p95_ms) == (pytest.approx(4000), pytest.approx(6700))
        assert cell.pairs_per_s == pytest.approx(2.5)
        assert cell.n_repeats == 7

    def test_one_repeat(self):
        (cell,) = Machine(_10x64=[9, 3]).measure(1, 1000)
        assert (cell.p50_ms, cell.p95_ms, cell.n_repeats) == (pytest.approx(3000), pytest.approx(3000), 1)

    def test_small_cells_come_first_and_the_table_keeps_its_order(self):
        machine = Machine(_100x64=[1], _10x512=[1], _10x64=[1])
        machine.measure(1, 1000)
        assert machine.calls == [(10, 64)] * 2 + [(10, 512)] * 2 + [(100, 64)] * 2


class TestBudget:
    def test_fewer_repeats_where_time_is_short(self):
        # One cell, 1 s a call, 5.5 s: after the warm-up 4.5 s are left for 4 repeats.
        machine = Machine(_10x64=[1])
        (cell,) = machine.measure(7, 5.5)
        assert cell.n_repeats == 4
        assert machine.now == 5.0

    def test_time_is_shared_out_by_size(self):
        # Sizes 1 : 3. Of 24 s the first gets 6: 1 s of warm-up and 5 repeats. It leaves 18 s for the second, whose
        # calls take 3 s: warm-up and 5 repeats.
        machine = Machine(_10x64=[1], _30x64=[3])
        assert [cell.n_repeats for cell in machine.measure(7, 24)] == [5, 5]
        assert machine.now == 24

    def test_what_would_not_fit_is_not_even_begun(self):
        # After 1 + 3 s, 4 s are left of 8. By the speed seen the second takes 10 s a call, the third 100 s.
        machine = Machine(_10x64=[1], _100x64=[10], _1000x64=[100])
        first, second, third = machine.measure(3, 8)
        assert first.n_repeats == 3
        assert machine.now == 4
        for cell in (second, third):
            assert (cell.p50_ms, cell.p95_ms, cell.pairs_per_s, cell.n_repeats) == (None, None, None, 0)

    def test_a_warm_up_alone_is_no_measurement(self):
        machine = Machine(_10x64=[5])
        (cell,) = machine.measure(7, 10)
        assert cell.p50_ms is None
        assert machine.calls == [(10, 64)]

    def test_a_machine_that_slows_down_is_stopped(self):
        # Warm-up 1 s, then 10 s a call. At 21 s, of 20, only 2 repeats are done: fewer than 3 say nothing.
        machine = Machine(_10x64=[1, 10])
        (cell,) = machine.measure(7, 20)
        assert cell.p50_ms is None
        assert machine.now == 21


class TestPairs:
    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("tokens", [8, 17, 64, 120])
    def test_every_pair_has_exactly_so_many_tokens(self, load, families, family, tokens):
        encoder = PairEncoder(load(families[family]).tokenizer, 128)
        query, passages = BenchPairs(encoder).texts(5, tokens)
        check_lengths(encoder, query, passages, tokens)
        assert tokens == 8 or len(set(passages)) == 5

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("tokens", [9, 33, 120])
    def test_the_users_texts_are_cut_and_joined(self, load, families, family, tokens, tmp_path):
        data = tmp_path / "qa.csv"
        data.write_text(
            "question,answer\nWhen is my refund paid?,A refund is paid to your card.\nInvoice?," + "漢字" * 9
        )
        encoder = PairEncoder(load(families[family]).tokenizer, 128)
        query, passages = BenchPairs(encoder, data).texts(7, tokens)
        check_lengths(encoder, query, passages, tokens)
        assert "paid" in " ".join(passages)

    def test_words_are_one_token_at_the_start_and_after_a_blank(self, load, bert):
        encoder = PairEncoder(load(bert).tokenizer, 128)
        words = one_token_words(encoder)
        assert "password" in words
        assert all(len(ids) == 3 for ids in encoder.tokenize([f"{word} {word} {word}" for word in words]))

    def test_the_same_texts_every_time(self, load, bert):
        encoder = PairEncoder(load(bert).tokenizer, 128)
        assert BenchPairs(encoder).texts(3, 40) == BenchPairs(encoder).texts(3, 40)

    def test_no_room_for_a_pair(self, load, bert):
        with pytest.raises(ConfigError, match="at least 5 tokens, found 4"):
            BenchPairs(PairEncoder(load(bert).tokenizer, 128)).texts(3, 4)


def check_lengths(encoder, query, passages, tokens):
    for passage in passages:
        ids = encoder.tokenize([query, passage])
        pair = encoder.pair(*ids)
        assert len(pair.ids) == tokens
        assert not pair.truncated


@pytest.fixture(scope="module")
def run(load, bert, tmp_path_factory):
    """A run folder: a model of at most 64 tokens, and what a report says of it."""
    folder = tmp_path_factory.mktemp("run")
    loaded = load(bert)
    scale = Calibration(1.0, 0.0, 0.5, 0, 0, 1)
    bundle = ModelBundle(folder / "model", 64, ScoreKind.LOGIT, "base", "r", "f", "fp32", scale, None)
    save_bundle(bundle, (loaded.model, loaded.tokenizer))
    estimate = {"mean": 0.8, "ci_low": 0.7, "ci_high": None, "n": 40}
    rows = [{"name": name, "measures": {"nDCG@10": estimate}} for name in ("bm25", "tuned reranker", "shipped")]
    report = {"table": rows, "comparisons": [], "per_query": {}}
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def invoke(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


SMALL = ("--candidates", "2,5", "--tokens", "16,32,128", "--repeat", "3", "--runtime", "torch")


class TestCommand:
    def test_json(self, run, tmp_path):
        result = invoke(run, *SMALL, "--json", "-q", "--out", tmp_path)
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert [(c["tokens"], c["candidates"]) for c in found["cells"]] == [(16, 2), (16, 5), (32, 2), (32, 5)]
        for cell in found["cells"]:
            assert cell["n_repeats"] == 3
            assert 0 < cell["p50_ms"] <= cell["p95_ms"]
            assert cell["pairs_per_s"] == pytest.approx(cell["candidates"] / cell["p50_ms"] * 1000)
        assert found["notes"] == ["Left out: 128 tokens, since this model reads at most 64 tokens of a pair."]
        assert sorted(found["quality"]) == ["shipped", "tuned reranker"]
        assert found["quality"]["tuned reranker"] == {"mean": 0.8, "ci_low": 0.7, "ci_high": None, "n": 40}
        assert (found["runtime"], found["precision"]) == ("torch", "fp32")
        assert {"processor", "cores", "threads", "torch", "python"} <= found["machine"].keys()
        assert json.loads((tmp_path / "latency.json").read_text()) == found

    def test_table_chart_and_markdown(self, run, tmp_path):
        result = invoke(run / "model", *SMALL, "-q", "--out", tmp_path / "new" / "folder")
        assert result.exit_code == 0, result.output
        assert "candidates" in result.stdout
        assert "nDCG@10 0.800" in result.stdout
        assert "Left out: 128 tokens" in result.stdout
        folder = tmp_path / "new" / "folder"
        markdown = (folder / "latency.md").read_text()
        assert "![Latency](latency.svg)" in markdown
        assert sum(line.startswith(("| 16 |", "| 32 |")) for line in markdown.splitlines()) == 4
        assert "processor: " in markdown
        root = ET.parse(folder / "latency.svg").getroot()
        texts = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text")]
        assert {"16 tokens", "32 tokens", "2", "5"} <= set(texts)

    def test_without_a_run_the_quality_is_not_known(self, run, tmp_path):
        import shutil

        shutil.copytree(run / "model", tmp_path / "model")
        result = invoke(tmp_path / "model", "--candidates", "2", "--tokens", "16", "--repeat", "1", "-q", "--json")
        found = json.loads(result.stdout)
        assert found["quality"] == {}
        assert "give the run folder" in found["quality_sentence"]

    def test_what_was_not_measured_is_said_and_never_invented(self, run, tmp_path):
        result = invoke(run, *SMALL, "-q", "--budget", "0.000001s", "--out", tmp_path)
        assert result.exit_code == 0, result.output
        assert result.stdout.count("not measured") == 5
        assert "4 of 4 cells did not fit" in result.stdout
        assert not (tmp_path / "latency.svg").exists()
        assert "latency.svg" not in (tmp_path / "latency.md").read_text()

    def test_a_damaged_report_is_said(self, run, tmp_path):
        import shutil

        shutil.copytree(run, tmp_path / "run")
        (tmp_path / "run" / "report.json").write_text("{")
        settings = BenchSettings(candidates=(2,), tokens=(16,), repeat=1)
        assert "report.json cannot be read" in bench(tmp_path / "run", settings).quality_sentence

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--candidates", "10,ten"), "--candidates must be whole numbers"),
            (("--tokens", ""), "--tokens must be whole numbers"),
            (("--candidates", "0,5"), "candidates must be whole numbers above 0"),
            (("--tokens", "-5"), "tokens must be whole numbers above 0"),
            (("--repeat", "0"), "repeat must be whole numbers above 0"),
            (("--budget", "soon"), "not a duration"),
            (("--budget", "0s"), "above 0 seconds"),
            (("--tokens", "512"), "at most 64 tokens"),
            (("--tokens", "4"), "at least 5 tokens"),
            (("--precision", "fp8"), "--precision must be"),
            (("--runtime", "abacus"), "runtime must be one of"),
        ],
    )
    def test_bad_arguments(self, run, arguments, message):
        result = invoke(run, *arguments, "-q")
        assert isinstance(result.exception, ConfigError)
        assert message in str(result.exception)

    def test_no_model(self, tmp_path):
        assert isinstance(invoke(tmp_path, "-q").exception, BundleError)


def test_what_the_cross_encoder_does_not_read_is_said(load, bert, tmp_path):
    loaded, scale = load(bert), Calibration(1.0, 0.0, 0.5, 0, 0, 1)
    weights = {Part.CROSS_ENCODER: 1.0, Part.LEXICAL: 1.0}
    fusion = Fusion("bm25", weights, "und", scale, Reading(3, {Part.LEXICAL: 1.0}))
    bundle = ModelBundle(tmp_path / "model", 64, ScoreKind.LOGIT, "b", "r", "f", "fp32", scale, fusion)
    save_bundle(bundle, (loaded.model, loaded.tokenizer))
    found = json.loads(invoke(tmp_path / "model", *SMALL[:-2], "--json", "-q").stdout)
    assert any("reads the 3 that the other parts rank best" in note for note in found["notes"])
