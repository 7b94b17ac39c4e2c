"""python -m bench: runs one cell, or an experiment's grid, through Hydra. Imports no torch."""

import sys

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.plugins import Plugins
from hydra_plugins.bench_grid.sweeper import GridSweeper

from bench import grid
from bench.errors import BenchError
from bench.job import task


def main() -> None:
    # in an editable install Hydra's scan for plugins doesn't see the mapped folder
    Plugins.instance().register(GridSweeper)
    arguments = get_args_parser().parse_args()
    if not (arguments.help or arguments.hydra_help or arguments.shell_completion or arguments.info):
        try:
            grid.base(arguments.overrides)  # Hydra's own message for a wrong name has ten lines
        except BenchError as error:
            sys.exit(f"error: {error}")
    hydra.main(version_base="1.3", config_path=str(grid.CONF), config_name="bench")(task)()


if __name__ == "__main__":
    main()
