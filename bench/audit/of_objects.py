"""bench.audit(...): the audit of objects in memory, or of names of YAMLs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bench.assemble import objects as session
from bench.audit import protocol, show, verdict
from bench.audit.run import audit as run
from bench.core.place import Place


@dataclass(frozen=True, repr=False)
class Audited:
    """page: all that the page says, as its JSON has it (`page["remains"]["value"]`, `page["flags"]`). files: the page as .json,
    .md and .html."""

    page: dict[str, Any]
    files: tuple[Place, ...]

    @property
    def claimed(self) -> float:
        """Percent: the best that a usual evaluation would print."""
        return self.page["claimed"]["value"]

    @property
    def remains(self) -> float:
        """Percent of images that no attack broke; of a random defence, in most re-evaluations."""
        return self.page["remains"]["value"]

    def __repr__(self) -> str:
        return f"{show.title(self.page)}: {show.headline(self.page)}"

    def show(self) -> None:
        """The page in the terminal."""
        show.terminal(self.page)

    def _repr_html_(self) -> str:
        return show.as_html(self.page)


def audit(
    model: nn.Module | str,
    data: tuple[Any, Any] | str,
    defense: str | type | None = None,
    threat: str = "linf 8/255",
    level: str = "quick",
    samples: int | None = None,
    store: str | Path | None = None,
    *,
    classes: int | None = None,
    words: Sequence[str] = (),
) -> Audited:
    """Does the defence hold? Arguments as of `bench.evaluate`. level: quick, standard or full, how much effort. samples: None:
    the level's, or all where the data has fewer. Raises BenchError in one line, also for a defence whose traits are declared
    falsely, with what was seen."""
    effort = protocol.level(level)
    wanted = samples or effort.samples
    if samples is None and wanted and not isinstance(data, str):
        wanted = min(wanted, len(data[1]))
    objects = session.of(model, data, defense, threat, wanted, store, classes, words)
    found = run(objects.words, effort, objects.given)
    page = verdict.plain(found, verdict.judge(found))
    folder = found.cell.runtime.store / "audits"
    return Audited(page, tuple(show.keep(folder, found.cell.clean_key, page)))
