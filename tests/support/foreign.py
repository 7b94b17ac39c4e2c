"""Other libraries' attacks on the shipped digits network: which run, in which norm, what they spend, what is refused and why.

`python -m tests.support.foreign` prints docs/foreign.md's table (libraries that aren't installed are left out, and named).
"""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from attacks.base import Rows
from attacks.foreign.foreign import Foreign
from attacks.oracles.gradients import Exact
from bench.core import rng
from bench.core.errors import BenchError
from bench.core.threat import Threat
from bench.core.victim import FixedRows, Ledger, Victim
from defenses.none import Undefended
from tests.support.scene import CPU, Scene

N = 8
LINF = Threat("linf", Fraction(1, 5), 100, "logits", "untargeted")
L2, L1 = replace(LINF, norm="l2", eps=Fraction(2)), replace(LINF, norm="l1", eps=Fraction(10))
MODULES = {"foolbox": "foolbox", "torchattacks": "torchattacks", "art": "art", "advlib": "adv_lib"}


@dataclass(frozen=True)
class Case:
    """least: of N images, how many it fools inside the ball at least. refused: what the one line says of one that can't run."""

    engine: str
    name: str
    threat: Threat
    least: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    refused: str = ""

    def __str__(self) -> str:
        return f"{self.engine}-{self.name}-{self.threat.norm}"


def _cases(engine: str, threat: Threat, least: int, *names: str, **options: Any) -> list[Case]:
    return [Case(engine, name, threat, least, options) for name in names]


FOOLBOX = [
    *_cases("foolbox", LINF, 2, "LinfPGD", "LinfFastGradientAttack", "LinfBasicIterativeAttack", "LinfDeepFoolAttack"),
    *_cases("foolbox", LINF, 2, "LinfAdamPGD", "LinfAdamBasicIterativeAttack", "FGSM", "PGD"),
    *_cases("foolbox", LINF, 0, "LinfAdditiveUniformNoiseAttack"),
    *_cases("foolbox", LINF, 0, "LinfRepeatedAdditiveUniformNoiseAttack", repeats=5),
    *_cases("foolbox", LINF, 1, "LInfFMNAttack", steps=20),
    *_cases("foolbox", L2, 1, "L2PGD", "L2FastGradientAttack", "L2BasicIterativeAttack", "L2DeepFoolAttack"),
    *_cases("foolbox", L2, 1, "L2AdamPGD", "L2AdamBasicIterativeAttack"),
    *_cases("foolbox", L2, 1, "DDNAttack", steps=20),
    *_cases("foolbox", L2, 0, "L2CarliniWagnerAttack", binary_search_steps=2, steps=30),
    *_cases("foolbox", L2, 0, "NewtonFoolAttack", steps=20),
    *_cases("foolbox", L2, 0, "L2AdditiveGaussianNoiseAttack", "L2AdditiveUniformNoiseAttack"),
    *_cases("foolbox", L2, 0, "L2ClippingAwareAdditiveGaussianNoiseAttack"),
    *_cases("foolbox", L2, 1, "L2FMNAttack", steps=20),
    *_cases("foolbox", L1, 0, "L1FMNAttack", steps=20),
    *_cases("foolbox", L1, 0, "SparseL1DescentAttack", "L1PGD", "L1FastGradientAttack", "L1BasicIterativeAttack"),
    *_cases("foolbox", L1, 0, "EADAttack", binary_search_steps=2, steps=30),
    Case("foolbox", "DatasetAttack", L2, refused="feed"),
]
TORCHATTACKS = [
    *_cases("torchattacks", LINF, 1, "FGSM", "FFGSM", "BIM", "PGD", "MIFGSM", "NIFGSM", "RFGSM", "EOTPGD", "APGD"),
    *_cases("torchattacks", LINF, 1, "UPGD", "SINIFGSM", "VMIFGSM", "VNIFGSM", "Jitter"),
    *_cases("torchattacks", LINF, 0, "TPGD", "GN", "VANILA"),
    *_cases("torchattacks", LINF, 0, "Square", n_queries=30),
    *_cases("torchattacks", LINF, 0, "FAB", steps=3),
    *_cases("torchattacks", L2, 1, "PGDL2", "DeepFool"),
    *_cases("torchattacks", L2, 0, "CW", steps=20),
    Case("torchattacks", "MultiAttack", LINF, refused="not subscriptable"),
    Case("torchattacks", "LGV", LINF, refused="trainloader"),
]
ART = [
    *_cases("art", LINF, 2, "FastGradientMethod", "ProjectedGradientDescent"),
    *_cases("art", LINF, 2, "BasicIterativeMethod", "MomentumIterativeMethod", max_iter=10),
    *_cases("art", LINF, 1, "AutoProjectedGradientDescent", nb_random_init=1, max_iter=5),
    *_cases("art", LINF, 0, "SquareAttack", max_iter=20, nb_restarts=1),
    *_cases("art", LINF, 0, "HopSkipJump", max_iter=2, max_eval=40, init_eval=10),
    *_cases("art", L2, 1, "FastGradientMethod", "ProjectedGradientDescent"),
    *_cases("art", L2, 0, "DeepFool", max_iter=10),
    *_cases("art", L2, 0, "CarliniL2Method", max_iter=5, binary_search_steps=2),
    *_cases("art", L2, 0, "NewtonFool", max_iter=5),
    *_cases("art", L2, 0, "BoundaryAttack", max_iter=5, targeted=False),
    *_cases("art", L1, 0, "ElasticNet", max_iter=5, binary_search_steps=2),
    Case("art", "SimBA", L2, options={"batch_size": 1}, refused="predicting probabilities"),
    Case("art", "DecisionTreeAttack", LINF, refused="requires an estimator"),
    Case("art", "AdversarialPatch", LINF, refused="patch_shape"),
]
ADVLIB = [
    *_cases("advlib", LINF, 2, "pgd_linf", "apgd", "fmn"),
    *_cases("advlib", LINF, 0, "apgd_targeted", n_iter=10, num_targets=2),
    *_cases("advlib", LINF, 0, "carlini_wagner_linf", max_iterations=10),
    *_cases("advlib", LINF, 0, "fab", n_iter=5),
    *_cases("advlib", L2, 1, "ddn", steps=20),
    *_cases("advlib", L2, 1, "df", "fmn"),
    *_cases("advlib", L2, 0, "alma", num_steps=50, distance="l2"),
    *_cases("advlib", L2, 0, "carlini_wagner_l2", binary_search_steps=2, max_iterations=20),
    *_cases("advlib", L2, 0, "pdgd", num_steps=30),
    *_cases("advlib", L2, 0, "sdf"),
    *_cases("advlib", L1, 0, "pdpgd", num_steps=30),
    *_cases("advlib", L1, 0, "fab", n_iter=5),
]
CASES = [*FOOLBOX, *TORCHATTACKS, *ART, *ADVLIB]


def installed(engine: str) -> bool:
    return find_spec(MODULES[engine]) is not None


def on(scene: Scene, threat: Threat, n: int = N, **fields: Any) -> tuple[Tensor, int, dict[str, int], bool]:
    """-> the images found, rows that entered the network by a hook, the ledger, and whether it is exact per sample."""
    fixed = FixedRows(scene.network, n, torch.float32, Ledger(n, CPU))
    victim, seen = Victim(Undefended(fixed), fixed, 0), [0]
    hook = scene.network.features.register_forward_pre_hook(
        lambda _, given: seen.__setitem__(0, seen[0] + len(given[0]))
    )
    x, y, number = scene.x[:n], scene.y[:n], torch.arange(n)
    rows = Rows(number, y, torch.full_like(y, -1), rng.keys(0, rng.Stream.ATTACK, number))
    try:
        found = Foreign(threat, chunk=n, **fields)(Exact(victim), x, rows)
    finally:
        hook.remove()
    return found.image, seen[0], victim.ledger.totals(), found.in_order


def judged(scene: Scene, threat: Threat, image: Tensor) -> int:
    x, y = scene.x[: len(image)], scene.y[: len(image)]
    with torch.no_grad():
        fooled = scene.network(image).argmax(1) != y
    return int((fooled & (threat.distance(x, image) <= threat.radius * (1 + 1e-5))).sum())


def row(case: Case, scene: Scene) -> str:
    """A line of the table."""
    try:
        image, _, ledger, in_order = on(scene, case.threat, engine=case.engine, name=case.name, options=case.options)
    except BenchError as error:
        return f"| {case.engine} | {case.name} | {case.threat.norm} | refused: {error} |  |  |"
    counted = "per sample" if in_order else "per cell"
    passes = f"{ledger['white_box'] / N:.0f}"
    return f"| {case.engine} | {case.name} | {case.threat.norm} | {passes} | {judged(scene, case.threat, image)} | {counted} |"


def main() -> None:
    import tempfile
    from pathlib import Path

    from bench.assemble import networks
    from bench.config import grid
    from bench.data.samples import load
    from tests.support import shipped
    from tests.support.scene import right

    with tempfile.TemporaryDirectory() as folder:
        shipped.plant(Path(folder))
        (cell,) = grid.cells([*shipped.DIGITS, f"artifacts={folder}", "device=cpu", "threads=1"])
        test = load(cell.spec.dataset, cell.spec.samples, CPU)
        network, _ = networks.deployed(cell.spec, test, cell.runtime.artifacts)
        scene = right(network, test.images(list(range(300))), test.labels(list(range(300))), N)
    print(
        "| library | attack | norm | passes an image | fooled of 8 | counted |\n| --- | --- | --- | --- | --- | --- |"
    )
    for case in CASES:
        if installed(case.engine):
            print(row(case, scene), flush=True)
    if missing := [engine for engine in MODULES if not installed(engine)]:
        print(f"\nNot installed here: {', '.join(missing)}.")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
