"""Runs one cell, or an experiment's grid, through Hydra. The verb may be left out: `defence-bench +experiment=digits_square`."""

import signal
import sys
from collections.abc import Sequence

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.plugins import Plugins
from hydra_plugins.bench_grid.sweeper import GridSweeper

from bench.config import grid, places
from bench.core.errors import BenchError
from bench.run.job import task


def main(words: Sequence[str]) -> None:
    # in an editable install Hydra's scan for plugins doesn't see the mapped folder
    Plugins.instance().register(GridSweeper)
    places.register()
    arguments = get_args_parser().parse_args(list(words))
    if arguments.config_path or arguments.config_name:
        raise BenchError(
            "--config-path and --config-name take conf/bench.yaml away; add a folder by --config-dir=<folder>"
        )
    if not (arguments.help or arguments.hydra_help or arguments.shell_completion or arguments.info):
        grid.base(arguments.overrides)  # Hydra's own message for a wrong name has ten lines
    _end_in_order()
    sys.argv[1:] = words
    hydra.main(version_base="1.3", config_path=str(places.CONF), config_name="bench")(task)()


def _end_in_order() -> None:
    """A terminal that closes and a `kill` end the command as Ctrl-C does: with its processes, and a word on what goes on."""

    def stop(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(number)

    for each in (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")):
        if each is not None and signal.getsignal(each) == signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(each, stop)
