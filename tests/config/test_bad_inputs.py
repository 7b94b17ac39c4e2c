"""Bad settings: each one line on stderr, a non-zero exit code, no traceback, nothing trained and nothing recorded."""

import contextlib
import io
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import __main__

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["device=cpu", "samples.n=8", "threat.queries=5", "threads=1", "recipe.epochs=1"]
BAD = """
store=null
store=''
store={file}
store={file}/below
artifacts=null
artifacts={file}
samples=-1
samples=0
samples.n=true
samples.n=0
samples.n=-3
samples.n=2.5
samples.n=many
samples.n=501
samples.order=random
samples.order=null
samples.seed=-1
samples.seed=x
keep_images=perhaps
run_ahead=2
device=meta
device=tpu
device=cuda:x
threads=two
threads=0
threads=-1
slots=0
slots=half
slots=63
look_every=0
shard=4/3
shard=0/3
shard=1
shard=a/b
seed=-1
seed=2**70
seed=1.5
seed=x
seed=null
queries_per_image=0
""".strip().splitlines()  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_a_bad_input_is_one_line(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the entry point itself, in this process; the line may be followed by the command that it belongs to."""
    (tmp_path / "file").write_text("a file")
    typed = shlex.split(words.replace("{file}", str(tmp_path / "file")), posix=False)
    typed = [word.replace("''", "") if word.endswith("=''") else word for word in typed]
    given = {word.lstrip("+~").partition("=")[0] for word in typed}
    own = {"store": str(tmp_path / "store"), "artifacts": str(tmp_path / "artifacts")}
    common = [word for word in SMALL if word.partition("=")[0] not in given]
    common = [word for word in common if not any(word.startswith(f"{name}.") for name in given)]
    common += [f"{name}={value}" for name, value in own.items() if name not in given]
    code, told = entered([*common, *typed], monkeypatch)
    lines = [line for line in told.splitlines() if line.startswith("error:")]
    assert code == 1, told
    assert len(lines) == 1 and "Traceback" not in told and "HYDRA_FULL_ERROR" not in told, told
    assert not list(tmp_path.glob("**/part-*.parquet")) and not list(tmp_path.glob("**/log.jsonl")), told


def entered(typed: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[object, str]:
    """(exit code, stderr) of `python -m bench` in this process."""
    from hydra.core.global_hydra import GlobalHydra

    monkeypatch.setattr(sys, "argv", ["bench", *typed])
    GlobalHydra.instance().clear()
    threads, out, err = torch.get_num_threads(), io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            __main__.main()
        except SystemExit as end:
            code = end.code
    torch.set_num_threads(threads)
    GlobalHydra.instance().clear()
    if isinstance(code, str):  # sys.exit(text) prints it and ends with 1
        return 1, f"{err.getvalue()}{code}\n"
    return code, err.getvalue()


@pytest.mark.parametrize("words", ["store=''", "shard=4/3", "threat.queries=interval(1,20)", "+experiment=a,b"])
def test_a_process_of_its_own_says_the_same(words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "bench", words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 1 and len(lines) == 1 and "Traceback" not in done.stderr


def test_help_opens_with_our_own_words_and_lists_groups_and_experiments() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and done.stdout.startswith("defence-bench: does a defence")
    for wanted in ("digits_square", "attack: ", "defense: ", "dataset: ", "recipe: "):
        assert wanted in done.stdout
