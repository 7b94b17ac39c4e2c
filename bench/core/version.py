"""This project's own version, as pip installed it."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("defence-bench")
except PackageNotFoundError:  # run from a checkout that nobody has installed
    VERSION = "unknown"
