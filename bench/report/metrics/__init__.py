"""Every metric by its name in a table's YAML. Imports no torch."""

from bench.core.errors import BenchError, nearest
from bench.report import transfer_matrix
from bench.report.metrics import attacked, panels
from bench.report.metrics.attacked import CleanTimesSurvival, OfAttack
from bench.report.metrics.base import Metric
from bench.report.metrics.certified import CertifiedAccuracy
from bench.report.metrics.clean import CleanAccuracy, Cost, LogitDifference
from bench.report.metrics.panels import CleanLoss, Gain, PanelsWon
from bench.report.metrics.rows import Flags, McNemar, WorstCase
from bench.report.metrics.set_flags import SetFlags
from bench.report.metrics.sets import AllOfSet, CleanOfSet, OfSet
from bench.report.table_specs import TableSpec

WORST_CASE = "worst case: images that are right in every cell of the row and that no attack of the row breaks."
PAIRED = "p (a : b): exact McNemar test on the same images; a are kept here alone, b by the control alone."
SIGNS = "flags: signs of masked gradients among the row's cells (bench/report/masking_flags.py); the headline is the worst case."
SET_SIGNS = (
    "flags: attacks whose order of strength is not what true gradients would give (bench/report/masking_flags.py)."
)
CERTIFIED = (
    "certified: right, and nothing within the ball turns the vote, with 99.9% confidence an image (Cohen et al. 2019)."
)
DETECTED = (
    "detected: of the images under attack, those of which a query was refused; until detected: the first such query's number, "
    "median of those."
)
AR = "AR: of the images that are correctly classified, those that stay right under attack."

METRICS: dict[str, Metric] = {
    # of the clean pass
    "clean_acc": CleanAccuracy(counts="images"),
    "logit_diff": LogitDifference(unit="logits", digits=2, counts="images"),
    "parameters": Cost(unit="million", averaged=False, counted="parameters", scale=1e6),
    "macs": Cost(unit="GMac", averaged=False, counted="macs", scale=1e9),
    "certified_acc": CertifiedAccuracy(counts="images", note=CERTIFIED),
    # of several cells of a row
    "per_image_worst": WorstCase(counts="images", note=WORST_CASE),
    "per_image_worst_re_evaluated": WorstCase(counts="images", note=WORST_CASE, re_evaluated=True),
    "mcnemar": McNemar(unit="p", averaged=False, note=PAIRED),
    "flags": Flags(unit="signs", averaged=False, note=SIGNS),
    # of many cells, counted over panels
    "panels_won": PanelsWon(unit="panels", digits=0, note=panels.WON),
    **{f"gain_{name}": Gain(unit="points", which=name, note=panels.GAINS) for name in panels.SUMMARIES},
    "clean_loss_mean": CleanLoss(unit="points"),
    # of one cell
    "robust_acc": OfAttack(compute=attacked.robust_acc, counts="images"),
    "acc_all": OfAttack(compute=attacked.acc_all, counts="images", note=transfer_matrix.ALL_NOTE),
    "clean_acc_draws": OfAttack(compute=attacked.clean_acc_draws, counts="images"),
    "clean_acc_every_draw": OfAttack(compute=attacked.clean_acc_every_draw, counts="images"),
    "robust_acc_re_evaluated": OfAttack(compute=attacked.robust_acc_re_evaluated, counts="images"),
    "re_evaluation_success": OfAttack(compute=attacked.re_evaluation_success),
    "survival": OfAttack(compute=attacked.survival, counts="right", note=AR),
    "clean_x_survival": CleanTimesSurvival(counts="right"),
    "mean_queries_success": OfAttack(compute=attacked.mean_queries_success, unit="queries"),
    "median_queries_success": OfAttack(compute=attacked.median_queries_success, unit="queries"),
    "detected": OfAttack(compute=attacked.detected, counts="right", note=DETECTED),
    "queries_until_detected": OfAttack(compute=attacked.queries_until_detected, unit="queries", note=DETECTED),
    "mean_passes": OfAttack(compute=attacked.mean_passes, unit="passes"),
    "mean_linf": OfAttack(compute=attacked.mean_linf, unit="distance", digits=3),
    "median_linf": OfAttack(compute=attacked.median_distance("linf"), unit="distance"),
    "median_l2": OfAttack(compute=attacked.median_distance("l2"), unit="distance"),
    "median_flow": OfAttack(compute=attacked.median_distance("flow"), unit="pixels"),
    "median_l1": OfAttack(compute=attacked.median_distance("l1"), unit="distance"),
    # of a whole set of models
    "set_flags": SetFlags(unit="signs", averaged=False, note=SET_SIGNS),
    **{
        name: OfSet(counts="images", note=transfer_matrix.NOTE)
        for name in (*transfer_matrix.PAIRS, *transfer_matrix.OWNED)
    },
    **{name: OfSet(counts="images") for name in transfer_matrix.OTHERS},
    **{name: AllOfSet(counts="images", note=transfer_matrix.ALL_NOTE) for name in transfer_matrix.ALL},
    **{name: CleanOfSet(counts="images") for name in transfer_matrix.CLEAN},
}


def check(name: str, table: TableSpec) -> None:
    """Raises BenchError for a column whose metric is unknown or says too little for it, and for two of one name."""
    for what, names in (("row", [row.name for row in table.rows]), ("column", [each.name for each in table.columns])):
        if twice := next((each for each in names if names.count(each) > 1), None):
            raise BenchError(f"tables.{name}: two {what}s are named {twice}")
    for column in table.columns:
        label = f"tables.{name}: column {column.name}"
        if column.metric not in METRICS:
            raise BenchError(f"{label}: metric {column.metric} is unknown{nearest(column.metric, METRICS)}")
        METRICS[column.metric].check(table, column, label)
