"""What a person sees of a training, and log.jsonl: a bar with accuracy and time left, or a line an epoch in a log."""

import json
import math
from pathlib import Path
from types import TracebackType

from rich import progress as rich
from rich.console import Console

from bench.config import talk


class Progress:
    def __init__(self, log: Path, done: int, epochs: int, steps: int) -> None:
        self.log, self.epochs, self.steps = log, epochs, steps
        self._keep(done)
        self.console = Console(stderr=True)
        self.bar = rich.Progress(
            rich.TextColumn("training"),
            rich.BarColumn(),
            rich.TextColumn("{task.fields[epoch]}  {task.fields[said]}"),
            rich.TimeRemainingColumn(),
            console=self.console,
            disable=talk.quiet() or not self.console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task("", total=epochs * steps, completed=done * steps, epoch="", said="")

    def step(self, epoch: int, step: int) -> None:
        if not self.bar.disable:
            done = epoch * self.steps + step + 1
            self.bar.update(self.task, completed=done, epoch=f"epoch {epoch + 1}/{self.epochs}")

    def epoch(self, *, epoch: int, loss: float, train_acc: float, test_acc: float | None, seconds: float) -> None:
        """Appends the epoch to log.jsonl. train_acc is NaN where the network answers no logits."""
        known = None if math.isnan(train_acc) else train_acc
        row = {"epoch": epoch, "loss": loss, "train_acc": known, "test_acc": test_acc, "seconds": seconds}
        with self.log.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        shares = {"train": known, "test": test_acc}
        said = "  ".join(f"{name} {share:.1%}" for name, share in shares.items() if share is not None)
        if not self.bar.disable:
            self.bar.update(self.task, said=said)
        else:
            left = (self.epochs - epoch) * seconds
            line = f"training: epoch {epoch}/{self.epochs}  loss {loss:.4f}  {said}  {seconds:.1f} s, {left:.0f} s left"
            talk.say(line)

    def _keep(self, done: int) -> None:
        """A kill between an epoch's line and its state leaves a line too many: that epoch is done again."""
        if self.log.is_file():
            rows = [line for line in self.log.read_text().splitlines() if line.endswith("}")]
            self.log.write_text("".join(line + "\n" for line in rows if json.loads(line)["epoch"] <= done))

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.bar.stop()
