"""Files that appear whole or not at all. Imports no torch."""

import contextlib
import errno
import os
import uuid
from pathlib import Path

from bench.core.errors import BenchError
from bench.core.place import Place, Remote

# what a file system says that has no such thing as fsync of a folder
_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


def write_whole(path: Place, content: bytes, advice: str = "") -> None:
    """Temporary name, fsync, rename, fsync of the folder: readers see the whole file or none, also after a power cut. An object
    appears whole by itself.

    Raises BenchError, with `advice` at its end, where the file can't be written.
    """
    if isinstance(path, Remote):
        try:
            path.write_bytes(content)
        except (BenchError, OSError) as error:
            raise BenchError(f"{error}{'; ' + advice if advice else ''}") from None
        return
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:12]}")
    try:
        make_folder(path.parent)
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


def write_new(path: Path, content: bytes, advice: str = "") -> bool:
    """As `write_whole`, but False where the file is there already: of several writers one wins. Raises BenchError."""
    whole = path.with_name(f".new-{uuid.uuid4().hex[:12]}")
    write_whole(whole, content, advice)
    try:
        os.link(whole, path)  # atomic on NFS, too
    except FileExistsError:
        return (
            os.stat(whole).st_nlink > 1
        )  # NFS asks again where an answer was lost: the file that is there is this one
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


def make_folder(folder: Path) -> None:
    """With all above it, each on the disk. Raises OSError."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):  # of a folder that may be entered, but not read
        sync_folder(folder.parent)


def sync_tree(folder: Path) -> None:
    """All files below it are on the disk when it is renamed. Raises OSError."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """A rename is on the disk only when its folder is, where the file system can say so at all."""
    if os.name != "posix":  # other systems can't open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(descriptor)


def set_aside(path: Place, why: str) -> Place:
    """Renames a file (or a folder in a file's place) to <name>.<why>, never over another. Raises OSError, of an object also
    BenchError."""
    for again in range(1, 1000):
        new = path.with_name(f"{path.name}.{why}" + (f"-{again}" if again > 1 else ""))
        if isinstance(path, Path) and isinstance(new, Path):
            if not os.path.lexists(new):
                os.rename(path, new)
                return new
        elif isinstance(new, Remote) and not new.now().exists():  # an object is not renamed
            new.write_bytes(path.read_bytes())
            path.unlink(missing_ok=True)
            return new
    raise OSError(errno.EEXIST, "a thousand of its kind are there", str(path))


def _trouble(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: could not write {path}; free some space"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"can't write {path} ({error.strerror}); set store=<a folder you may write to>"
    return f"can't write {path} ({error.strerror})"
