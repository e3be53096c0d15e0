"""Cases, candidates and the watch on the machine. No test asserts how long anything takes."""

import dataclasses
import io
import math
import warnings

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F

from dropact import DropActivation, RandomizedReLU
from dropact.bench import Effort, Suite, environment, measure, show_head, show_measurement
from dropact.bench.calls import converted_network, step_call
from dropact.bench.candidates import CANDIDATES, MaskArithmetic, mask_arithmetic
from dropact.bench.machine import Watch, noise
from dropact.bench.suite import OPERATION, STEPS
from dropact.experiments.environment import git_revision
from dropact.kernels import _dispatch, cpu


def resnet_20(name):
    return converted_network("resnet-20", CANDIDATES[name].convert, "cpu", 32)


QUICK = Effort(rounds=2, seconds=5.0, warmup=0)


def shown(show, *args):
    console = Console(file=io.StringIO(), width=200)
    show(*args, console)
    return console.file.getvalue()


def test_the_cases_are_the_ones_asked_for():
    cases = Suite().cases()
    operations = [(c.mode, c.shape, c.dtype, c.layout) for c in cases if c.what == OPERATION]
    assert len(set(operations)) == len(operations) == 16
    steps = [(c.mode, c.shape, c.dtype, c.layout) for c in cases if c.what == "ResNet-20 training step"]
    assert steps == [(mode, (128, 3, 32, 32), "bfloat16", "channels_last") for mode in ("eager", "compiled")]
    assert [c.layout for c in Suite(shapes=((3, 4),), dtypes=("float32",), step=False).cases()] == ["contiguous"] * 2


def test_mask_arithmetic_is_drop_activation():
    x = torch.linspace(-1, 1, 20_000)
    y = mask_arithmetic(x)
    dropped = y != F.relu(x)
    assert torch.equal(y, torch.where(dropped, x, F.relu(x)))
    assert 0.03 < dropped[x < 0].float().mean() < 0.07  # 0.05 ± 9 standard deviations


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("relu", nn.ReLU),
        ("rrelu", nn.RReLU),
        ("mask_arithmetic", MaskArithmetic),
        ("drop_activation", DropActivation),
        ("randomized_relu", RandomizedReLU),
    ],
)
def test_every_site_of_the_step_has_the_activation_and_all_begin_alike(name, layer):
    torch.manual_seed(1)
    network = resnet_20(name)
    assert network.training
    sites = [m for m in network.modules() if isinstance(m, (nn.ReLU, nn.RReLU, MaskArithmetic, DropActivation, layer))]
    assert [type(site) for site in sites] == [layer] * 19
    plain = resnet_20("relu").state_dict()
    assert all(torch.equal(value, plain[key]) for key, value in network.state_dict().items())


def test_a_step_trains():
    network = resnet_20("drop_activation")
    before = [p.clone() for p in network.parameters()]
    step_call(network, torch.randn(4, 3, 32, 32), torch.arange(4), compiled=False)(lambda: None)
    assert all(not torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))


def test_a_candidate_that_cannot_run_is_left_out_with_its_reason(monkeypatch):
    def broken(x):
        raise NotImplementedError("no kernel for this\nand more")

    monkeypatch.setitem(CANDIDATES, "rrelu", type(CANDIDATES["rrelu"])("F.rrelu", broken))
    plan = Suite(shapes=((2, 3),), dtypes=("float32",), only=("rrelu", "leaky_relu"), effort=QUICK)
    table = measure(plan.cases()[0], plan)
    assert [row.name for row in table.rows] == ["relu", "leaky_relu"]
    assert table.left_out == {"rrelu": "NotImplementedError: no kernel for this"}
    assert "rrelu: NotImplementedError: no kernel for this" in shown(show_measurement, table)


def test_without_a_baseline_there_is_no_table_but_a_reason(monkeypatch):
    def broken(x):
        raise RuntimeError("[compiler] not found")

    monkeypatch.setitem(CANDIDATES, "relu", type(CANDIDATES["relu"])("F.relu", broken))
    plan = Suite(shapes=((2, 3),), dtypes=("float32",), only=("relu",), effort=QUICK)
    table = measure(plan.cases()[0], plan)
    assert (table.rows, table.rounds) == ((), 0)
    assert "[compiler] not found" in shown(show_measurement, table)


def test_the_fallback_is_said_loudly(monkeypatch):
    monkeypatch.setattr(cpu, "extension", None)
    monkeypatch.setattr(cpu, "description", "no compiler here")
    monkeypatch.setattr(_dispatch, "_warned", set())
    plan = Suite(shapes=((2, 3),), dtypes=("float32",), only=("drop_activation",), effort=QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = measure(plan.cases()[0], plan)
    assert table.backend == "torch (no compiler here)"
    assert "THE TORCH DEFINITION SERVES" in shown(show_measurement, table)
    assert "THE TORCH DEFINITION SERVES" in shown(show_head, environment("cpu", "dropact bench"))


ON_GPU = Suite(shapes=((2, 3),), dtypes=("float32",), batch=2, accelerator=True, effort=QUICK)


def test_a_gpus_suite_has_its_own_shapes_and_steps():
    plan = Suite.usual("cuda")
    assert [math.prod(shape) for shape in plan.shapes] == [2**26, 2**24]
    steps = [(case.what, case.mode, case.shape[-1]) for case in plan.cases() if case.network]
    assert steps == [
        (f"{network} training step", mode, side)
        for network, side in (("ResNet-18", 32), ("ViT-small", 224))
        for mode in ("eager", "compiled")
    ]


def test_on_a_gpu_a_copy_and_the_hosts_time_stand_beside():
    table = measure(ON_GPU.cases()[0], ON_GPU)
    assert [row.name for row in table.rows][:3] == ["relu", "copy", "leaky_relu"]
    assert list(table.rows[0].figures) == ["host", "forward", "backward", "both"]


@pytest.mark.parametrize("network", ["resnet-18", "timm:vit_small_patch16_224"])
def test_a_step_on_a_gpu_says_its_most_memory(monkeypatch, network):
    pytest.importorskip("timm")
    monkeypatch.setitem(STEPS, "cpu", [step for step in STEPS["cuda"] if step[0] == network])
    monkeypatch.setattr("dropact.bench.suite.peak_bytes", lambda call, before: 3 * 2**20)
    monkeypatch.setattr("dropact.bench.suite.STEP_CALLS_AHEAD", 1)
    only, effort = ("drop_activation",), Effort(1, 5.0, 0, 1)
    plan = dataclasses.replace(ON_GPU, operations=False, modes=("eager",), only=only, effort=effort)
    (case,) = plan.cases()
    table = measure(case, plan)
    assert [row.name for row in table.rows] == ["relu", "drop_activation"]
    assert "MiB" in shown(show_measurement, table)


def test_the_watch_counts_the_work_of_others():
    busy, own, now = iter([100.0, 107.0]), iter([10.0, 13.0]), iter([0.0, 8.0])
    with Watch(lambda: next(busy), lambda: next(own), lambda: next(now)) as watch:
        pass
    assert watch.others == 0.5
    with Watch(lambda: None) as blind:
        pass
    assert blind.others is None


def test_noise_is_named():
    assert noise(None, 0.0) == noise(0.05, 0.1) == []
    assert len(noise(0.2, 0.3)) == 2


def test_outside_a_checkout_the_revision_is_what_is_said(monkeypatch):
    monkeypatch.setattr("dropact.experiments.environment._git", lambda *arguments: None)
    monkeypatch.delenv("DROPACT_REVISION", raising=False)
    asked = git_revision.__wrapped__  # as by a new process
    assert asked() is None
    monkeypatch.setenv("DROPACT_REVISION", "abc")
    assert asked() == "abc"
    assert environment("cpu", "")["git_revision"] == git_revision()
