"""Other people's scripts that the pages use, bundled once: DataTables (from itables) and Vega-Lite (from vl_convert). No page
asks another host for anything. Imports no torch."""

import re
from functools import cache
from pathlib import Path

from bench.core.errors import BenchError

FOLDER = "lib"
_EXPORT = re.compile(r"export\{([^}]*)\};")


@cache
def files() -> dict[str, bytes]:
    """{path below the site: content}. Raises BenchError where the packages are not installed."""
    try:
        import itables
        import vl_convert
    except ImportError as error:
        raise BenchError(f"the site needs {error.name}: pip install 'defence-bench[site]'") from None
    vega = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue]  # its stub wants a snippet to run
    folder = Path(itables.__file__).parent / "html"
    return {
        f"{FOLDER}/datatables.js": classic((folder / "dt_bundle.js").read_text(encoding="utf-8")).encode(),
        f"{FOLDER}/datatables.css": (folder / "dt_bundle.css").read_bytes(),
        f"{FOLDER}/vega.js": f"(()=>{{{vega}\n}})();\n".encode(),
    }


def classic(module: str) -> str:
    """An ES module as a plain script that sets window.DataTable and window.jQuery: from disk, browsers load no modules. Raises
    BenchError where the module exports something else."""
    found = _EXPORT.search(module)
    pairs = [pair.partition(" as ") for pair in found[1].split(",")] if found else []
    names = {outside: inside for inside, _, outside in pairs}
    if found is None or not {"default", "jQuery"} <= names.keys():
        raise BenchError("itables' DataTables bundle has no default export: pip install 'itables>=2.2,<3'")
    shim = f"window.DataTable={names['default']};window.jQuery={names['jQuery']};"
    return f"(()=>{{{module[: found.start()]}{shim}{module[found.end() :]}\n}})();\n"
