"""An S3 on loopback: moto's server in a process of its own, ended by its id."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("s3fs", "moto", "flask", "flask_cors")
BUCKET = "runs"
# what lies in the bucket from the start: the files of a folder, and names of cells that nobody reads
SERVER = f"""
import sys
from pathlib import Path
from moto.s3.models import s3_backends
from moto.server import main
there = s3_backends["123456789012"]["aws"]
there.create_bucket("{BUCKET}", "us-east-1")
folder, count = sys.argv[1], int(sys.argv[2])
for path in Path(folder).rglob("*") if folder else ():
    if path.is_file():
        there.put_object("{BUCKET}", "folder/" + path.relative_to(folder).as_posix(), path.read_bytes())
for i in range(count):
    there.put_object("{BUCKET}", f"many/cells/{{i:016x}}/part-{{i:032x}}.parquet", b"-")
main(["-H", "127.0.0.1", "-p", "0"])
"""


def lacking() -> str | None:
    """Why there can be none here; None: there can."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    return (
        f"needs {', '.join(missing)} (pip install 'defence-bench[s3]', then moto[s3] flask flask-cors)"
        if missing
        else None
    )


@contextlib.contextmanager
def running(folder: Path | None = None, many: int = 0) -> Iterator[dict[str, str]]:
    """-> the environment in which s3fs finds s3://runs: a copy of `folder` at s3://runs/folder, the names of `many` cells at
    s3://runs/many."""
    command = [sys.executable, "-c", SERVER, str(folder or ""), str(many)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield {
            "AWS_ENDPOINT_URL": _address(process), "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
    finally:
        process.terminate()
        process.wait(10)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "Running on http" in line:
            _drain(process)
            return line.split("Running on ")[1].split()[0].rstrip("/")
    raise RuntimeError(f"moto's server did not start: {said}")


def _drain(process: subprocess.Popen[str]) -> None:
    """It logs every request, and would wait for who reads none of it."""
    import threading

    stream = process.stderr
    assert stream is not None
    threading.Thread(target=lambda: [None for _ in stream], daemon=True).start()
