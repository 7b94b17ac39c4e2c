"""The shipped network is the file that its sha256 names, it is what cells attack, and it has learnt digits."""

from pathlib import Path

import torch

from bench.assemble import networks
from bench.config.specs import CellSpec
from bench.data.samples import load
from tests.support import shipped
from tests.support.cells import Compose


def test_the_shipped_network_is_what_cells_attack(compose: Compose) -> None:
    assert shipped.digest() == shipped.SHA256 and shipped.FILE.stat().st_size < 100_000
    config, cpu = compose(), torch.device("cpu")
    spec = CellSpec.parse(config)
    test = load(spec.dataset, spec.samples, cpu)
    network, _ = networks.deployed(spec, test, Path(config["artifacts"]))
    ours = network.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in shipped.state().items())
    with torch.no_grad():
        answers = network(test.images(list(range(len(test))))).argmax(1)
    assert (answers == test.labels(list(range(len(test))))).float().mean() > 0.97
