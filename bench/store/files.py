"""Files that appear whole or not at all. Imports no torch."""

import errno
import os
import uuid
from pathlib import Path

from bench.core.errors import BenchError


def write_whole(path: Path, content: bytes, advice: str = "") -> Path:
    """Temporary name, fsync, rename, fsync of the folder: readers see the whole file or none, also after a power cut.

    Raises BenchError, with `advice` at its end, where the file can't be written.
    """
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:12]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.ENOTDIR):
            temporary.unlink(missing_ok=True)
        raise BenchError(_trouble(error, path) + (f"; {advice}" if advice else "")) from None
    return path


def write_new(path: Path, content: bytes, advice: str = "") -> bool:
    """As `write_whole`, but False where the file is there already: of several writers one wins. Raises BenchError."""
    whole = write_whole(path.with_name(f".new-{uuid.uuid4().hex[:12]}"), content, advice)
    try:
        os.link(whole, path)  # atomic on NFS, too
    except FileExistsError:
        return False
    except OSError:  # a file system without links: whoever reads in between sees an empty file
        return _create(path, content)
    finally:
        whole.unlink(missing_ok=True)
    return True


def _create(path: Path, content: bytes) -> bool:
    try:
        with open(path, "xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    except OSError as error:
        raise BenchError(_trouble(error, path)) from None
    return True


def sync_folder(folder: Path) -> None:
    """A rename is on the disk only when its folder is."""
    if os.name != "posix":  # other systems can't open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path, why: str) -> Path:
    """Renames a file (or a folder in a file's place) to <name>.<why>, never over another. Raises OSError."""
    for again in range(1, 1000):
        new = path.with_name(f"{path.name}.{why}" + (f"-{again}" if again > 1 else ""))
        if not os.path.lexists(new):
            os.rename(path, new)
            return new
    raise OSError(errno.EEXIST, "a thousand of its kind are there", str(path))


def _trouble(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: could not write {path}; free some space"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"can't write {path} ({error.strerror}); set store=<a folder you may write to>"
    return f"can't write {path} ({error.strerror})"
