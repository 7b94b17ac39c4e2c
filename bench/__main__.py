"""python -m bench: runs one cell, or an experiment's grid, through Hydra. Imports no torch."""

import sys

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.plugins import Plugins
from hydra_plugins.bench_grid.sweeper import GridSweeper

from bench.config import grid
from bench.core.errors import BenchError
from bench.run.job import task


def main() -> None:
    # in an editable install Hydra's scan for plugins doesn't see the mapped folder
    Plugins.instance().register(GridSweeper)
    arguments = get_args_parser().parse_args()
    if not (arguments.help or arguments.hydra_help or arguments.shell_completion or arguments.info):
        try:
            grid.base(arguments.overrides)  # Hydra's own message for a wrong name has ten lines
        except BenchError as error:
            sys.exit(f"error: {error}")
    try:
        hydra.main(version_base="1.3", config_path=str(grid.CONF), config_name="bench")(task)()
    except KeyboardInterrupt:
        print("\nstopped; finished samples are kept, the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
