"""A cell's attack, given what its `needs` name, as an averaging one where the cell asks for it."""

from dataclasses import replace
from typing import Any

import torch

from attacks.query.averaged import Averaged
from bench.assemble import networks
from bench.assemble.crafted import Crafted
from bench.assemble.strength import check_classes
from bench.config.instantiate import make
from bench.config.specs import CellSpec
from bench.core.device import DTYPES
from bench.core.errors import BenchError
from bench.core.place import Place
from bench.core.threat import Threat
from bench.core.victim import FixedRows, Ledger, Victim
from bench.data import samples
from bench.data.samples import Samples
from bench.models.split import Split


def build_attack(
    spec: CellSpec, network: Split, test: Samples, store: Place, price: int = 1, given: Split | None = None
) -> Any:
    """network: the bare model, for attacks that begin on it; its passes there are the attacker's own and in no ledger. price:
    answers that one query draws. given: the network, where it is somebody's object."""
    needs, objects = spec.attack.needs, dict[str, Any]()
    if spec.attack.sources is not None:
        objects["crafted"] = Crafted(spec, test, store, given)
    if needs and needs.source:
        unmetered = Ledger(1, torch.device("cpu"))
        objects["source"] = FixedRows(network, spec.numerics.rows, DTYPES[spec.numerics.dtype], unmetered)
    if needs and needs.starts:
        objects["starts"] = samples.pool(spec.dataset, needs.starts, test.device)
    times, accept = spec.queries_per_image, spec.acceptance_z
    made = make(spec.attack, threat=_affordable(spec, times * price), **objects)
    check_classes(made, spec)
    if not spec.attack.queries:
        if (times, accept) != (1, None):
            raise BenchError(
                "queries_per_image and acceptance_z are for score attacks; a white-box one takes attack/oracle=eot"
            )
        return made
    if spec.threat.feedback == "label" and made.feedback != "label":
        raise BenchError(
            f"{type(made).__name__} reads logits, but threat.feedback=label; use attack=rays, hopskipjump or noise, or "
            "threat.feedback=logits"
        )
    return made if times == 1 and accept is None else Averaged(made, times, accept, spec.dataset.classes)


def check_attack(spec: CellSpec) -> None:
    """Raises BenchError where the attack refuses its settings, before any training. Of one that needs other networks or images
    nothing can be said so early."""
    if spec.attack.target and spec.attack.sources is None and not spec.attack.needs:
        check_classes(make(spec.attack, threat=_affordable(spec, spec.queries_per_image)), spec)


def _affordable(spec: CellSpec, answers: int) -> Threat:
    """The threat as the attack sees it: as many queries as the budget pays for at so many `answers` each."""
    threat = spec.threat
    if not spec.attack.queries or answers == 1:
        return threat
    if threat.queries < answers:
        raise BenchError(
            f"threat.queries={threat.queries} pays for no image: each takes {answers} answers (queries_per_image="
            f"{spec.queries_per_image}, or a batch of copies); set threat.queries={answers} or more"
        )
    return replace(threat, queries=threat.queries // answers)


def give_surrogate(spec: CellSpec, victim: Victim, test: Samples, store: Place) -> None:
    """The attacker's own network, trained on first use, where the cell's oracle goes back through one."""
    if spec.attack.surrogate is not None:
        victim.surrogate = networks.second(spec, spec.attack.surrogate, "attack.surrogate", test, store)


def oracle_of(attack: Any, victim: Victim) -> Any:
    """Where a white-box attack gets its gradients; None for those that replay or query."""
    make_oracle = getattr(attack, "oracle", None)
    return None if make_oracle is None else make_oracle(victim=victim)
