"""A reference benchmark for defences against adversarial examples."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("defence-bench")
except PackageNotFoundError:  # run from a checkout that nobody has installed
    __version__ = "unknown"
