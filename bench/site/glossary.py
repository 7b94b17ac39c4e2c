"""The words of the pages, and what a column of a download means. Imports no torch."""

from bench.report.metrics import METRICS
from bench.store.dictionary import COLUMNS
from bench.store.schema import SCHEMA

WORDS = {
    "clean accuracy": "percent of all images that the defended network classifies correctly without an attack",
    "claimed": "what a usual evaluation would print: the best of PGD straight through the defence and one run of Square",
    "remains": "percent of all images that are correctly classified and that no attack of the audit breaks: the per-image worst "
    "case, re-evaluated where the defence is random",
    "gap": "claimed less remains, in points",
    "robust accuracy": "percent of all images that are correctly classified and not fooled at any query within the budget",
    "per-image worst case": "an image counts as robust only if no attack of the row breaks it",
    "interval": "95%: Wilson's for shares, normal for means, of order statistics for medians",
    "budget": "the number of answers that one sample may draw, the first look included",
    "query": "one answer of the victim to one image of the attacker",
    "first hit": "the first query whose image fools, wherever in the budget",
    "re-evaluation": "the found image asked again, ten times unless said otherwise; it fools again if most answers are wrong",
    "margin": "logit of the true class less the best other; below 0 the image is misclassified",
    "eps": "the bound of the change, on the [0, 1] pixel scale (of flows: pixels of displacement)",
    "linf, l2, l1": "largest change of a pixel, Euclidean length of the change, sum of the changes",
    "flow": "mean displacement in pixels, of attacks that move pixels",
    "white-box": "the attacker has the network and its gradients",
    "score-based": "the attacker sees the logits; label-only: the predicted class alone",
    "transfer": "images crafted on another network, mostly the undefended one",
    "BPDA": "backward pass differentiable approximation: a step of the defence without a useful gradient is replaced by another "
    "function on the way back (Athalye et al. 2018)",
    "EOT": "expectation over transformation: gradients averaged over draws of the defence's noise (Athalye et al. 2018)",
    "masked gradients": "gradients that are there but useless; attacks that go around them break more",
    "flags": "signs of masked gradients among a row's cells (Carlini et al. 2019): a weaker attack that breaks more, images "
    "that stand at a huge eps, more queries or steps that don't help",
    "batch neighbours": "the images that are answered in the same call, where a defence mixes rows",
    "stochastic, coupled, stateful": "a defence's answer depends on its draws, on its batch neighbours, on earlier queries",
    "refusal": "a stateful defence's declining to answer a query that resembles an earlier one; it counts against the budget",
    "McNemar": "exact test on the images where two cells disagree: is the difference more than luck?",
    "cell": "one data set, network, defence, threat and attack; its key is the hash of all settings that may change a record",
    "record": "what is kept of one sample in one cell",
    "ledger": "the rows that entered the network, by purpose",
}  # fmt: skip

TABLE = {
    "row, column": "the table's own names",
    "metric": "what is counted; see below",
    "unit": "percent, logits, queries, …",
    "value, low, high": "our number and its 95% interval",
    "n": "how many images it is of",
    "paper": "the printed number; empty where the paper has none",
    "difference": "ours less the paper's",
    "outside": "the paper's number lies outside our interval",
    "key": "the cell that the number was computed from",
}


def records() -> list[tuple[str, str, str]]:
    """(column, type, meaning) of a record."""
    return [(name, str(SCHEMA.field(name).type), meaning) for name, meaning in COLUMNS.items() if name in SCHEMA.names]


def metrics() -> list[tuple[str, str, str]]:
    """(metric, unit, meaning as far as a note says it)."""
    return [(name, metric.unit, metric.note) for name, metric in METRICS.items()]
