"""One does it at a time, on disks without locks (NFS without its lock daemon) and in object stores, too. Imports no torch."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from bench.core.place import Place, Remote
from bench.store.leases import Held, Lease

__all__ = ["Held", "alone", "compacting"]
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}


@contextlib.contextmanager
def alone(file: Path, lease: Callable[[], Lease]) -> Iterator[None]:
    """Waits for the file's lock; where the disk has none, takes the lease, or raises Held. Raises OSError."""
    lock = FileLock(file)
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:  # filelock says the latter for ENOSYS
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        with lease():
            yield
        return
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def compacting(store: Place, key: str) -> Iterator[None]:
    """Raises Held where another does it just now and can't be waited for."""

    def lease() -> Lease:
        return Lease(store, f"{key}.parts", "compact")

    if isinstance(store, Remote):
        with lease():
            yield
        return
    folder = store / "locks"  # 256 for all cells: a file a cell would be a third of the store's
    folder.mkdir(exist_ok=True)
    with alone(folder / f"{key[:2]}.lock", lease):
        yield
