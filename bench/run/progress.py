"""One line a cell: samples done, share that is robust so far, queries per second, time left.

A plain log where the output is no terminal.
"""

import os
import sys
import time
from typing import TextIO

from bench.config import talk

EVERY_TERMINAL, EVERY_LOG = 0.25, 15.0  # seconds between two updates


class Line:
    """Rewrites one terminal line, or logs one now and then. `name` says which cell, and its place in the grid."""

    def __init__(self, name: str, out: TextIO | None = None) -> None:
        self.name, self.out = name, out or (open(os.devnull, "w") if talk.quiet() else sys.stderr)  # noqa: SIM115
        self.live = self.out.isatty()
        self.samples = self.broken = self.queries = self.total = 0
        self.began = self.shown = time.monotonic()

    def begin(self, total: int) -> None:
        self.total, self.samples, self.broken, self.queries = total, 0, 0, 0
        self.began = self.shown = time.monotonic()

    def asked(self, rows: int) -> None:
        self.queries += rows
        self._show()

    def add(self, samples: int, broken: int) -> None:
        """Finished samples, and how many of them are fooled or were wrong from the start."""
        self.samples, self.broken = self.samples + samples, self.broken + broken
        self._show()

    def end(self, word: str) -> None:
        """The last word on this cell stays on the screen."""
        seconds = time.monotonic() - self.began
        text = f"{self.name}: {word} in {seconds:.1f} s"
        if self.queries:
            text += f", {self.queries:,} queries, {self.queries / max(seconds, 1e-9):,.0f}/s"
        self.out.write(f"\r\x1b[K{text}\n" if self.live else f"{text}\n")
        self.out.flush()

    def waits(self, whom: str) -> None:
        """Nothing is done here until another process has done its part."""
        self._show(f"{self.name}: waits for {whom}")

    def _show(self, text: str = "") -> None:
        now = time.monotonic()
        if now - self.shown < (EVERY_TERMINAL if self.live else EVERY_LOG):
            return
        self.shown, text = now, text or self._text(now - self.began)
        self.out.write(f"\r\x1b[K{text}" if self.live else f"{text}\n")
        self.out.flush()

    def _text(self, seconds: float) -> str:
        parts = [f"{self.name}: {self.samples}/{self.total} samples"]
        if self.samples:
            parts.append(f"{1 - self.broken / self.total:.1%} robust so far")
            left = seconds / self.samples * (self.total - self.samples)
            parts.append(f"{int(left) // 60}:{int(left) % 60:02d} left")
        parts.append(f"{self.queries / max(seconds, 1e-9):,.0f} queries/s")
        return ", ".join(parts)
