"""The columns of a record, and the words of the ledger. Imports no torch."""

import pyarrow as pa

# One schema for every cell: an all-None column without a type would become null and break reading.
SCHEMA = pa.schema(
    [
        pa.field("sample", pa.int64(), nullable=False),  # the index in the data set's revision
        pa.field("position", pa.int64(), nullable=False),  # its place in the cell's order: the first n are position < n
        pa.field("label", pa.int64(), nullable=False),
        pa.field("clean", pa.bool_(), nullable=False),  # correctly classified, in its batch setting
        pa.field("fooled", pa.bool_(), nullable=False),
        pa.field("target", pa.int64()),  # null = untargeted
        pa.field("queries", pa.int64()),
        pa.field("first_any", pa.int64()),  # the first query that fooled, wherever it lay
        pa.field("linf", pa.float64()),
        pa.field("l2", pa.float64()),
        pa.field("l1", pa.float64()),
        pa.field("flow", pa.float64()),  # mean |v| in pixels, of attacks that move pixels
        pa.field("margin", pa.float64()),  # lowest margin loss the attacker saw
        pa.field("re_evaluation_success", pa.float64()),  # share of re-evaluations in which the found image still fools
        pa.field("undefined", pa.bool_()),  # logits that are not finite: neither fooled nor robust
        pa.field("refused", pa.int64()),  # queries that a defence declined to answer; null = one that answers all
        pa.field("first_refused", pa.int64()),  # null = none was
        pa.field("restart", pa.int64()),
        pa.field("passes_fwd", pa.int64()),
        pa.field("passes_bwd", pa.int64()),
        pa.field("grad_zero", pa.float64()),
        pa.field("grad_nonfinite", pa.float64()),
        pa.field("seconds", pa.float64()),
        pa.field("logits", pa.list_(pa.float32())),  # clean cells only
        pa.field("trace", pa.list_(pa.float32())),  # lowest margin at the checkpoints of bench.store.trace
        # network rows that this record took, by purpose; null where its maker told them of the whole part, as the runner does
        pa.field("rows_attack", pa.int64()),
        pa.field("rows_clean", pa.int64()),
        pa.field("rows_re_evaluation", pa.int64()),
        pa.field("rows_placeholder", pa.int64()),
        pa.field("rows_white_box", pa.int64()),
    ]
)
LISTS = ("logits", "trace")
OF_A_RECORD = ("attack", "clean", "re_evaluation", "placeholder", "white_box")  # purposes with a column of their own
# beside them: rows that fill a call up, a defence's own passes, queries sent ahead and not used, and rows of samples that have
# no record from them (a kill, a # lack of memory, another writer who was first)
LEDGER = (*OF_A_RECORD, "filler", "inner", "discarded", "unfinished")
