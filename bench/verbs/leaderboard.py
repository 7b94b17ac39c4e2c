"""Audits every submission of a leaderboard.yaml and writes the table: `leaderboard level=quick only=gcm to=FOLDER`. The file is
conf/leaderboard.yaml, or that of a folder of one's own. Words of a cell (`threads=1`, `store=…`) are for all of them. What is
audited already is read from the store; a submission that can't be run is named and the rest goes on, exit code 1.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from bench.config import places
from bench.core.errors import BenchError, one_line

FILE = "leaderboard.yaml"
SHAPE = "must be `submissions:`, a list of {name: …, words: [defense=…, model=…]}"


def submissions() -> list[dict[str, Any]]:
    """Of the folders of one's own where one has such a file, else ours. Raises BenchError."""
    for folder in places.folders():
        if (folder / FILE).is_file():
            return _read(folder / FILE)
    raise BenchError(f"no {FILE} in {', '.join(str(folder) for folder in places.folders())}")


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        found = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BenchError(f"{file} is no YAML: {one_line(error)}") from None
    listed = found.get("submissions") if isinstance(found, dict) else None
    if not isinstance(listed, list) or not listed or not all(_is_submission(each) for each in listed):
        raise BenchError(f"{file} {SHAPE}")
    names = [each["name"] for each in listed]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BenchError(f"{file}: two submissions are called {twice[0]!r}")
    return listed


def _is_submission(each: Any) -> bool:
    if not isinstance(each, dict) or set(each) != {"name", "words"} or not isinstance(each["name"], str):
        return False
    return isinstance(each["words"], list) and all(isinstance(word, str) for word in each["words"])


def main(words: list[str]) -> None:
    from bench.audit import leaderboard, protocol, show, verdict
    from bench.audit.run import audit
    from bench.report.formats.write import save

    told, typed = {"level": "quick", "only": "", "to": ""}, list[str]()
    for word in places.taken(words):
        name, sign, value = word.partition("=")
        if sign and name in told:
            told[name] = value
        else:
            typed.append(word)
    effort, store, failed = protocol.level(told["level"]), None, 0
    chosen = [each for each in submissions() if told["only"] in each["name"]]
    if not chosen:
        raise BenchError(f"only={told['only']} is in no submission's name")
    for each in chosen:
        print(f"== {each['name']}", file=sys.stderr)
        try:
            found = audit([*each["words"], *typed], effort)
        except BenchError as error:
            failed += 1
            print(f"error: {each['name']}: {error}", file=sys.stderr)
            continue
        store = found.cell.runtime.store
        page = leaderboard.portable(verdict.plain(found, verdict.judge(found)) | {"name": each["name"]})
        show.keep(store / "audits", found.cell.clean_key, page)
        print(f"{each['name']}: {show.headline(page)}", flush=True)
    if store is not None:
        pages = leaderboard.read(store / "audits", effort.name)
        rows, folder = leaderboard.rows(pages), Path(told["to"]) if told["to"] else store / "audits"
        print(f"written: {save(folder / 'leaderboard.md', leaderboard.markdown(rows, pages).encode())}")
        save(folder / "leaderboard.csv", leaderboard.comma_separated(rows).encode())
    if failed:
        sys.exit(1)
