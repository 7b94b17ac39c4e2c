"""Where the YAMLs lie and which groups they form. Imports no torch."""

from pathlib import Path

CONF = Path(__file__).resolve().parents[2] / "conf"


def is_group(name: str) -> bool:
    """A folder of YAMLs below conf/: `attack`, `attack/oracle`."""
    return "." not in name and (CONF / name).is_dir()


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))
