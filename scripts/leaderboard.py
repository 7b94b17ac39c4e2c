"""Audits every submission of conf/leaderboard.yaml, and writes the leaderboard.

    python scripts/leaderboard.py [level=quick] [only=gcm] [to=results/published/leaderboard] [words of a cell, as threads=1]

What is audited already is read from the store; a submission that can't be run is named and the rest goes on, exit code 1.
"""

import sys
from pathlib import Path

import yaml

from bench.audit import leaderboard, protocol, show, verdict
from bench.audit.run import audit
from bench.config import places
from bench.core.errors import BenchError
from bench.report.formats.write import save


def main() -> None:
    settings = {"level": "quick", "only": "", "to": ""}
    typed = []
    for word in sys.argv[1:]:
        name, sign, value = word.partition("=")
        if sign and name in settings:
            settings[name] = value
        else:
            typed.append(word)
    failed = 0
    try:
        effort = protocol.level(settings["level"])
        submissions = yaml.safe_load((places.CONF / "leaderboard.yaml").read_text())["submissions"]
        store = Path()
        for each in (each for each in submissions if settings["only"] in each["name"]):
            try:
                print(f"== {each['name']}", file=sys.stderr)
                found = audit([*each["words"], *typed], effort)
            except BenchError as error:
                failed += 1
                print(f"error: {each['name']}: {error}", file=sys.stderr)
                continue
            store = found.cell.runtime.store
            page = leaderboard.portable(verdict.plain(found, verdict.judge(found)) | {"name": each["name"]})
            show.write(store / "audits", f"{found.cell.clean_key}-{effort.name}", page)
            print(f"{each['name']}: {show.headline(page)}", flush=True)
        pages = leaderboard.read(store / "audits", effort.name)
        rows, folder = leaderboard.rows(pages), Path(settings["to"]) if settings["to"] else store / "audits"
        print(f"written: {save(folder / 'leaderboard.md', leaderboard.markdown(rows, pages).encode())}")
        save(folder / "leaderboard.csv", leaderboard.comma_separated(rows).encode())
    except BenchError as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
