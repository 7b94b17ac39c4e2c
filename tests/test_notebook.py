"""docs/quickstart.ipynb runs from its first cell to its last, and says what it said when it was saved."""

import ast
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from bench.store.published import FOLDER

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "quickstart.ipynb"


def run(source: str, names: dict[str, Any]) -> Any:
    """As a kernel would: the value of the last expression."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


@pytest.mark.slow
def test_the_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells, names = json.loads(NOTEBOOK.read_text())["cells"], dict[str, Any]()
    said = [run("".join(cell["source"]), names) for cell in cells if cell["cell_type"] == "code"]
    assert names["bare"].accuracy.value < names["bare"].clean_accuracy.value
    assert (
        names["noisy"].key != names["labels"].key and len(names["records"]) == 5 * 60
    )  # three attacks, two clean passes
    with open(FOLDER / "tables" / "digits_square-square.csv", newline="") as file:
        published = [row for row in csv.DictReader(file) if row["row"] == "Vanilla"][:4]
    assert said[-1] == {(row["row"], row["column"]): round(float(row["value"]), 1) for row in published}
    saved = "".join(
        next(cell for cell in reversed(cells) if cell["cell_type"] == "code")["outputs"][0]["data"]["text/plain"]
    )
    assert ast.literal_eval(saved) == said[-1]


def test_its_saved_outputs_name_no_machine() -> None:
    text = NOTEBOOK.read_text()
    assert '"output_type": "error"' not in text and "/home/" not in text and "/tmp/" not in text
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert sum(bool(cell["outputs"]) for cell in code) >= 6
