"""What each stage of `scripts/gpu_check.py` is asked, where it writes, and what it works on at either scale."""

import argparse
import json
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOY = [
    "dataset=digits",
    "model=small_cnn",
    "recipe=standard_digits",
    "recipe.epochs=2",
    "numerics.rows=32",
    "threads=1",
]
CIFAR = ["dataset=cifar10_jpeg", "model=preact_r18", "recipe=standard_gpu", "numerics=gpu"]
# any weights will do where only time is measured; eager, few images: no stage waits for a compiler or decodes 50,000 pictures
QUICK_WEIGHTS = ["recipe.epochs=2", "recipe.images=5000", "recipe.compile=false"]
ROBUST = ["dataset=cifar10_jpeg", "model=vgg_fb_adv", "numerics=gpu"]  # its weights lie in BENCH_WEIGHTS


@dataclass(frozen=True)
class Task:
    """seconds: what this stage may take; it is killed a little later, so what it found is written as it comes."""

    device: str
    quick: bool
    seconds: float
    out: Path
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.began)

    def overrides(self, *more: str, of: list[str] = CIFAR) -> list[str]:
        """The cells of this scale, in the store that comes back. of: the network and its data, beyond toy scale."""
        places = [f"device={self.device}", f"store={self.out / 'store'}"]
        typed = [*(TOY if self.quick else of), *places, *more]
        return list({each.partition("=")[0]: each for each in typed}.values())  # the last word on each

    def trained(self, *more: str) -> list[str]:
        """`overrides` on the network that stage 3 trained; on that of stage 2 where it did not end."""
        if self.quick:
            return self.overrides(*more)
        found = self.read("training")
        return self.overrides(*(found["typed"] if "test_accuracy" in found else QUICK_WEIGHTS), *more)

    def write(self, name: str, found: dict[str, Any]) -> None:
        """Replaced whole, so that a kill leaves the last or this one."""
        path = self.out / f"{name}.json"
        path.with_suffix(".new").write_text(json.dumps(found, indent=1))
        path.with_suffix(".new").replace(path)

    def read(self, name: str) -> dict[str, Any]:
        """What an earlier stage found; {} where it found nothing."""
        path = self.out / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else {}


LATE = "no time was left"


class Late(Exception):
    """A measurement took longer than it was given."""


def attempt(
    about: dict[str, Any], measure: Callable[[], dict[str, Any]], seconds: float | None = None
) -> dict[str, Any]:
    """A row of a stage: what it is about with what was measured, or with why nothing was: the next one is tried anyway. seconds:
    what it may take."""
    began = time.monotonic()
    try:
        with _within(seconds):
            return about | measure()
    except Exception as error:
        traceback.print_exc()
        said = (str(error).strip().splitlines() or [""])[0][:200]
        return about | {"error": f"{type(error).__name__}: {said}", "after": time.monotonic() - began}


@contextmanager
def _within(seconds: float | None) -> Iterator[None]:
    """Raises Late when they are over; code that never comes back to Python is not stopped by it."""

    def late(*_: object) -> None:
        raise Late(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001) if seconds is not None else 0.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="toy scale: digits and a small network")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def start(run: Callable[[Task], None]) -> None:
    """`python -m scripts.gpu.STAGE --out DIR --seconds N [--device cpu] [--quick]`."""
    parser = options()
    parser.add_argument("--seconds", type=float, required=True)
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    run(Task(told.device, told.quick, told.seconds, told.out))
