"""Things built once and found by the hash of what made them: trained weights, crafted examples. Imports no torch.

At an address each is one object, a tar that only who holds its lease writes; every machine unpacks it into a folder of its own.
"""

import io
import os
import shutil
import tarfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from bench.config import key
from bench.core.errors import BenchError
from bench.core.place import Place, Remote, on_disk
from bench.store.files import sync_tree
from bench.store.leases import Lease
from bench.store.locks import Held, alone

WAIT = 2.0  # seconds between two looks at what another machine builds


def need(root: Place, kind: str, config: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """The folder root/kind/<hash of config>, built by `build(folder)` if it isn't there.

    The build works in a temporary folder under a lock and is renamed when whole. A killed build leaves that folder, so that
    the next call resumes it (a recipe goes on from its last epoch).
    """
    name = key.of(config)
    if isinstance(root, Remote):
        return _shared(root, kind, name, lambda: need(on_disk(root) / "built", kind, config, build))
    folder, unfinished = root / kind / name, root / kind / f".tmp-{name}"
    if folder.is_dir():
        return folder
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        while not folder.is_dir():
            try:
                with alone(root / kind / f"{name}.lock", lambda: Lease(root, f"{kind}-{name}", "build")):
                    if not folder.is_dir():  # another process may have built it while this one waited
                        build(unfinished)
                        (unfinished / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False))
                        sync_tree(unfinished)
                        os.replace(unfinished, folder)
            except Held:
                time.sleep(WAIT)
    except OSError as error:
        raise BenchError(
            f"can't build {folder} ({error.strerror or error}); set artifacts=<a folder you may write to>"
        ) from None
    return folder


def _shared(root: Remote, kind: str, name: str, build: Callable[[], Path]) -> Path:
    folder, whole = on_disk(root) / kind / name, root / kind / f"{name}.tar"
    while not folder.is_dir():
        if whole.exists():
            _unpack(whole.read_bytes(), folder)
            break
        try:
            with Lease(root, f"{kind}-{name}", "build"):
                if not whole.exists():
                    built = build()
                    whole.write_bytes(_packed(built))
                    shutil.rmtree(built, ignore_errors=True)
        except Held:
            time.sleep(WAIT)
    return folder


def _packed(folder: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(folder, arcname=".")
    return content.getvalue()


def _is_inside(member: tarfile.TarInfo) -> bool:
    """A file or folder below the place where the rest goes, as `data_filter` demands."""
    path = PurePosixPath(member.name)
    return (member.isfile() or member.isdir()) and not path.is_absolute() and ".." not in path.parts


def _unpack(content: bytes, folder: Path) -> None:
    new = folder.with_name(f".new-{uuid.uuid4().hex[:12]}")
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and later
            tar.extractall(new, filter="data")
        else:
            tar.extractall(new, [member for member in tar.getmembers() if _is_inside(member)])
    try:
        os.replace(new, folder)
    except OSError:  # another process was faster
        shutil.rmtree(new, ignore_errors=True)


def there(root: Place, kind: str, name: str) -> bool:
    """Is the artifact of that hash built?"""
    if isinstance(root, Remote):
        return (root / kind / f"{name}.tar").exists()
    return (root / kind / name).is_dir()
