"""How much of the time kernels run on the device while an attack's queue is not empty, and how often the host looks."""

from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench.assemble import networks
from bench.assemble.networks import build_victim
from bench.config import grid
from bench.core.device import device_of
from bench.data.samples import load
from bench.run import context
from bench.run.loop import Pace
from scripts import throughput

WARM, LOOKS = 6, 12


def measured(typed: list[str]) -> dict[str, Any]:
    """{busy: share of the wall time that some kernel covers (on a CPU: some operator), ticks a look, launches a tick}."""
    (cell,) = grid.cells(typed)
    spec, device = cell.spec, device_of(cell.runtime.device)
    test = load(spec.dataset, spec.samples, device)
    network, _ = networks.deployed(spec, test, cell.runtime.artifacts)
    victim = build_victim(spec, network, test, cell.runtime.artifacts)
    slots = context.calls_in_flight(test, victim.rows) * victim.rows
    looks = throughput.forever(cell, victim, test, throughput._right(victim, test, slots), slots)
    for _ in range(WARM):
        next(looks)
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as seen:
        for _ in range(LOOKS):
            next(looks)
        if cuda:
            torch.cuda.synchronize(device)
    kind = DeviceType.CUDA if cuda else DeviceType.CPU
    events = [e for e in seen.events() or [] if e.device_type == kind and (cuda or e.name.startswith("aten::"))]
    spans = sorted((e.time_range.start, e.time_range.end) for e in events)
    ticks = Pace(cell.runtime.look_every).ticks(device)
    return {
        "busy": covered(spans) / max(spans[-1][1] - spans[0][0], 1e-9) if spans else None,
        "ticks a look": ticks, "launches a tick": len(spans) / (LOOKS * ticks),
    }  # fmt: skip


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of the union of sorted spans."""
    total, reached = 0.0, -float("inf")
    for start, end in spans:
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total
