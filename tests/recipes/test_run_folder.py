import json

import pytest

from crosstune.errors import ConfigError
from crosstune.recipes.run_folder import RunFolder

IDENTITY = {"settings": {"seed": 0}, "data_fingerprint": "abc"}


def test_a_new_folder_has_a_manifest_that_says_running(tmp_path):
    folder = RunFolder(tmp_path / "out", IDENTITY)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["status"] == "running"
    assert manifest["data_fingerprint"] == "abc"
    assert manifest["versions"]["numpy"]
    assert not folder.complete


def test_the_same_run_is_continued_with_what_it_remembered(tmp_path):
    RunFolder(tmp_path / "out", IDENTITY).remember(measured={"plan": 1})
    assert RunFolder(tmp_path / "out", IDENTITY).recall("measured") == {"plan": 1}


@pytest.mark.parametrize("changed", ["settings", "data_fingerprint"])
def test_another_run_in_the_folder_is_refused_by_name_of_what_differs(tmp_path, changed):
    RunFolder(tmp_path / "out", IDENTITY)
    with pytest.raises(ConfigError, match=f"different {changed}.*--overwrite"):
        RunFolder(tmp_path / "out", {**IDENTITY, changed: "other"})


def test_an_unfinished_run_of_another_version_is_refused_and_a_finished_one_read(tmp_path):
    RunFolder(tmp_path / "out", IDENTITY)
    manifest = tmp_path / "out" / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"format": 1}))
    with pytest.raises(ConfigError, match=r"another version of crosstune began.*--overwrite"):
        RunFolder(tmp_path / "out", IDENTITY)
    manifest.write_text(json.dumps(content | {"format": 1, "status": "complete"}))
    assert RunFolder(tmp_path / "out", IDENTITY).complete


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(tmp_path):
    folder = RunFolder(tmp_path / "out", IDENTITY)
    folder.remember(measured=1)
    (folder.training / "checkpoint-3").mkdir(parents=True)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    fresh = RunFolder(tmp_path / "out", {**IDENTITY, "data_fingerprint": "other"}, overwrite=True)
    assert fresh.recall("measured") is None
    assert not fresh.training.exists()
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_text("")
    with pytest.raises(ConfigError, match="holds no crosstune run"):
        RunFolder(tmp_path, IDENTITY)


def test_a_damaged_manifest_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        RunFolder(tmp_path, IDENTITY)


def test_finishing_removes_the_checkpoints_and_is_remembered(tmp_path):
    folder = RunFolder(tmp_path / "out", IDENTITY)
    folder.training.mkdir()
    folder.finish(verdict="better")
    assert not folder.training.exists()
    assert RunFolder(tmp_path / "out", IDENTITY).complete
