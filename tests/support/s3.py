"""An S3 on loopback: moto's server in a process of its own, ended by its id."""

import contextlib
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec

PACKAGES = ("s3fs", "moto", "flask", "flask_cors")
SERVER = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"


def lacking() -> str | None:
    """Why there can be none here; None: there can."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    return f"needs {', '.join(missing)} (pip install 'defence-bench[s3,s3test]')" if missing else None


@contextlib.contextmanager
def running(bucket: str) -> Iterator[dict[str, str]]:
    """-> the environment in which s3fs finds it, with an empty bucket."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        address = _address(process)
        request = urllib.request.Request(f"{address}/{bucket}", method="PUT")
        request.add_header("Host", "s3.amazonaws.com")
        with urllib.request.urlopen(request, timeout=30):
            pass
        yield {
            "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
    finally:
        process.terminate()
        process.wait(10)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if "Running on http" in line:
            return line.split("Running on ")[1].split()[0].rstrip("/")
    raise RuntimeError("moto's server did not start")
