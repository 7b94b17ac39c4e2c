"""One compacts a cell at a time. Imports no torch."""

import contextlib
import errno
from collections.abc import Iterator

from filelock import FileLock

from bench.core.place import Place, Remote
from bench.store.marks import Held, Lease

__all__ = ["Held", "compacting"]
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}


@contextlib.contextmanager
def compacting(store: Place, key: str) -> Iterator[None]:
    """Waits for others; raises Held where it can't, and another does it just now: by a lease, in an object store and on a shared
    disk without locks (NFS without its lock daemon)."""
    if isinstance(store, Remote):
        with Lease(store, f"{key}.parts", "compact"):
            yield
        return
    folder = store / "locks"  # 256 for all cells: a file a cell would be a third of the store's
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / f"{key[:2]}.lock")
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:  # filelock says the latter for ENOSYS
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        with Lease(store, f"{key}.parts", "compact"):
            yield
        return
    try:
        yield
    finally:
        lock.release()
