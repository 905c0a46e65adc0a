"""What a person can say about a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from crosstune.checkpoints import EMBEDDED, STARTER
from crosstune.data import LoadSettings, SplitSettings
from crosstune.errors import ConfigError
from crosstune.retrieval.stores import parse_location
from crosstune.types import Condition

STAGES = ("auto", "reranker", "retriever", "both")


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """Settings of a tuning run.

    Attributes:
        base: Reranker or encoder to start from: "starter", "embedded", a folder, or a hub id.
        revision: Hub revision of the base.
        embedder: Bi-encoder of the dense first stage: "embedded", a folder, or a hub id.
        budget_s: Seconds the whole run may take.
        depth: Candidates of each question, for every row of the table.
        stages: What is tuned: "reranker" (the cross-encoder), "retriever" (the first stage's bi-encoder), "both", or
            "auto": both, but for what the data or the budget leave no room for.
        keep_index: The index must stay as it is: of the first stage, only the embedding of questions is tuned.
        loss: "lce" or "bce".
        pos_weight: Weight of positives, for "bce"; None for the number of negatives.
        seed: Of splits, mining and training.
        load, split: How the file is read and split.
        retriever: Location of the live index whose search is the first stage, in place of one made here from the
            answers; its own embedder takes the place of `embedder`.
        where: Conditions under which the live index is searched.
        drop_leaks: Leave out train and dev questions of the user's splits that leak, where the default is to stop.
    """

    base: str = STARTER
    revision: str | None = None
    embedder: str = EMBEDDED
    budget_s: float = 600.0
    depth: int = 50
    stages: str = "auto"
    keep_index: bool = False
    loss: str = "lce"
    pos_weight: float | None = None
    seed: int = 0
    load: LoadSettings = field(default_factory=LoadSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    drop_leaks: bool = False
    retriever: str | None = None
    where: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if self.budget_s < 10:
            raise ConfigError(f"a budget of {self.budget_s:g} seconds is too short to do anything; give at least 10s")
        if self.stages not in STAGES:
            raise ConfigError(f"stages is {self.stages!r}; choose from {', '.join(STAGES)}")
        if self.keep_index and self.stages == "reranker":
            raise ConfigError("a reranker alone leaves every index as it is; leave keep_index out")
        if self.depth < 2:
            raise ConfigError(f"depth must be at least 2 for a ranking to exist, found {self.depth}")

        if self.where and self.retriever is None:
            raise ConfigError("conditions filter a live index; name it as the retriever")

    def to_json(self) -> dict[str, Any]:
        """Plain values, as every artefact stores them: without the password of a live index."""
        shown = None if self.retriever is None else parse_location(self.retriever).location
        return asdict(self) | {"retriever": shown}
