"""How a cell is run: no record depends on any of it. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator
from pydantic_core import PydanticCustomError

from bench.config.fields import Flag, Positive
from bench.config.parse import Frozen, parse
from bench.core import place
from bench.core.place import Place, Remote


def _device(name: str) -> str:
    kind, _, number = name.partition(":")
    if not (name in ("auto", "cpu", "cuda") or (kind == "cuda" and number.isdigit())):
        raise PydanticCustomError("device", "is unknown; use auto, cpu, cuda or cuda:N")
    return name


def _shard(text: Any) -> Any:
    part, _, of = str(text).partition("/")
    if not (part.isdigit() and of.isdigit() and 1 <= int(part) <= int(of)):
        raise PydanticCustomError("shard", "must be part/parts with 1 <= part <= parts, such as shard=3/8")
    return int(part), int(of)


def _folder(value: Any) -> Place:
    if not isinstance(value, str | Path | Remote) or not str(value).strip():
        raise PydanticCustomError("folder", "must name a folder, or an address such as s3://bucket/runs")
    path = place.of(value)
    if isinstance(path, Path) and any(each.exists() and not each.is_dir() for each in (path, *path.parents)):
        raise PydanticCustomError("folder", "is a file, or lies below one; name a folder")
    return path


Folder = Annotated[Place, PlainValidator(_folder)]


class RuntimeSpec(Frozen):
    device: Annotated[str, AfterValidator(_device)]
    threads: Positive | None  # null: torch's own choice
    slots: Positive | None  # rows in flight; null: as many as suit the machine
    look_every: (
        Positive | None
    )  # ticks of a query attack between two looks at the device; null: 1 on a CPU, 8 elsewhere
    run_ahead: Flag  # rows of a network call that would be filler ask each sample's next queries
    cuda_graph: Flag = False  # record the ticks of query attacks on CUDA
    shard: Annotated[tuple[int, int], BeforeValidator(_shard)]  # (3, 8): this run does the third eighth of the cell
    store: Folder
    artifacts: Folder
    keep_images: Flag
    place: Annotated[str | None, Field(default=None)]  # the cell's place in the grid, set by the sweeper
    only: tuple[int, ...] | None = None  # positions that this run does, set by the audit; null: all

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> Self:
        """From a composed, resolved conf/bench.yaml. Raises BenchError for the first setting that makes no sense."""
        return parse(cls, {name: config[name] for name in cls.model_fields if name in config}, "")
