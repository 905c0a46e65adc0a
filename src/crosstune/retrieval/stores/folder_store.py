"""An index in a folder: one SQLite file for each version, and a small file that says which one is published.

index.json              the published version and its spec
0123456789ab.sqlite     passages and vectors of a version
0123456789ab.usearch    its graph, when it is large
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import StoreError
from crosstune.files import write_json
from crosstune.language import language_of
from crosstune.lexical.tokens import Tokenizer
from crosstune.retrieval.ranking import require_depth
from crosstune.retrieval.stores import folder_files as files
from crosstune.retrieval.stores.checks import check_passages, check_vectors, missing
from crosstune.retrieval.stores.conditions import check_conditions
from crosstune.retrieval.stores.folder_view import Ranked, View
from crosstune.retrieval.stores.location import FolderPlace
from crosstune.retrieval.stores.version import VERSION, Manifest, read_manifest, version_name
from crosstune.types import Condition, Found, IndexSpec, Passage

_POINTER = "index.json"
_VERSION_FILE = re.compile(rf"({VERSION.pattern})\.(sqlite|sqlite-wal|sqlite-shm|usearch|usearch\.tmp)")
_PASSAGES_AT_ONCE = 500


class FolderStore:
    """One version of an index in a folder. It can be used by several threads.

    Args:
        place: The folder.
        manifest: The version and its spec.
        connection: To the version's file.
    """

    def __init__(self, place: FolderPlace, manifest: Manifest, connection: sqlite3.Connection) -> None:
        self._place = place
        self._manifest = manifest
        self._connection = connection
        self._cut = Tokenizer(language_of(manifest.spec.language))
        self._lock = RLock()
        self._view: View | None = None
        self._view_of = -1  # SQLite's number for what other programs had written

    @property
    def location(self) -> str:
        """The folder."""
        return self._place.location

    @property
    def spec(self) -> IndexSpec:
        """What it was made with."""
        return self._manifest.spec

    @property
    def version(self) -> str:
        """Hash of the spec, and of the schema where that is not the usual one."""
        return self._manifest.version

    def count(self) -> int:
        """Number of passages."""
        with self._reading():
            n: int = self._connection.execute("SELECT count(*) FROM passages").fetchone()[0]
            return n

    def digests(self) -> Mapping[str, str]:
        """passage_id -> digest given to `put` or `update`."""
        with self._reading():
            return dict(self._connection.execute("SELECT passage_id, digest FROM passages").fetchall())

    def put(self, passages: Sequence[Passage], vectors: NDArray[np.float32], digests: Sequence[str]) -> None:
        """Write passages with their vectors (passages, dimensions); those that are there are replaced."""
        check_passages(passages, digests)
        rows = check_vectors(vectors, len(passages), self.spec)
        with self._writing():
            files.delete(self._connection, [passage.passage_id for passage in passages])
            files.insert(self._connection, passages, rows, digests, self._cut)

    def update(self, passages: Sequence[Passage], digests: Sequence[str]) -> None:
        """Write all but the vectors of passages that are there."""
        check_passages(passages, digests)
        with self._writing():
            for passage, digest in zip(passages, digests, strict=True):
                if not files.overwrite(self._connection, passage, digest, self._cut):
                    raise missing(passage.passage_id, self.location)

    def remove(self, passage_ids: Sequence[str]) -> None:
        """Forget passages; ids that are not there are passed over."""
        with self._writing():
            files.delete(self._connection, passage_ids)

    def publish(self) -> None:
        """Make this version the one that `open_store` gives, in one step, and drop the others."""
        with files.explained(self.location):
            write_json(self._place.path / _POINTER, self._manifest.as_json())
            for path in self._place.path.iterdir():
                match = _VERSION_FILE.fullmatch(path.name)
                if match and match[1] != self._manifest.version:
                    with suppress(PermissionError):  # Windows keeps files that are open; the next time they go
                        path.unlink(missing_ok=True)

    def search_vector(
        self, vector: NDArray[np.float32], depth: int, where: Sequence[Condition] = ()
    ) -> tuple[Found, ...]:
        """Passages with the highest cosine to a unit vector (dimensions,), best first; equal ones by passage id."""
        require_depth(depth)
        check_conditions(where, self.spec.fields)
        (row,) = check_vectors(np.atleast_2d(vector), 1, self.spec)
        with self._reading():
            view = self._current_view()
            vectors, allowed = view.vectors(), view.allowed(where)
        return self._found(view.ranked(vectors.nearest(row, depth, allowed)))

    def search_text(self, text: str, depth: int, where: Sequence[Condition] = ()) -> tuple[Found, ...]:
        """Passages by BM25 over title and text, best first; equal ones by passage id."""
        require_depth(depth)
        check_conditions(where, self.spec.fields)
        terms = self._cut(text)
        if not terms:  # stop words alone would find nearly everything, in no useful order
            return ()
        with self._reading():
            view = self._current_view()
            words, allowed = view.words(), view.allowed(where)
        return self._found(view.ranked(words.best(terms, depth, allowed)))

    def vectors(self, passage_ids: Sequence[str]) -> NDArray[np.float32]:
        """(passages, dimensions) in the order asked for."""
        with self._reading():
            rows = files.rows_of(self._connection, passage_ids)
            for passage_id in passage_ids:
                if passage_id not in rows:
                    raise missing(passage_id, self.location)
            return files.vectors_of(self._connection, [rows[one] for one in passage_ids], self.spec.dimensions)

    def passages(self) -> Iterator[Passage]:
        """All passages, ordered by document and position; those of no document first."""
        with self._reading():
            ordered = self._connection.execute("SELECT row FROM passages ORDER BY document, position, passage_id")
            rows = [row for (row,) in ordered]
        for start in range(0, len(rows), _PASSAGES_AT_ONCE):
            some = rows[start : start + _PASSAGES_AT_ONCE]
            with self._reading():
                found = files.passages_of(self._connection, some)
            yield from (found[row] for row in some if row in found)

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._view = None
            self._connection.close()

    def _found(self, ranked: Ranked) -> tuple[Found, ...]:
        with self._reading():
            passages = files.passages_of(self._connection, [row for row, _ in ranked])
        # Another program can have removed one between the search and here.
        return tuple(Found(passages[row], score) for row, score in ranked if row in passages)

    def _current_view(self) -> View:
        (changes,) = self._connection.execute("PRAGMA data_version").fetchone()
        if self._view is None or changes != self._view_of:
            graph = self._place.path / f"{self._manifest.version}.usearch"
            self._view, self._view_of = View(self._connection, self.spec, graph), changes
        return self._view

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock, files.explained(self.location):
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all that is written in the block is kept, or nothing."""
        with self._lock, files.explained(self.location), self._connection:
            self._view = None
            yield


def open_folder(place: FolderPlace) -> FolderStore:
    """The published version in a folder.

    Raises:
        StoreError: There is none, or it is damaged.
    """
    manifest = _published(place)
    if manifest is None:
        raise StoreError(f"there is no index in {place.location}; check the path, or make one with `crosstune index`")
    try:
        return _open_version(place, manifest)
    except StoreError:
        if _published(place) == manifest:
            raise
    return open_folder(place)  # another version was published while this one was opened


def _open_version(place: FolderPlace, manifest: Manifest) -> FolderStore:
    path = _file_of(place, manifest.version)
    if not path.is_file():
        raise StoreError(f"the index at {place.location} lacks its file {path.name}; index the documents again")
    with files.explained(place.location):
        return FolderStore(place, manifest, files.connect(path))


def start_folder(place: FolderPlace, spec: IndexSpec) -> FolderStore:
    """The version of a folder's index that is made with a spec: see `start_version`.

    Raises:
        StoreError: The folder holds something else, or cannot be written.
    """
    folder = place.path
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{place.location} is a file; give a folder for the index")
    published = _published(place)  # refuses a pointer that is damaged or newer
    with files.explained(place.location):
        folder.mkdir(parents=True, exist_ok=True)
        others = [path.name for path in folder.iterdir() if not _is_ours(path.name)]
        if others and published is None:
            raise StoreError(
                f"{place.location} holds other files ({others[0]}); give an empty or a new folder for the index"
            )
        manifest = Manifest(version_name(spec), spec)
        return FolderStore(place, manifest, files.connect(_file_of(place, manifest.version), create=True))


def _published(place: FolderPlace) -> Manifest | None:
    pointer = place.path / _POINTER
    if not pointer.is_file():
        return None
    with files.explained(place.location):
        text = pointer.read_text(encoding="utf-8", errors="replace")
    return read_manifest(text, place.location)


def _file_of(place: FolderPlace, version: str) -> Path:
    return place.path / f"{version}.sqlite"


def _is_ours(name: str) -> bool:
    return name in (_POINTER, f"{_POINTER}.tmp") or _VERSION_FILE.fullmatch(name) is not None
