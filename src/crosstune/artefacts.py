"""What a model folder says of its exports: `exports.json` lists the files that were judged, and how they fared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crosstune.errors import BundleError
from crosstune.files import write_json

EXPORTS = "exports.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Artefact:
    """One way to run an exported model.

    Attributes:
        runtime: "onnx" or "openvino".
        precision: "fp32", "bf16" or "int8".
        method: How it was made, for example "dynamic" quantization.
        file: Of the graph, in the model folder; an OpenVINO graph's weights lie beside it as .bin.
        bytes: Size of the file, with its weights.
        sha256: Of the file that holds the weights.
        passed: Whether it ranks as torch does; one that does not is listed here, but its file is removed.
        parity: The figures behind that.
        n_calibration: Pairs that its scales were fitted to; 0 when it has none.
        hints: Properties to load it with.
        versions: Of the packages that made it.
    """

    runtime: str
    precision: str
    method: str
    file: str
    bytes: int
    sha256: str
    passed: bool
    parity: Mapping[str, Any]
    n_calibration: int = 0
    hints: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For example "onnx-int8"."""
        return f"{self.runtime}-{self.precision}"


def read_artefacts(folder: Path) -> tuple[Artefact, ...]:
    """All that the folder lists, refused ones too; empty when nothing was ever exported.

    Raises:
        BundleError: The list is damaged.
    """
    path = folder / EXPORTS
    if not path.is_file():
        return ()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}, this crosstune reads format {_FORMAT}")
        return tuple(Artefact(**fields) for fields in content["artefacts"])
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); remove it and export again") from error


def usable_artefacts(folder: Path) -> tuple[Artefact, ...]:
    """Those that passed.

    Raises:
        BundleError: The file of one is not there or has another size than it was judged with.
    """
    passed = tuple(artefact for artefact in read_artefacts(folder) if artefact.passed)
    for artefact in passed:
        path = folder / artefact.file
        if not path.is_file() or artefact_bytes(path) != artefact.bytes:
            raise BundleError(
                f"{path}: not the file that was judged (missing, or of another size than {EXPORTS} says); copy the "
                "model folder again, or export again"
            )
    return passed


def write_artefacts(folder: Path, artefacts: Sequence[Artefact]) -> None:
    """Write the list in one step."""
    content = {"format": _FORMAT, "artefacts": [asdict(artefact) for artefact in artefacts]}
    write_json(folder / EXPORTS, content)


def weights_file(graph: Path) -> Path:
    """The file that holds a graph's weights."""
    return graph.with_suffix(".bin") if graph.suffix == ".xml" else graph


def artefact_bytes(graph: Path) -> int:
    """Size of a graph with its weights; 0 for the part that is missing."""
    return sum(path.stat().st_size for path in {graph, weights_file(graph)} if path.is_file())
