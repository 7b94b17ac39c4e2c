"""A hundred bad inputs: each one line on stderr, a non-zero exit code, no traceback, nothing trained and nothing recorded."""

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
queries_per_image=two
acceptance_z=-1
acceptance_z=x
re_evaluations=0
re_evaluations=null
dataset=mnits
dataset.classes=1
dataset.classes=ten
dataset.shape=null
dataset.shape=[1,8]
dataset.shape=[1,8,0]
dataset.shape=[1,9,9]
dataset.mean=null
dataset.std=x
dataset.mean=[0.1,0.2]
dataset.std=[0]
dataset.version=null
dataset.source=null
dataset.source._target_=bench.data.nowhere
dataset.source._target_=null
~dataset.source._target_
+dataset.colour=blue
model=smal_cnn
model.weights=recipes
model.weights=null
model.build=null
model.build._target_=nowhere.at_all
model.build._target_=bench.models.small_cnn.smal_cnn
model.build._target_=''
model.build.width=x
model.build.width=0
model.build.width=-4
model.build.hidden=0
model.build.classes=7
+model.build.colour=3
+model.members=x
recipe=null
recipe=stndard
recipe.epochs=-1
recipe.epochs=x
recipe.batch=0
recipe.lr=fast
recipe.pad_mode=wrap
recipe.flip=maybe
recipe.loss=null
recipe.loss._target_=defenses.recipes.standard.los
+recipe.images=0
+recipe.colour=1
defense=rdn
defense._target_=null
~defense._target_
defense._target_=defenses.none.Nothing
+defense.colour=1
defense=rnd defense.input_noise=-1
defense=rnd defense.input_noise=x
defense=unig defense.delta=2
defense=unig defense.group.size=0
defense=unig defense.group=null
attack=sqare
attack.p_init=0
attack.p_init=x
attack._target_=attacks.query.square.Sqare
~attack._target_
attack=pgd attack.steps=-1
attack=pgd attack.steps=x
attack=pgd attack/oracle=nowhere
threat.queries=interval(1,20)
threat.queries=0
threat.queries=-5
threat.queries=x
threat.queries=2.5
threat.eps=8
threat.eps=0
threat.eps=-1/255
threat.eps=x
threat.eps=1/0
threat.norm=l7
threat.goal=any
threat.feedback=none
threat=linf8
threat=null
numerics=gpus
numerics.rows=0
numerics.rows=x
numerics.dtype=float8
numerics.tf32=maybe
numerics.compile=1
experiment=digits_square
+experiment=a,b
+experiment=digits_square,unig_digits
+experiment=digits_sqare
threat.budget=5
colour=blue
+colour=blue
threat.queries
grid=3
grid=[3]
threat.queries=
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
