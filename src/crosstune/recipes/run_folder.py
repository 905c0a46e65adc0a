"""The folder a run writes, and how the same command finds its way back into it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from crosstune.data import write_run
from crosstune.errors import ConfigError
from crosstune.files import write_json
from crosstune.types import Run

# Raised when what an unfinished run remembers changes its form.
_FORMAT = 2
_PACKAGES = ("crosstune", "torch", "transformers", "sentence-transformers", "bm25s", "numpy", "scipy")


class RunFolder:
    """Paths of a run's artefacts and its manifest.

    The manifest is written at the start with everything that decides the result. The same command on the same data
    continues the run; another command or other data in the same folder is an error, since it would mix two runs.

    Args:
        path: The --out folder.
        identity: What decides the result: resolved settings, data fingerprint, base revision.
        overwrite: Start anew whatever the folder holds.

    Raises:
        ConfigError: The folder holds another run, or something that is no run.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = path
        self._identity = json.loads(json.dumps(identity))
        existing = self._read()
        if existing is not None and overwrite:
            self._clear()
            existing = None
        if existing is not None:
            self._require_same(existing)
        self._manifest: dict[str, Any] = existing or {
            "format": _FORMAT,
            "status": "running",
            **self._identity,
            "versions": package_versions(),
        }
        path.mkdir(parents=True, exist_ok=True)
        self._write()

    @property
    def model(self) -> Path:
        """The model folder we ship."""
        return self.path / "model"

    @property
    def runs(self) -> Path:
        """Rankings as TREC files."""
        return self.path / "runs"

    @property
    def mining(self) -> Path:
        """Account of the negatives, and samples for a person to review."""
        return self.path / "mining"

    @property
    def cache(self) -> Path:
        """Embeddings by content hash."""
        return self.path / "cache"

    @property
    def training(self) -> Path:
        """Checkpoints; removed when the run is complete."""
        return self.path / "training"

    @property
    def unmapped(self) -> Path:
        """Answers that the live index does not hold."""
        return self.path / "unmapped.csv"

    @property
    def complete(self) -> bool:
        """Whether the run has ended with a verdict."""
        return bool(self._manifest["status"] == "complete")

    @property
    def resumed(self) -> bool:
        """Whether training had begun before this process started."""
        return self.training.is_dir()

    def recall(self, key: str) -> Any:
        """What was remembered under a key, or None."""
        return self._manifest.get(key)

    def remember(self, **values: Any) -> None:
        """Keep decisions, so that a continued run makes the same ones."""
        self._manifest |= values
        self._write()

    def finish(self, **values: Any) -> None:
        """Mark the run complete and remove what only a continuation needs."""
        self.remember(status="complete", **values)
        shutil.rmtree(self.training, ignore_errors=True)

    def _read(self) -> dict[str, Any] | None:
        file = self.path / "manifest.json"
        if not file.is_file():
            if self.path.is_dir() and any(self.path.iterdir()):
                raise ConfigError(f"{self.path} is not empty and holds no crosstune run; choose another --out folder")
            return None
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{file} is damaged ({error}); choose another --out folder or remove this one") from error
        return dict(manifest)

    def _require_same(self, existing: Mapping[str, Any]) -> None:
        changed = [key for key, value in self._identity.items() if existing.get(key) != value]
        if changed:
            raise ConfigError(
                f"{self.path} holds a run with different {', '.join(changed)}; choose another --out folder, or pass "
                "--overwrite to replace that run"
            )
        if existing.get("format") != _FORMAT and existing.get("status") != "complete":
            raise ConfigError(
                f"{self.path} holds a run that another version of crosstune began and did not finish; pass --overwrite "
                "to begin it anew, or choose another --out folder"
            )

    def _clear(self) -> None:
        """Remove what a run writes, and nothing else that a person may have put there."""
        for folder in (self.model, self.runs, self.mining, self.cache, self.training):
            shutil.rmtree(folder, ignore_errors=True)
        for name in ("manifest.json", "report.json", "report.html", "qrels.trec", "splits.json", "unmapped.csv"):
            (self.path / name).unlink(missing_ok=True)

    def _write(self) -> None:
        write_json(self.path / "manifest.json", self._manifest)


def package_versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Versions of the packages that decide the result, of those installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_runs(runs: Mapping[str, Run], folder: Path) -> None:
    """Write rankings as TREC files, a row's name with hyphens for blanks: a TREC line is cut at its blanks."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, run in runs.items():
        tag = name.replace(" ", "-")
        write_run(replace(run, name=tag), folder / f"{tag}.trec")
