"""The network that tests attack: trained once and shipped, since training on another CPU ends in other weights.

`python -m tests.support.shipped` trains it anew and prints its sha256, which belongs below; golden records and the numbers in
tests may change with it. Weights are kept as float16, which float32 holds exactly.
"""

import hashlib
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bench.assemble import networks
from bench.config import grid
from bench.core.place import Place
from bench.data.samples import load
from bench.models.weights import write_record
from bench.store import artifacts

FILE = Path(__file__).resolve().parents[1] / "fixtures" / "digits.safetensors"
SHA256 = "fde61fa80d54f0e9c91ff26345040085b526ff954cfe9bfd46bf96c8b14008bb"
DIGITS = ["recipe.epochs=5"]  # what the file is in a config: small_cnn by standard_digits, seed 0


def digest() -> str:
    return hashlib.sha256(FILE.read_bytes()).hexdigest()


def state() -> dict[str, torch.Tensor]:
    return {key: value.float() if value.is_floating_point() else value for key, value in load_file(FILE).items()}


def plant(root: Place) -> None:
    """Puts the network where a cell of DIGITS with `artifacts=root` looks for the weights of its recipe."""
    (cell,) = grid.cells(DIGITS)

    def built(folder: Path) -> None:
        save_file(state(), folder / "weights.safetensors")
        write_record(folder / "weights.safetensors")

    artifacts.need(root, "weights", cell.spec.weights_identity(), built)


def main() -> None:
    (cell,) = grid.cells(DIGITS)
    with tempfile.TemporaryDirectory() as folder:
        network = networks.trained(
            cell.spec, load(cell.spec.dataset, cell.spec.samples, torch.device("cpu")), Path(folder)
        )
    kept = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    FILE.parent.mkdir(exist_ok=True)
    save_file(kept, FILE)
    print(f'SHA256 = "{digest()}"')


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
