"""What a plan says follows from what it measured, and it measures what training does."""

from dataclasses import replace

import pytest
import torch
from makers import config, digits_recipe

from dropact.experiments import load_dataset, recipe, train
from dropact.experiments.data.archive import ARCHIVES
from dropact.experiments.planning import cost as costing
from dropact.experiments.planning.cost import Cost, Size, measure, synthetic
from dropact.experiments.planning.plan import plan

COST = Cost(batch_size=32, step_seconds=0.5, image_seconds=0.001, steps=3, peak_bytes=None)


@pytest.mark.parametrize("part", ["train", "train+validation"])
def test_hours_follow_from_steps_and_images(part):
    """Digits: 300 train, 300 validation, 1,197 test images. A whole step takes 0.5 s, an evaluated image 1 ms."""
    made = config(epochs=20, batch_size=32, train_on=part)
    images = {"train": 300, "train+validation": 600}[part]
    evaluated = {"train": 1197 + 300, "train+validation": 1197}[part]
    epoch = 0.5 * images / 32 + 0.001 * evaluated
    assert COST.run_seconds(made) == pytest.approx(20 * epoch + 0.001 * images)


def test_recalibration_passes_the_training_images_and_the_test_images_once_more():
    plain = config(epochs=1)  # on digits, 300 training images and 1,197 test images
    more = COST.run_seconds(replace(plain, recalibrated=True)) - COST.run_seconds(plain)
    assert more == pytest.approx((300 + 1197) * 0.001)


def test_sizes_are_those_of_the_data():
    data, size = load_dataset("digits"), Size.of("digits")
    assert (size.train, size.validation, size.test) == tuple(
        len(getattr(data, f"y_{part}")) for part in ("train", "validation", "test")
    )
    for name in ARCHIVES:
        size = Size.of(name)
        assert (size.train + size.validation, size.test) == (ARCHIVES[name].train, ARCHIVES[name].test)
        made = synthetic(name, 6)
        assert made.x_train.shape == (6, *ARCHIVES[name].image_shape)
        assert int(made.y_train.max()) < made.num_classes == ARCHIVES[name].num_classes


@pytest.mark.parametrize(
    ("per_image", "seconds", "expected"),
    [
        (1e-6, 5, 128),  # the whole batch of the config
        (0.1, 5, 16),  # 3 · 16 · 0.1 s is 4.8
        (0.05, 5, 32),
        (0.01, 5, 128),  # 3 · 128 · 0.01 s is 3.84
        (0.02, 5, 64),
        (10, 5, 8),  # one step of eight takes 80 s: no fewer are tried
    ],
)
def test_the_largest_batch_that_fits_is_timed(per_image, seconds, expected):
    tried = []

    def step(batch):
        tried.append(batch)
        return batch * per_image

    assert costing._fitting(config(batch_size=128), step, seconds) == expected
    assert sum(tried) <= 2 * expected
    assert costing._fitting(config(batch_size=128, compiled=True), step, seconds) == 128
    assert costing._fitting(config(batch_size=5), step, seconds) == 5


def test_a_smaller_batch_is_scaled_up_and_says_so(monkeypatch):
    monkeypatch.setattr(costing, "_fitting", lambda *_: 8)
    monkeypatch.setattr(costing._Steps, "time", lambda self, batch, seconds: (0.25, 4))
    monkeypatch.setattr(costing._Steps, "time_evaluation", lambda self, batch, seconds: 0.08)
    cost = measure(config(batch_size=32))
    assert cost == Cost(batch_size=8, step_seconds=1.0, image_seconds=0.01, steps=4, peak_bytes=None)


def test_each_kind_of_step_is_measured_once(monkeypatch):
    measured = []

    def noted(made, device, seconds, batch):
        measured.append((made.network, made.method, batch))
        return replace(COST, batch_size=16)

    monkeypatch.setattr("dropact.experiments.planning.plan.measure", noted)
    figure = recipe("figure2")
    rows = [(row.name, row.comparison(range(20), epochs=3).configs()) for row in figure.rows]
    announced = []
    lines = plan(rows, announce=lambda done, of, made: announced.append((done, of, made.method)))
    assert measured == [("simple", "drop-activation", None), ("simple", "baseline", 16)]
    assert announced == [(0, 2, "drop-activation"), (1, 2, "baseline")]
    assert [(line.row, line.runs) for line in lines] == [(row.name, 20) for row in figure.rows]
    assert len({line.seconds for line in lines}) == 1


def test_what_makes_a_step_dearer_is_a_kind_of_its_own():
    made = config(batch_size=32)
    same = [{"seed": 7}, {"lr": 0.5}, {"epochs": 9}, {"epochs": 9, "full_epochs": 20}]
    other = [
        {"batch_size": 64},
        {"network": "simple"},
        {"precision": "bfloat16"},
        {"method": "rrelu"},
        {"ema_decay": 0.9},
    ]
    assert {costing.kind_of(replace(made, **fields)) for fields in same} == {costing.kind_of(made)}
    assert len({costing.kind_of(replace(made, **fields)) for fields in other} | {costing.kind_of(made)}) == 6


def test_rates_of_branches_decide_what_a_step_costs_and_other_rates_do_not():
    rows = [row.comparison([0]).configs() for row in recipe("depth-budget").rows]
    budgets = [made for configs in rows for made in configs if made.method == "depth-uniform"]
    assert len(budgets) == len({costing.kind_of(made) for made in budgets}) > 1
    rates = [config(method="drop-activation", options={"drop_prob": rate}) for rate in (0.05, 0.4)]
    assert len({costing.kind_of(made) for made in rates}) == 1


def test_measuring_leaves_random_streams_alone_and_needs_no_data(monkeypatch):
    monkeypatch.setenv("DROPACT_DATA", "/nowhere")
    before = torch.get_rng_state()
    (made,) = recipe("table1").row("resnet-164").comparison([0], ["drop-activation"]).configs()
    cost = measure(replace(made, network="simple", batch_size=16), seconds=0.01)
    assert torch.equal(torch.get_rng_state(), before)
    assert cost.steps >= 1
    assert min(cost.step_seconds, cost.image_seconds) > 0


def test_peak_memory_grows_with_the_batch():
    """By at least the two activations of (N, 32, 32, 32) floats that BatchNorm and convolution keep."""
    small, large = (
        measure(config(dataset="cifar10", network="simple", batch_size=n), seconds=0.01, batch=n).peak_bytes
        for n in (16, 512)
    )
    if small is None:
        pytest.skip("the system does not tell")
    assert large - small > (512 - 16) * 2 * 32 * 32 * 32 * 4 / 2


@pytest.mark.slow
def test_the_plan_of_a_run_is_about_what_the_run_takes():
    """Within a factor of two: other processes come and go."""
    (made,) = digits_recipe().row("simple-small").comparison([0], ["drop-activation"]).configs()
    expected = measure(made, seconds=2.0).run_seconds(made)
    taken = sum(train(made, load_dataset("digits")).seconds)
    assert 0.5 < taken / expected < 2
