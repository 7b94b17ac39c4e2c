"""Where a store lies: a folder, or an address that fsspec knows, s3://bucket/runs or gs://bucket/runs say. Imports no torch.

A Remote answers what the store asks of a pathlib.Path, and no more: who forgets that it is none gets a TypeError, no stray file.
An object appears whole or not at all, and is listed as soon as it is written (S3, GCS and Azure promise both). One that is named
by the sha256 of its bytes never changes, so it is fetched once and kept below BENCH_CACHE.
"""

import contextlib
import fnmatch
import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from bench.core.errors import BenchError, one_line

HASHED = re.compile(r"part-([0-9a-f]{32})\.parquet")
AT_ONCE = 256  # objects that are fetched side by side
EXTRAS = {"s3": "defence-bench[s3]", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


@dataclass(frozen=True)
class View:
    """What lay below an address when somebody looked, in one listing instead of one a folder."""

    top: str
    names: dict[str, list[str]]  # folder -> what lies in it, files and folders


@dataclass(frozen=True, order=True)
class Remote:
    """An object, or all objects whose names begin so. Methods raise FileNotFoundError, PermissionError, and BenchError where the
    address can't be reached."""

    address: str
    view: View | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> "Remote":
        return replace(self, address=f"{self.address}/{name}")

    @property
    def name(self) -> str:
        return self.address.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> "Remote":
        return replace(self, address=self.address.rpartition("/")[0])

    def with_name(self, name: str) -> "Remote":
        return self.parent / name

    def glob(self, pattern: str) -> list["Remote"]:
        """As pathlib's, of patterns without **. What an S3 calls no folder is an empty one."""
        first, _, rest = pattern.partition("/")
        if rest and not self._viewed():
            return self.seen().glob(pattern)
        found = [self / name for name in self._names() if fnmatch.fnmatchcase(name, first)]
        return sorted(each for one in found for each in one.glob(rest)) if rest else sorted(found)

    def is_dir(self) -> bool:
        """Does anything lie below it?"""
        return bool(self._names())

    def is_file(self) -> bool:
        return self.exists() and not self.is_dir()

    def is_symlink(self) -> bool:
        return False

    def exists(self) -> bool:
        if self._viewed():
            return self.name in self.parent._names() or self.is_dir()
        with _reached(self):
            files, path = _files(self.address)
            return bool(files.exists(path))

    def read_bytes(self) -> bytes:
        if (kept := self._kept()) is not None:
            with contextlib.suppress(OSError):
                content = kept.read_bytes()
                if self._is_whole(content):
                    return content
        with _reached(self):
            files, path = _files(self.address)
            content = bytes(files.cat_file(path))
        self._keep(content)
        return content

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        with _reached(self):
            files, path = _files(self.address)
            try:
                files.pipe_file(path, content)
            except FileNotFoundError as error:
                raise BenchError(f"can't write {self} ({one_line(error)}); is there such a bucket?") from None
        self._keep(content)

    def unlink(self, missing_ok: bool = False) -> None:
        with _reached(self):
            files, path = _files(self.address)
            try:
                files.rm_file(path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def modified(self) -> float:
        """Seconds since 1970, by the clock of who keeps it."""
        with _reached(self):
            files, path = _files(self.address)
            return files.modified(path).timestamp()

    def seen(self) -> "Remote":
        """Itself, with all that lies below it listed now; what is read is read when it is asked for."""
        names: dict[str, list[str]] = {}
        known = {self.address}
        for path in self._all():
            folder, _, name = f"{self.address}/{path}".rpartition("/")
            names.setdefault(folder, []).append(name)
            while folder not in known:
                known.add(folder)
                folder, _, name = folder.rpartition("/")
                names.setdefault(folder, []).append(name)
        return replace(self, view=View(self.address, names))

    def now(self) -> "Remote":
        """Itself, seen anew whenever it is asked."""
        return replace(self, view=None)

    def remove_tree(self) -> None:
        for path in self._all():
            (self.now() / path).unlink(missing_ok=True)

    # --- what it takes ------------------------------------------------------------------------------------------------

    def _viewed(self) -> bool:
        return self.view is not None and f"{self.address}/".startswith(f"{self.view.top}/")

    def _names(self) -> list[str]:
        if self.view is not None and self._viewed():
            return self.view.names.get(self.address, [])
        with _reached(self):
            files, path = _files(self.address)
            try:
                listed = files.ls(path, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        top = path.rstrip("/") + "/"
        return [name for each in listed if (name := each.rstrip("/").removeprefix(top)) and "/" not in name]

    def _all(self) -> list[str]:
        """Every object below it, by its path from here."""
        with _reached(self):
            files, path = _files(self.address)
            try:
                listed = files.find(path)
            except FileNotFoundError:
                return []
        top = path.rstrip("/") + "/"
        return [each.removeprefix(top) for each in listed if each.startswith(top)]

    def _kept(self) -> Path | None:
        """Where its content is kept on this machine; None for what may change."""
        named = HASHED.fullmatch(self.name)
        return cache() / "parts" / named[1][:2] / self.name if named else None

    def _is_whole(self, content: bytes) -> bool:
        named = HASHED.fullmatch(self.name)
        return named is not None and hashlib.sha256(content).hexdigest()[:32] == named[1]

    def _keep(self, content: bytes) -> None:
        """A machine that can't keep it fetches it again."""
        kept = self._kept()
        if kept is None or not self._is_whole(content):
            return
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            temporary = kept.with_name(f".tmp-{uuid.uuid4().hex[:12]}")
            temporary.write_bytes(content)
            os.replace(temporary, kept)


Place = Path | Remote
AnyPlace = TypeVar("AnyPlace", bound=Path | Remote)


def of(value: str | Path | Remote) -> Place:
    """A folder's path, file://…, or an address."""
    if isinstance(value, Remote):
        return value
    kind, mark, rest = str(value).partition("://")
    if not mark:
        return Path(value)
    return Path(rest) if kind == "file" else Remote(str(value).rstrip("/"))


def beside(place: AnyPlace, name: str) -> AnyPlace:
    """Another name in the same folder; of the same kind, which pathlib's own type does not say."""
    found: Any = place.with_name(name)
    return found


def fetch(objects: Iterable[Remote]) -> None:
    """Many at once, of those that never change and are not kept yet: reading them costs no request then."""
    wanted = [each for each in objects if (kept := each._kept()) is not None and not kept.is_file()]
    for start in range(0, len(wanted), AT_ONCE):
        some = {_files(each.address)[1]: each for each in wanted[start : start + AT_ONCE]}
        with _reached(wanted[start]):
            files, _ = _files(wanted[start].address)
            found = files.cat(list(some), on_error="omit")
        for path, content in found.items():
            some[path]._keep(bytes(content))


def cache() -> Path:
    """What can be made or fetched again: BENCH_CACHE, else ~/.cache/defence-bench."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "defence-bench"
    return Path(os.environ.get("BENCH_CACHE") or usual).absolute()


def on_disk(place: Place) -> Path:
    """A folder for what must lie in one: the store itself, or where it is none a folder of the cache that stands for it."""
    if isinstance(place, Path):
        return place
    return cache() / "stores" / hashlib.sha256(place.address.encode()).hexdigest()[:16]


def _files(address: str) -> tuple[Any, str]:
    """-> fsspec's file system and the path in it."""
    files = _file_system(address.partition("://")[0])
    return files, files._strip_protocol(address)


@lru_cache
def _file_system(kind: str) -> Any:
    import fsspec  # with torch; half a second that folders don't pay

    try:
        return fsspec.filesystem(kind, use_listings_cache=False)
    except ImportError:
        raise BenchError(
            f"{kind}:// needs a package: pip install '{EXTRAS.get(kind, 'fsspec[' + kind + ']')}'"
        ) from None
    except ValueError as error:
        raise BenchError(f"{kind}:// is no address that fsspec knows ({one_line(error)})") from None


@contextlib.contextmanager
def _reached(place: Remote) -> Iterator[None]:
    """A lost network must not look like a damaged part."""
    try:
        yield
    except (BenchError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        raise BenchError(f"can't reach {place} ({one_line(error)[:300]})") from None
