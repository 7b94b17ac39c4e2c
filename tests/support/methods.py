"""Every attack and defence that plays alone, and what it needs to show something on 8x8 images within 60 queries."""

from bench.config import grid

# they need a second network, so they have tests of their own values: test_transformation.py, test_reparameterised.py,
# test_sets.py, test_white_box_cells.py
NOT_ALONE = (
    "defense=transformation",
    "defense=reparameterised",
    "defense=random_member",
    "attack=replay",
    "attack=redrawn",  # no attacks: tests/attacks/test_no_attacks.py
    "attack=eot_image",
    "attack=eot_start",
    *(f"attack=transfer_{of}" for of in ("undefended", "seeds", "architecture", "distilled")),
    *(f"attack={library}" for library in ("foolbox", "torchattacks", "art", "advlib")),  # test_foreign.py
)
METHODS = [
    f"{group}={path.stem}"
    for group in ("attack", "defense")
    for path in sorted((grid.CONF / group).glob("*.yaml"))
    if not f"{group}={path.stem}".startswith(NOT_ALONE)
]
# what a method needs to show something on 8x8 images within 60 queries
SETTINGS = {
    "attack=simba_dct": ["attack.freq_dims=6"],
    "attack=simba_unig": ["attack.freq_dims=6"],
    "attack=nes": ["attack.pairs=3", "attack.lr=0.02"],
    "attack=nes_unig_cifar": ["attack.pairs=3", "attack.lr=0.02"],
    "attack=nes_unig_imagenet": ["attack.pairs=3"],
    "attack=bandits_l2": ["threat.norm=l2", "threat.eps=0.3"],
    "attack=hopskipjump": ["attack.initial_probes=5", "threat.queries=200"],
    "attack=transfer": ["threat.queries=5"],
    "attack=cw": ["threat.norm=l2", "threat.eps=9", "attack.steps=20", "attack.searches=3", "attack.c=1"],
    "attack=cw_gcm": ["threat.norm=l2", "threat.eps=9", "attack.c=1"],
    "attack=disjoint_cw1": ["threat.norm=l2", "threat.eps=9", "attack.steps=20"],
    "attack=disjoint_cw2": ["threat.norm=l2", "threat.eps=9", "attack.steps=20", "attack.kappa=0.1"],
    "attack=ead": ["threat.norm=l2", "threat.eps=9", "attack.steps=20", "attack.searches=3", "attack.c=1"],
    "attack=disjoint_ead1": ["threat.norm=l2", "threat.eps=9", "attack.steps=20"],
    "attack=disjoint_ead2": ["threat.norm=l2", "threat.eps=9", "attack.steps=20", "attack.kappa=0.1"],
    "attack=autoattack": ["attack.engine=custom", "attack.attacks=[apgd-ce]", "attack.chunk=8"],
    "attack=autoattack_rand": ["attack.chunk=8"],
    "attack=apgd": ["attack.steps=10"],
    "attack=apgd_targeted": ["attack.steps=10", "attack.targets=3"],
    "attack=gmsa": ["defense=dent", "defense.group.size=8", "attack.rounds=2"],
    "attack=flow_fgsm": ["threat.norm=flow_linf", "threat.eps=1"],
    "attack=flow_pgd": ["threat.norm=flow_linf", "threat.eps=1"],
    "attack=flow_pgd_restarts": ["threat.norm=flow_linf"],
    "attack=flow_targeted": ["threat.norm=flow_linf", "attack.steps=20", "attack.step=0.125"],
    "attack=stadv": ["threat.norm=none"],
    "attack=stadv_lbfgs": ["threat.norm=none"],
    "attack=flow_es": ["threat.norm=flow_linf", "threat.eps=1/4", "attack.pairs=3"],
    "attack=rotate_translate": ["threat.norm=none", "threat.queries=60"],
    "defense=unig_copies": ["defense.group.size=2"],
    "defense=aaa": ["threat.eps=1/5", "defense.tau=1.0"],
    "defense=dent": ["defense.group.size=8"],
    "defense=dent_official": ["defense.group.size=8"],
}
