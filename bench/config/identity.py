"""A cell's identity: the part of its config that its records depend on, and the hash of that. Imports no torch."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from bench.core import threat
from bench.core.errors import BenchError, nearest

# Where files lie on one machine says nothing about what they hold; their sha256 is checked by the store instead.
PLACES = {"root", "file"}
NO_ATTACK = {"_target_": None}
ORDERS = ("first", "seeded", "per_class")
TRAINED = ("recipe", "set", "image")  # model.weights that come of config.recipe


def samples(config: Mapping[str, Any]) -> dict[str, Any]:
    """{n, order, seed}; `samples: 1000` is short for the first 1000 in seeded order."""
    value = config["samples"]
    if value is not None and not isinstance(value, int | Mapping):
        raise BenchError(f"samples={value} is no whole number; write samples=1000, or samples.n, .order and .seed")
    chosen = {"n": value, "order": "seeded", "seed": 0} if value is None or isinstance(value, int) else dict(value)
    if chosen["order"] not in ORDERS:
        raise BenchError(f"samples.order={chosen['order']} is unknown{nearest(str(chosen['order']), ORDERS)}")
    if chosen["n"] is not None and (not isinstance(chosen["n"], int) or chosen["n"] < 1):
        raise BenchError(f"samples.n={chosen['n']} must be a whole number of at least 1, or null for all")
    return chosen


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The white list: what may change a record. A run-time knob can't enter by accident."""
    chosen = samples(config)
    for name, least in (("seed", 0), ("reask", 1)):
        if not isinstance(config[name], int) or isinstance(config[name], bool) or config[name] < least:
            raise BenchError(f"{name}={config[name]} must be a whole number of at least {least}")
    whole = {
        "dataset": plain(config["dataset"]),
        "samples": {"order": chosen["order"], "seed": chosen["seed"]},
        "model": plain(config["model"]),
        "recipe": plain(config["recipe"]) if config["model"]["weights"] in TRAINED else None,
        "defense": plain(config["defense"]),
        "threat": threat.canonical(threat.read(config["threat"])),
        "attack": plain(config["attack"]),
        "numerics": plain(config["numerics"]),
        "reask": config["reask"],
        "seed": config["seed"],
    }
    if not asks(config["attack"]):  # budgets and feedback are for those who ask
        whole["threat"] |= {"queries": None, "feedback": "gradient"}
    averaging = {"average": config["average"], "accept": config["accept"]}
    if averaging != {"average": 1, "accept": None}:  # the plain attacker's key does not name it
        whole |= averaging
    return clean(whole) if whole["attack"]["_target_"] is None else whole


def asks(attack: Mapping[str, Any]) -> bool:
    """Is it a query attack? A white-box one has an oracle, a replayed one sources."""
    return "oracle" not in attack and "sources" not in attack


def clean(whole: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of the clean pass that the attacks on one victim share."""
    kept = {name: value for name, value in whole.items() if name not in ("average", "accept")}
    return kept | {"attack": NO_ATTACK, "threat": None, "reask": None}


def weights(whole: Mapping[str, Any]) -> dict[str, Any]:
    """What the weights of a recipe depend on: for a set, not on the member that is deployed."""
    model = {name: value for name, value in whole["model"].items() if name != "member"}
    return {"dataset": whole["dataset"], "model": model, "recipe": whole["recipe"], "seed": whole["seed"]}


def of(content: Mapping[str, Any]) -> str:
    """16 hex digits of the sha256 of canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(node: Any) -> Any:
    """Without what says only where files lie on one machine."""
    if isinstance(node, Mapping):
        return {str(name): plain(value) for name, value in node.items() if name not in PLACES}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    return node
