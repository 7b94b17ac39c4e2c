"""python -m scripts.noops [samples=200] [level=quick] [only=Jpeg] [words of a cell, as threads=1 store=F]

Audits defences that defend nothing (tests/support/noops.py, GCM and RND) and the bare network, and writes a line each: what is
claimed, what remains, and how many points above the bare network that is. Digits at eps 1/12 unless the words name others.
"""

import sys

from bench.audit import protocol, verdict
from bench.audit.run import audit
from bench.core.errors import BenchError
from tests.support import noops

SETTINGS = {"level": "quick", "samples": "200", "only": ""}
DIGITS = ["threat.eps=1/12"]


def main() -> None:
    settings, words = dict(SETTINGS), list[str]()
    for word in sys.argv[1:]:
        name, sign, value = word.partition("=")
        if sign and name in settings:
            settings[name] = value
        else:
            words.append(word)
    common = [*([] if any("dataset=" in word for word in words) else DIGITS), *words, f"samples={settings['samples']}"]
    defences = {each.__name__: f"defense._target_={each.__module__}.{each.__name__}" for each in noops.NOOPS}
    defences |= {"GCM": "defense=gcm", "RND": "defense=rnd"}
    bare = None
    print(
        "| defence | claimed | by | remains | above the bare network | flags |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name, word in [("none", "defense=none"), *defences.items()]:
        if settings["only"] not in name and name != "none":
            continue
        try:
            found = verdict.judge(audit([*common, word], protocol.level(settings["level"])))
        except BenchError as error:
            sys.exit(f"error: {name}: {error}")
        remains = found.headline
        bare = remains.value if bare is None else bare
        claimed = f"{found.claimed.value:.1f} | {found.claimed_by}"
        interval = f"{remains.value:.1f} [{remains.low:.1f}, {remains.high:.1f}]"
        print(f"| {name} | {claimed} | {interval} | {remains.value - bare:+.1f} | {len(found.flags)} |", flush=True)


if __name__ == "__main__":
    main()
