"""What the README shows as whole code is whole code: its attack and its defence run, and each is short."""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from bench.run import cell
from bench.store.records import Cell

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def snippet(title: str) -> tuple[str, dict]:
    section = README.split(f"## Add {title}")[1].split("\n## ")[0]
    code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    return code, yaml.safe_load(re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[0])


@pytest.mark.parametrize(("title", "group"), [("an attack", "attack"), ("a defence", "defense")])
def test_the_readmes_own_method_runs(title: str, group: str, compose, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_readmes_paper_is_short_and_complete() -> None:
    section = README.split("## Add a paper")[1].split("\n## ")[0]
    text = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[0]
    assert len(text.strip().splitlines()) <= 15
    assert {"defaults", "grid", "tables"} == set(yaml.safe_load(text))
