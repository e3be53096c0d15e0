"""Functions run on several ranks of gloo, each a process of its own."""

import datetime
import json
import os
import time

import torch
import torch.distributed as dist

SECONDS = 60  # that a rank waits for another: what hangs raises then


def _rank(rank, count, cases, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=count,
        timeout=datetime.timedelta(seconds=SECONDS),
    )
    for name, case in cases.items():
        torch.manual_seed(rank)
        try:
            found = case(rank)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        (folder / f"{name}.{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    os._exit(0)  # torch's own threads of gloo abort one interpreter in fifty while it shuts down


def on_ranks(cases, folder, count=2):
    """What each of the cases, a mapping from names to functions of the rank that pickle can name, gives on each rank:
    what JSON can hold, or the error in words; "nothing" where a rank did not end."""
    context = torch.multiprocessing.spawn(_rank, (count, cases, folder), nprocs=count, join=False)
    end = time.monotonic() + 3 * SECONDS
    while time.monotonic() < end and any(process.is_alive() for process in context.processes):
        time.sleep(0.1)
    for process in context.processes:
        process.kill()
    files = {name: [folder / f"{name}.{rank}.json" for rank in range(count)] for name in cases}
    return {n: [json.loads(f.read_text()) if f.exists() else "nothing" for f in paths] for n, paths in files.items()}
