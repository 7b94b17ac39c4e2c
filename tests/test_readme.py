"""What the README and docs/ show as whole code is whole code: pasted, it runs, and each piece is short; no link leads nowhere."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from bench.run import cell
from bench.store.records import Cell

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
EXTEND = (ROOT / "docs" / "extend.md").read_text()
PIECES = ("data", "network", "defence", "attack")


def pieces(title: str) -> list[tuple[str, str]]:
    """The files of a section of the README's "Yours": (name, content), the name being its first line's."""
    section = README.split(f"### {title}")[1].split("\n##")[0]
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", section, re.DOTALL)
    return [(name, block) for block in blocks for name in re.findall(r"\A# ([\w/.]+)", block)]


@pytest.mark.parametrize("title", PIECES)
def test_what_is_yours_takes_under_fifteen_lines(title: str) -> None:
    found = pieces(f"Your {title}")
    assert len(found) == 2 and sum(len(text.splitlines()) - 1 for _, text in found) < 15


@pytest.mark.slow
def test_what_is_yours_runs_as_pasted_in_an_empty_folder(tmp_path: Path) -> None:
    for title in PIECES:
        for name, text in pieces(f"Your {title}"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
    typed = re.findall(r"```bash\n(.*?)```", README.split("### All four")[1], re.DOTALL)[0]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BENCH_STORE": str(tmp_path / "store"), "OMP_NUM_THREADS": "1"}
    bash = ["bash", "-euo", "pipefail", "-c", f'python() {{ {sys.executable} "$@"; }}\n{typed}']
    done = subprocess.run(bash, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "defense=grey, attack=gauss" in done.stdout and "claimed" in done.stdout
    rows = (tmp_path / "records.csv").read_text()
    assert "mydefense.Grey" in rows and "myattack.Gauss" in rows and len(rows.splitlines()) > 200


@pytest.mark.parametrize(
    "file", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_no_link_leads_nowhere(file: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / file).read_text())
    here = (ROOT / file).parent
    assert [each for each in links if "://" not in each and not (here / each.partition("#")[0]).exists()] == []


def test_the_readme_is_a_page_and_names_the_five_papers() -> None:
    assert len(README.splitlines()) <= 165
    papers = README.split("## The papers")[1].split("\n## ")[0]
    assert len(re.findall(r"\[[^\]]{20,}\]\(https://", papers)) == 5


def snippet(title: str) -> tuple[str, dict]:
    section = EXTEND.split(f"## Add {title}")[1].split("\n## ")[0]
    code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    return code, yaml.safe_load(re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[0])


@pytest.mark.parametrize(("title", "group"), [("an attack", "attack"), ("a defence", "defense")])
def test_the_documents_own_method_runs(title: str, group: str, compose, monkeypatch: pytest.MonkeyPatch) -> None:
    code, config = snippet(title)
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    name = config["_target_"].rpartition(".")[0]
    module = ModuleType(name)
    exec(compile(code, name, "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2], module, raising=False)
    whole = compose("samples.n=30", "threat.queries=20") | {group: config}
    frame = Cell(Path(whole["store"]), cell.run(whole)).frame()
    assert len(frame) == 30 and frame["clean"].mean() > 0.9


def test_the_documents_paper_is_short_and_complete() -> None:
    section = EXTEND.split("## Add a paper")[1].split("\n## ")[0]
    text = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[0]
    assert len(text.strip().splitlines()) <= 15
    assert {"defaults", "grid", "tables"} == set(yaml.safe_load(text))
