"""A cell's settings in words, from its identity. Imports no torch."""

from collections.abc import Mapping
from typing import Any

SILENT = {"_target_", "version", "needs", "oracle", "craft", "sources", "labels", "fuse"}
NORMS = {
    "linf": "no pixel changes by more than {eps}",
    "l2": "the change is no longer than {eps} (Euclidean)",
    "l1": "the changes add up to no more than {eps}",
    "flow_linf": "no pixel moves by more than {eps} pixels",
    "none": "no bound",
}
FEEDBACK = {
    "logits": "sees the logits",
    "label": "sees the predicted label alone",
    "gradient": "has the network and its gradients",
}


def short(node: Mapping[str, Any] | None) -> str:
    """What a node builds, without its settings."""
    module, _, name = str((node or {}).get("_target_") or "none").rpartition(".")
    return module.rpartition(".")[2] if name == "loss" else name


def long(node: Mapping[str, Any] | None) -> str:
    """`Square (p_init 0.05, loss margin)`: what a node builds, with its plain settings."""
    return short(node) + settings(node or {})


def settings(node: Mapping[str, Any]) -> str:
    plain = [f"{name} {_value(value)}" for name, value in node.items() if name not in SILENT and value is not None]
    return f" ({', '.join(plain)})" if plain else ""


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return long(value) if "_target_" in value else settings(value).strip()
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def dataset(config: Mapping[str, Any]) -> str:
    """Its name: of files, their folder's."""
    source = config["dataset"]["source"]
    file = (source.get("files") or {}).get("test", "")
    return str(file).split("/")[0] if "/" in str(file) else short(source)


def model(config: Mapping[str, Any]) -> str:
    build = config["model"]["build"]
    first = build[0] if isinstance(build, list) else build
    return str(first.get("name") or first.get("network") or short(first))


def defence(config: Mapping[str, Any]) -> str:
    name = short(config["defense"])
    return "none" if name == "Undefended" else name


def attack(config: Mapping[str, Any]) -> str:
    """`Replay of Pgd` for crafted images, `Pgd by Eot` for a gradient that is not the exact one."""
    node = config["attack"]
    name = "clean pass" if node.get("_target_") is None else short(node)
    oracle = short(node["oracle"]) if node.get("oracle") else "Exact"
    craft = f" of {short(node['craft'])}" if node.get("craft") else ""
    return name + craft + (f" by {oracle}" if oracle != "Exact" else "")


def threat(config: Mapping[str, Any]) -> str:
    found = config.get("threat")
    return "" if not found else f"{found['norm']} {found['eps']}" if found["norm"] != "none" else "unbounded"


def queries(config: Mapping[str, Any]) -> int | None:
    return (config.get("threat") or {}).get("queries")


def of_config(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(part, sentence), for a page to list."""
    data, order, weights = config["dataset"], config["samples"], config["model"]
    shape = "×".join(map(str, data["shape"]))
    found = [
        (
            "Data",
            f"{dataset(config)}, revision {data['revision']}: {data['classes']} classes, {shape} images, "
            f"in {order['order']} order (seed {order['seed']})",
        ),
        ("Network", model(config) + _members(weights) + _weights(weights, config.get("recipe"))),
        ("Defence", "none" if defence(config) == "none" else long(config["defense"])),
    ]
    if config.get("threat"):
        found += [("Threat", _threat(config["threat"])), ("Attack", _attack(config["attack"]))]
        if config.get("queries_per_image"):
            found.append(("Averaging", f"each image is asked {config['queries_per_image']} times"))
    return [*found, ("Numerics", settings(config["numerics"]).strip(" ()")), ("Seed", str(config["seed"]))]


def _members(weights: Mapping[str, Any]) -> str:
    if weights.get("members") is None:
        return ""
    chosen = weights.get("member")
    return f", a set of {weights['members']}" + ("" if chosen is None else f", of which member {chosen} is deployed")


def _weights(weights: Mapping[str, Any], recipe: Mapping[str, Any] | None) -> str:
    if not recipe:
        return ", with weights of its own"
    images = f" on {recipe['images']:,} images" if recipe.get("images") else ""
    return f", trained {recipe['epochs']} epochs{images} by {long(recipe['loss'])}"


def _threat(node: Mapping[str, Any]) -> str:
    bound = NORMS[node["norm"]].format(eps=node["eps"])
    asked = f", may ask {node['queries']:,} times a sample" if node.get("queries") else ""
    return f"{bound}; the attacker {FEEDBACK[node['feedback']]}{asked}; {node['goal'].replace('_', ' ')}"


def _attack(node: Mapping[str, Any]) -> str:
    found = long(node)
    if node.get("craft"):
        found += f" of images crafted by {long(node['craft'])}"
    if node.get("sources"):
        found += f" on {len(node['sources'])} network{'s' if len(node['sources']) > 1 else ''} of the attacker"
    if node.get("fuse"):
        found += f", {node['fuse']} averaged"
    oracle = node.get("oracle") or (node.get("craft") or {}).get("oracle")
    return found + (f", gradients by {long(oracle)}" if oracle else "")
