"""Measures what fusing 2 to 8 modalities costs: `python scripts/fusion_cost.py results/fusion-cost.json`.

Forward and backward passes of every strategy on made tokens (64 patients, 4 tokens of width 32 a modality, hidden width 32), and of the
full outer product at width 8 as far as it runs. Each measurement is a process of its own, one thread: processor milliseconds a pass,
median and quartiles of 30, and how much the passes raised the peak of memory; and, free of noise, operations and bytes that are kept.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from salus import registry
from salus.encode.encoder import Encoded
from salus.errors import ConfigError
from salus.evaluate.rows import commit, write_result
from salus.fuse.build import build_fuser
from salus.fuse.fuser import Present
from salus.fuse.tensor import OuterProduct

PATIENTS, TOKENS, WIDTH, OUTER_WIDTH = 64, 4, 32, 8
COUNTS = range(2, 9)
PASSES = 30
OUTER = "full outer product"


def pass_of(name: str, count: int) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return a network, and what runs it once to a loss."""
    if name == OUTER:
        outer = OuterProduct(count, OUTER_WIDTH, OUTER_WIDTH)
        vectors = [torch.randn(PATIENTS, OUTER_WIDTH) for _ in range(count)]
        return outer, lambda: outer(vectors).sum()
    names = [f"m{place}" for place in range(count)]
    network = build_fuser({"strategy": name, "hidden": WIDTH, "modality_dropout": 0.0}, {one: (WIDTH, TOKENS) for one in names}, WIDTH)
    shape = (PATIENTS, TOKENS)
    given = {
        one: Present(torch.arange(PATIENTS), Encoded(torch.randn(*shape, WIDTH), torch.ones(shape, dtype=torch.bool), torch.zeros(shape)))
        for one in names
    }
    head = network.build_head(2)
    return cast(nn.Module, network), lambda: head(network(given, PATIENTS)).sum()


def measure(name: str, count: int) -> dict[str, Any] | str:
    """Return time, memory, operations and parameters of one strategy with so many modalities, or why it does not run."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        network, once = pass_of(name, count)
    except ConfigError as error:
        return str(error)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent = []
    for number in range(PASSES + 3):
        began = time.process_time()
        once().backward()  # type: ignore[no-untyped-call]
        if number >= 3:
            spent.append(1000 * (time.process_time() - began))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    low, middle, high = statistics.quantiles(spent, n=4)
    operations, kept = counted(network, once)
    return {
        "ms": round(middle, 2),
        "quartiles": [round(low, 2), round(high, 2)],
        "grown_mb": round(grown, 1),
        "operations": operations,
        "kept_bytes": kept,
        "parameters": sum(one.numel() for one in network.parameters()),
    }


def counted(network: nn.Module, once: Callable[[], Tensor]) -> tuple[int, int]:
    """Return floating-point operations of the products of a pass, both ways, and bytes that it keeps for the way back; free of noise."""
    seen, kept = {one.untyped_storage().data_ptr() for one in network.parameters()}, 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            kept += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), FlopCounterMode(display=False) as counter:
        once().backward()  # type: ignore[no-untyped-call]
    return counter.get_total_flops(), kept


def main(out: Path) -> int:
    """Measure, print and write."""
    result: dict[str, Any] = {"command": "python scripts/fusion_cost.py results/fusion-cost.json", "commit": commit()}
    result |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": f"{os.cpu_count()} x {platform.machine()}"}
    result |= {"patients": PATIENTS, "tokens": TOKENS, "width": WIDTH, "outer_width": OUTER_WIDTH, "strategies": {}}
    for name in (*registry.names("salus.fusers"), OUTER):
        registry.load("salus.fusers", "concat" if name == OUTER else name)  # imported once, here
        found: dict[str, Any] = {}
        for count in COUNTS:
            with multiprocessing.get_context("fork").Pool(1) as apart:
                found[str(count)] = apart.apply(measure, (name, count))
            if isinstance(found[str(count)], str):
                break
        result["strategies"][name] = found
        print(name, {count: each["ms"] if isinstance(each, dict) else each for count, each in found.items()}, flush=True)
    write_result(result, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
