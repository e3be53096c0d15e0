"""What one step does: precision, layout, augmentation, smoothing, clipping, averaging, against plain arithmetic."""

import os

import pytest
import torch
from makers import config, tiny_data
from torch import nn

from dropact.experiments import engine, hardware
from dropact.experiments.average import Average
from dropact.experiments.batches import Batches, augmentation_of, batch_order, part_of
from dropact.experiments.config import RunConfig
from dropact.experiments.engine import train
from dropact.experiments.errors import ConfigError
from dropact.experiments.evaluation import error_percent
from dropact.experiments.hardware import autocast, checked_device, fast_fields
from dropact.experiments.trainer import Trainer, _sample

CPU = torch.device("cpu")
INDICES = torch.tensor([3, 1, 4, 15, 9, 2])


def trainer(**fields):
    made = Trainer(config(**fields), tiny_data(), CPU)
    return made, made.batches.make(INDICES, step=0)


def weights(network):
    return torch.cat([parameter.detach().flatten().double() for parameter in network.parameters()])


def test_a_batch_is_the_images_normalised_and_their_labels():
    data = tiny_data(name="cifar10", channels=(3,), size=16)
    for memory_format in ("contiguous", "channels_last"):
        batches = Batches(config(dataset="cifar10", memory_format=memory_format), data)
        images, labels = batches.make(INDICES, step=5)
        pixels = data.x_train.double()
        expected = (pixels[INDICES] - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2), correction=0)
        assert torch.allclose(images.double(), expected.movedim(3, 1), atol=1e-5)
        assert torch.equal(labels, data.y_train[INDICES].long())
        assert images.is_contiguous() == (memory_format == "contiguous")
        assert images.is_contiguous(memory_format=torch.channels_last) == (memory_format == "channels_last")


def test_augmentation_follows_seed_and_step_and_nothing_else():
    def made(step, **fields):
        return Batches(config(augmentation="crop+flip", **fields), tiny_data()).make(INDICES, step)[0]

    first = made(7)
    torch.rand(3)
    assert torch.equal(made(7), first)
    assert torch.equal(made(7, method="drop-activation", precision="bfloat16"), first)
    assert not torch.equal(made(8), first)
    assert not torch.equal(made(7, seed=1), first)


def test_every_step_of_the_run_has_an_augmentation_of_its_own(monkeypatch):
    steps = []
    monkeypatch.setattr(Batches, "make", lambda self, indices, step: steps.append(step))
    batches = Batches(config(), tiny_data())
    with batches:
        for epoch in range(3):
            list(batches.epoch(epoch))
        list(batches.epoch(2, first=3))
    assert steps == [*range(12), 11]


def test_only_training_images_are_augmented(monkeypatch):
    """A network that is shown every image of the test part as it is."""
    seen = []

    class Looking(nn.Module):
        def forward(self, images):
            seen.append(images)
            return torch.zeros(len(images), 10)

    made, data = config(augmentation="crop+flip", method="cutout", options={"size": 4}), tiny_data()
    batches = Batches(made, data)
    error_percent(Looking(), part_of(data.x_test, data.y_test, made), batches.normalise, autocast(made, CPU))
    assert torch.equal(torch.cat(seen), batches.normalise(data.x_test.unsqueeze(1)))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"augmentation": "crop+flip"}, {"crop_padding": 4, "flip": True}),
        ({"method": "cutout"}, {"cutout": 8}),
        ({"method": "cutout", "dataset": "cifar10"}, {"cutout": 16}),
        ({"method": "autoaugment+cutout+rrelu"}, {"cutout": 8, "autoaugment": "cifar10"}),
        ({"method": "dropout+drop-activation", "augmentation": "crop+flip"}, {"crop_padding": 4, "flip": True}),
    ],
)
def test_methods_add_to_the_augmentation(fields, expected):
    found = augmentation_of(RunConfig(**{"dataset": "cifar100", "network": "simple", **fields}))
    plain = {"crop_padding": 0, "flip": False, "cutout": 0, "autoaugment": None}
    assert {name: getattr(found, name) for name in plain} == {**plain, **expected}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_convolutions_run_in_the_precision_and_layout_asked_for(precision, memory_format):
    made = Trainer(
        config(dataset="cifar10", precision=precision, memory_format=memory_format),
        tiny_data(name="cifar10", channels=(3,), size=8),
        CPU,
    )
    seen = []
    convolution = made.network.stage2[0]
    convolution.register_forward_hook(lambda module, inputs, output: seen.append(output))
    made.step(*made.batches.make(INDICES, step=0))
    error_percent(made.network, made.batches.part, made.batches.normalise, autocast(made.config, CPU))
    assert len(seen) == 2  # one in training, one in evaluation
    for output in seen:
        assert output.dtype == getattr(torch, precision)
        assert output.is_contiguous(memory_format=torch.channels_last) == (memory_format == "channels_last")
    assert convolution.weight.dtype == torch.float32
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last) == (memory_format == "channels_last")


def test_smoothed_labels():
    made, (images, labels) = trainer(label_smoothing=0.3)
    log = made.network(images).detach().double().log_softmax(1)
    expected = 0.7 * -log[torch.arange(6), labels].sum() + 0.3 * -log.mean(1).sum()
    made, batch = trainer(label_smoothing=0.3)
    made.step(*batch)
    assert made._losses[0].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("norm", [1e-3, 1e6])
def test_the_gradient_is_clipped_where_it_is_longer(norm):
    plain = {"schedule": "constant", "momentum": 0.0, "weight_decay": 0.0}
    free, batch = trainer(**plain)
    clipped, _ = trainer(clip_norm=norm, **plain)
    start = weights(free.network)
    free.step(*batch)
    clipped.step(*batch)
    whole, short = weights(free.network) - start, weights(clipped.network) - start
    expected = whole * min(1.0, norm / (whole.norm().item() / 0.1))
    assert torch.allclose(short, expected, rtol=1e-3, atol=1e-7)  # weights of about 0.1 in float32


def test_the_average_is_the_sum_it_stands_for():
    decay, made = 0.6, Trainer(config(ema_decay=0.6), tiny_data(), CPU)
    states = [{name: value.double().clone() for name, value in made.network.state_dict().items()}]
    for step in range(5):
        made.step(*made.batches.make(INDICES + step, step))
        states.append({name: value.double().clone() for name, value in made.network.state_dict().items()})
    found = made.evaluated.state_dict()
    assert made.evaluated is not made.network
    for name, first in states[0].items():
        expected = decay**5 * first + sum((1 - decay) * decay ** (5 - k) * states[k][name] for k in range(1, 6))
        if name.endswith("num_batches_tracked"):
            expected = states[-1][name]
        assert torch.allclose(found[name].double(), expected, atol=1e-6), name
    assert any(name.endswith("running_var") for name in found)


def test_the_average_is_what_is_evaluated_and_kept(monkeypatch):
    seen = []

    def spied(network, *rest):
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return error_percent(network, *rest)

    monkeypatch.setattr(engine, "error_percent", spied)
    made = config(ema_decay=0.9, method="drop-activation")
    outcome, without = train(made, tiny_data()), train(config(method="drop-activation"), tiny_data())
    assert [record["train_loss"] for record in outcome.metrics] == [record["train_loss"] for record in without.metrics]
    again = Trainer(config(), tiny_data(), CPU)
    again.network.load_state_dict(outcome.state)
    data = tiny_data()
    test = part_of(data.x_test, data.y_test, made)
    assert error_percent(again.network, test, again.batches.normalise) == outcome.result["test_error"]
    averaged, plain = outcome.state["classifier.weight"], without.state["classifier.weight"]
    assert not torch.equal(averaged, plain)
    # Two epochs of validation and test, then the training part; first with the average, then without.
    evaluated = [state["classifier.weight"] for state in seen]
    assert len(evaluated) == 2 * (2 * 2 + 1)
    assert torch.equal(evaluated[3], averaged)
    assert torch.equal(evaluated[4], averaged)
    assert torch.equal(evaluated[9], plain)


def test_an_average_does_not_move_the_network():
    network = nn.Linear(2, 2)
    before = network.weight.clone()
    average = Average(network, 0.5)
    average.network.weight.data.zero_()
    average.update(network)
    assert torch.equal(network.weight, before)
    assert torch.equal(average.network.weight, before / 2)
    assert not average.network.weight.requires_grad


@pytest.mark.parametrize("device", ["gpu", "cuda:0", ""])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(ConfigError, match=r"device: got .*cpu, cuda"):
        checked_device(device)


def test_cuda_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        train(config(), tiny_data(), device="cuda")


@pytest.mark.parametrize(
    ("flags", "precision"), [("avx2 avx512f", "float32"), ("avx512_bf16", "bfloat16"), ("amx_bf16", "bfloat16")]
)
def test_bfloat16_is_chosen_where_the_processor_multiplies_it(monkeypatch, flags, precision):
    monkeypatch.setattr("dropact.experiments.hardware._cpu_flags", lambda: set(flags.split()))
    assert fast_fields("cpu", "cifar10")["precision"] == precision
    assert fast_fields("cpu", "digits")["precision"] == "float32"


def test_compiling_without_a_compiler_is_refused_before_anything_is_trained(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"compiled: got True.*g\+\+"):
        train(config(compiled=True), tiny_data())


def test_cuda_graphs_are_refused_where_there_is_no_cuda():
    with pytest.raises(ConfigError, match=r"compiled: got 'reduce-overhead' on cpu, accepted: true or false"):
        train(config(compiled="reduce-overhead"), tiny_data())


def test_what_was_trained_by_code_that_is_gone_is_not_trained_again():
    with pytest.raises(
        ConfigError, match="fused: got True, accepted: False; such runs were trained by revisions up to"
    ):
        train(config(fused=True), tiny_data())


def test_a_compiled_step_computes_what_an_eager_one_does():
    """Without random masks: the losses of three steps, which differ by rounding alone."""
    losses = []
    for compiled in (False, True):
        made = Trainer(config(compiled=compiled), tiny_data(), CPU)
        for step in range(3):
            made.step(*made.batches.make(INDICES, step))
        losses.append(torch.stack(made._losses))
    assert torch.allclose(*losses, rtol=1e-4)
    assert not torch.equal(losses[0][0], losses[0][2])


@pytest.mark.slow
def test_batches_made_ahead_by_workers_are_those_made_one_by_one():
    data = tiny_data(name="cifar10", channels=(3,), size=32)
    made = config(dataset="cifar10", method="autoaugment", augmentation="crop+flip")
    batches = Batches(made, data)
    alone = [batches.make(indices, step) for step, indices in enumerate(batch_order(made, 30, epoch=0))]
    with batches:
        ahead = list(batches.epoch(0))
        rest = list(batches.epoch(0, first=2))
    for (images, labels), (others, numbers) in zip(alone, ahead, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, numbers)
    assert all(torch.equal(one[0], two[0]) for one, two in zip(rest, ahead[2:], strict=True))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no such call here")
def test_the_cores_counted_are_those_that_may_be_used():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert hardware.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_what_a_method_looks_at_is_normalised_as_what_is_trained_on():
    images, _ = _sample(config(normalisation="scale"), tiny_data(), 8)
    assert images.min() >= 0
    assert images.max() == 1
    images, _ = _sample(config(), tiny_data(), 8)
    assert images.mean().abs() < 1e-6
