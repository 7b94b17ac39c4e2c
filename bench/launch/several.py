"""Several cells in one job of a cluster, one after another in one process: to start it takes seconds, a small cell less. Imports
no torch."""

from collections.abc import Sequence
from typing import Any

from hydra.plugins.launcher import Launcher


class Several:
    """What submitit calls in the job. One cell's exception is its outcome, and leaves the others."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def __call__(self, overrides: Sequence[list[str]], job_dir_key: str, first: int, state: Any) -> list[Any]:
        """-> for each cell what its task returned, or the exception that it met on the way there."""
        task: Any = self.launcher  # its __call__ runs one
        found: list[Any] = []
        for i, words in enumerate(overrides, start=first):
            try:
                found.append(task(words, job_dir_key, i, f"job_id_for_{i}", state).return_value)
            except Exception as error:
                found.append(error)
        return found

    def checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        """A job that met its time limit is queued again: what is complete has nothing left to do."""
        import submitit  # only in the job

        return submitit.helpers.DelayedSubmission(self, *args, **kwargs)
