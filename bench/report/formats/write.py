"""Files of a report, each whole or not there at all. Imports no torch."""

import os
import uuid

from bench.core.errors import BenchError
from bench.core.place import AnyPlace, Remote, beside
from bench.report.formats.comma_separated import comma_separated
from bench.report.formats.latex import latex
from bench.report.formats.markdown import markdown
from bench.report.formats.page import page
from bench.report.table import Table
from bench.store.files import write_whole


def write(stem: AnyPlace, table: Table, notes: list[str]) -> list[AnyPlace]:
    """<stem>.md, .csv, .tex and .html. Raises BenchError where the folder can't be written."""
    contents = {
        ".md": markdown(table, notes),
        ".csv": comma_separated(table),
        ".tex": latex(table, notes),
        ".html": page(table, notes),
    }
    return [
        save(beside(stem, stem.name + ending), content.encode("utf-8")) for ending, content in contents.items()
    ]  # with_suffix would cut a name with a dot in it


def save(path: AnyPlace, content: bytes) -> AnyPlace:
    """Temporary name, then a rename. Raises BenchError where the file can't be written."""
    if isinstance(path, Remote):
        write_whole(path, content)
        return path
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:12]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise BenchError(f"can't write {path} ({error.strerror}); set store=<a folder you may write to>") from None
    return path
