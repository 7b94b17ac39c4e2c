"""rehearse=true: a cell at toy scale, so that a sweep of days can't die of a typo in its fiftieth hour. Imports no torch.

What stays is every choice: defence, attack, oracle, recipe, what each needs, norm, goal, table. What shrinks is every number that
costs time; cells that differ in such numbers alone become one. Data and networks are stand-ins of the same shape and number of
classes (bench/data/stand_in.py, a thin network trained for one epoch), so nothing is downloaded.
"""

from collections.abc import Mapping
from typing import Any

from bench.core import place
from bench.core.place import Place

FOLDER = "rehearsal"  # below the store; thrown away at the end
SAMPLES, QUERIES, ROWS, IMAGES, BATCH = 4, 12, 4, 64, 8
# of attacks, defences, oracles and losses: at most two of each
LOOPS = {
    "steps",
    "restarts",
    "searches",
    "rounds",
    "pairs",
    "samples",
    "passes",
    "shifts",
    "queries_per_image",
    "re_evaluations",
}
EPS = {"linf": "8/255", "l2": "1", "l1": "20", "flow_linf": "0.465"}
SMALL = {"width": 4, "hidden": 16}


def is_on(config: Mapping[str, Any]) -> bool:
    return config.get("rehearse") is True


def store(config: Mapping[str, Any]) -> Place:
    """The throw-away one."""
    return place.of(str(config["store"])) / FOLDER


def toy(config: Mapping[str, Any]) -> dict[str, Any]:
    """A composed, resolved config -> the one that the rehearsal runs; the config itself where it is no rehearsal."""
    if not is_on(config):
        return dict(config)
    whole = {str(name): value for name, value in config.items() if name != "hydra"}
    dataset = dict(whole["dataset"])
    dataset["source"] = {"_target_": "bench.data.stand_in.stand_in", "_partial_": True, "shape": list(dataset["shape"])}
    made = {
        name: _small(value, dataset, name)
        for name, value in whole.items()
        if name not in ("dataset", "samples", "grid")
    }
    order = whole["samples"] if isinstance(whole["samples"], Mapping) else {"order": "seeded", "seed": 0}
    threat = dict(whole["threat"])
    threat |= {"queries": min(threat["queries"], QUERIES), "eps": EPS.get(str(threat["norm"]), threat["eps"])}
    if str(made["attack"].get("_target_")).endswith(".Transfer"):  # it asks each of its restarts' images once
        threat["queries"] = made["attack"]["restarts"]
    numerics = {
        **whole["numerics"],
        "rows": ROWS,
        "dtype": "float32",
        "tf32": False,
        "compile": False,
        "channels_last": False,
    }
    there = store(whole)
    return made | {
        "dataset": dataset,
        "samples": {**order, "n": SAMPLES},
        "threat": threat,
        "numerics": numerics,
        "recipe": made.get("recipe") or _standard(),
        "slots": None,
        "store": str(there),
        "artifacts": str(there / "artifacts"),
    }


def _small(value: Any, dataset: Mapping[str, Any], name: str = "") -> Any:
    if isinstance(value, list):
        return [_small(each, dataset) for each in value]
    if not isinstance(value, Mapping):
        return min(value, 2) if name in LOOPS and isinstance(value, int) and not isinstance(value, bool) else value
    inner = {str(key): _small(each, dataset, str(key)) for key, each in value.items()}
    if {"build", "weights"} <= inner.keys():
        return _model(inner, dataset)
    if {"epochs", "batch", "loss"} <= inner.keys():
        return _recipe(inner)
    if "model" in inner and "recipe" in inner and inner["recipe"] is None:  # another network, with weights of its own
        inner["recipe"] = _standard()
    if str(inner.get("_target_", "")).endswith("AutoAttack"):
        inner |= {"engine": "custom", "attacks": ["apgd-ce"]}
    if isinstance(inner.get("places"), list):  # layers of the network that the stand-in stands for
        inner["places"] = [each if each == "input" else "3" for each in inner["places"]]
    if "_target_" in inner and isinstance(inner.get("images"), int):  # what makes a recipe's training images
        inner["images"] = min(inner["images"], IMAGES)
    if "chunk" in inner:
        inner["chunk"] = SAMPLES
    if name == "group" and isinstance(inner.get("size"), int):
        inner["size"] = min(inner["size"], SAMPLES)
    if {"split", "n"} <= inner.keys():
        inner["n"] = min(inner["n"], SAMPLES)
    return inner


def _model(model: dict[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """A thin network of its kind: of a set, with weight noise, from image to image."""
    build = model["build"][0] if isinstance(model["build"], list) else model["build"]
    if model["weights"] == "image":
        thin = {
            "_target_": "bench.models.image_to_image.convolutional",
            "shape": list(dataset["shape"]),
            "width": 4,
            "dilations": [1],
        }
        return {**model, "build": thin}
    target = "pni.pni_small_cnn" if "pni" in str(build.get("_target_")) else "small_cnn.small_cnn"
    thin = {
        "_target_": f"bench.models.{target}",
        "classes": dataset["classes"], "shape": list(dataset["shape"]),
        "mean": list(dataset["mean"]), "std": list(dataset["std"]), **SMALL,
    }  # fmt: skip
    kept = {name: value for name, value in model.items() if name not in ("own", "name")}
    if model["weights"] == "own":
        kept["weights"] = "recipe"
    if isinstance(model.get("members"), int):
        kept["members"] = 3
    if isinstance(model.get("member"), int):
        kept["member"] = min(model["member"], 1)
    return kept | {"build": thin}


def _recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    frozen = recipe.get("frozen")
    small = {"epochs": 1, "batch": BATCH, "images": IMAGES, "drops": None, "pad": 0, "bf16": False, "compile": False}
    if isinstance(frozen, dict):
        small["frozen"] = {**frozen, "members": 2}
    return recipe | small


def _standard() -> dict[str, Any]:
    """For networks whose own weights are not asked for."""
    return _recipe(
        {
            "version": 1, "lr": 0.05, "peak": 0.25, "momentum": 0.9, "weight_decay": 0.0, "pad_mode": "zero", "flip": False,
            "loss": {"_target_": "defenses.recipes.standard.loss", "_partial_": True},
        }
    )  # fmt: skip
