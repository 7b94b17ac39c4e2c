"""Runs one cell, or an experiment's grid, through Hydra. The verb may be left out: `defence-bench +experiment=digits_square`."""

import signal
import sys
from collections.abc import Sequence

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.plugins import Plugins
from hydra_plugins.bench_grid.sweeper import TYPED, GridSweeper, packed

from bench import verbs
from bench.config import grid, places, talk
from bench.config.overrides import Word, typed_words
from bench.core.errors import BenchError
from bench.run.job import task


def main(words: Sequence[str]) -> None:
    # in an editable install Hydra's scan for plugins doesn't see the mapped folder
    Plugins.instance().register(GridSweeper)
    places.register()
    words = talk.taken(words)
    arguments = get_args_parser().parse_args(list(words))
    if arguments.config_path or arguments.config_name:
        raise BenchError(
            "--config-path and --config-name take conf/bench.yaml away; add a folder by --config-dir=<folder>"
        )
    if arguments.help:
        print(_verbs_and_experiments())
    if not (arguments.help or arguments.hydra_help or arguments.shell_completion or arguments.info):
        grid.base(arguments.overrides)  # Hydra's own message for a wrong name has ten lines
    shows = arguments.help or arguments.hydra_help or arguments.shell_completion or arguments.info or arguments.cfg
    _end_in_order()
    sys.argv[1:] = words if shows else _composable(words, arguments.overrides)
    hydra.main(version_base="1.3", config_path=str(places.CONF), config_name="bench")(task)()


def _composable(words: Sequence[str], typed: Sequence[str]) -> list[str]:
    """Hydra composes what is typed without its sweeps, where `attack=pgd,mifgsm attack.steps=3` would set steps of the default
    attack. It gets each sweep's first value, and our sweeper all that was typed."""
    first = {text: values[0].text for text, values in zip(typed, map(_values, typed), strict=True) if len(values) > 1}
    return [*(first.get(word, word) for word in words), *([f"{TYPED}={packed(typed)}"] if typed else [])]


def _values(text: str) -> list[Word]:
    (values,) = typed_words([text])
    return values if not values[0].axis.startswith("hydra") else values[:1]


def _verbs_and_experiments() -> str:
    """What Hydra's help, which follows, has no place for: a line a verb, a line an experiment (its title)."""
    said = ["defence-bench: does a defence against adversarial examples hold, and at what cost?", ""]
    said += ["python -m bench <verb> …, run where none is typed (also: defence-bench <verb>):", ""]
    said += [f"  {name:10} {verbs.line(name)}" for name in verbs.names()]
    said += [
        "",
        "--quiet: tables and errors alone; --json: one object a table's entry (run, report), a cell or a record.",
        "",
    ]
    said += ["Experiments (+experiment=<name>):", ""]
    for name in places.choices("experiment"):
        file = places.file("experiment", name)
        lines = file.read_text(encoding="utf-8").splitlines() if file else []
        title = next((line.partition(":")[2].strip().strip("\"'") for line in lines if line.startswith("title:")), "")
        said.append(f"  {name:30} {title}".rstrip())
    return "\n".join([*said, ""])


def _end_in_order() -> None:
    """A terminal that closes and a `kill` end the command as Ctrl-C does: with its processes, and a word on what goes on."""

    def stop(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(number)

    for each in (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")):
        if each is not None and signal.getsignal(each) == signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(each, stop)
