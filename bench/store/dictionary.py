"""What each column of a record means. Imports no torch."""

from bench.store.schema import LEDGER

PURPOSES = {
    "attack": "network rows that answered the attacker's queries",
    "clean": "network rows of the clean pass",
    "re_evaluation": "network rows that judged a found image anew",
    "placeholder": "network rows of batch neighbours that only filled a group's places",
    "white_box": "forward rows of an attacker who has the network",
    "filler": "rows that filled a network call up to numerics.rows",
    "inner": "a defence's own forward passes",
    "discarded": "queries answered ahead and not used",
    "unfinished": "rows of samples that have no record from them: a kill, or another writer who was first",
}
COLUMNS = {
    "sample": "the sample's number in the data set's revision",
    "position": "its place in the cell's order; the first n are position < n",
    "label": "its true class",
    "clean": "correctly classified, in its batch setting",
    "fooled": "the attack's image fools, judged by a fresh answer (a query attack: by the answer that ended it)",
    "target": "the class aimed at; empty: untargeted",
    "queries": "answers that the attacker drew, the first look included",
    "first_any": "the first query that fooled, wherever in the budget",
    "linf": "largest change of a pixel, [0, 1] scale",
    "l2": "Euclidean length of the change",
    "l1": "sum of the changes",
    "flow": "mean displacement in pixels, of attacks that move pixels",
    "margin": "lowest margin that the attacker saw: true logit minus the best other",
    "re_evaluation_success": "share of re-evaluations in which the found image still fools",
    "undefined": "logits that are not finite: neither fooled nor robust",
    "refused": "queries that a stateful defence declined to answer, of the attacker's; empty: the defence answers all",
    "first_refused": "the first of them, counted as queries are; empty: none was",
    "restart": "the restart that fooled, from 0",
    "passes_fwd": "forward passes of a white-box attacker",
    "passes_bwd": "backward passes of a white-box attacker",
    "grad_zero": "share of its gradients that were zero everywhere",
    "grad_nonfinite": "share of its gradients with a value that is not finite",
    "seconds": "wall time from start to finish of the sample, shared by those in flight",
    "logits": "the clean answer (clean cells alone)",
    "trace": "lowest margin at the checkpoints of bench.store.trace",
    **{f"rows_{purpose}": PURPOSES[purpose] for purpose in LEDGER[:5]},
}
