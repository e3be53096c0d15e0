import re

import pytest
import torch
from makers import config, tiny_data
from torch import nn

from dropact.experiments import engine
from dropact.experiments.batches import Batches, Normalisation, Part, batch_order, part_of, training_part
from dropact.experiments.engine import train
from dropact.experiments.errors import ConfigError, TrainingError
from dropact.experiments.evaluation import error_percent
from dropact.experiments.methods import METHODS
from dropact.experiments.seeds import derived_seed
from dropact.experiments.trainer import Trainer, initial_network

CPU = torch.device("cpu")

# The small network has no residual branches.
ON_DIGITS = [name for name, method in METHODS.items() if method.images is None and not method.drops_branches]


class Echo(nn.Module):
    """Predicts the class written in the first pixel, and remembers what it saw."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.modes = []

    def forward(self, images):
        self.seen += images[:, 0, 0, 1].tolist()
        self.modes.append(self.training)
        return nn.functional.one_hot(images[:, 0, 0, 0].long(), 10).float()


def test_evaluation_counts_every_image_once():
    images = torch.zeros(1237, 1, 8, 8, dtype=torch.float32)
    labels = torch.arange(1237) % 10
    images[:, 0, 0, 0] = labels
    images[:, 0, 0, 1] = torch.arange(1237)
    images[[0, 499, 500, 1236], 0, 0, 0] = (labels[[0, 499, 500, 1236]] + 1.0) % 10
    network = Echo().train()
    identity = Normalisation(torch.zeros(1), torch.ones(1))
    assert error_percent(network, Part(images, labels), identity) == 100 * 4 / 1237
    assert network.seen == list(range(1237))
    assert not any(network.modes)
    assert network.training


@pytest.mark.parametrize(("images", "batch"), [(301, 100), (300, 100), (5, 8), (33, 32)])
def test_an_epoch_takes_every_image_once_in_batches_of_equal_size(images, batch):
    batches = batch_order(config(batch_size=batch), images, epoch=3)
    assert sorted(torch.cat(batches).tolist()) == list(range(images))
    sizes = [len(part) for part in batches]
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-images // batch)


def batches_seen(monkeypatch, made):
    seen = []
    plain = Batches.make

    def make(self, indices, step):
        seen.append(indices.tolist())
        return plain(self, indices, step)

    monkeypatch.setattr(Batches, "make", make)
    train(made, tiny_data())
    monkeypatch.undo()
    return seen


def test_the_same_seed_gives_every_method_the_same_weights_and_batches(monkeypatch):
    """Also after the method has drawn masks: the order has a stream of its own."""
    data = tiny_data()
    first = initial_network(config(), data).state_dict()
    order = batches_seen(monkeypatch, config())
    assert order[:4] != order[4:]  # every epoch has its own order
    for method in ON_DIGITS:
        state = initial_network(config(method=method), data).state_dict()
        assert all(torch.equal(state[name], first[name]) for name in first)
        assert batches_seen(monkeypatch, config(method=method)) == order


def test_another_seed_gives_other_weights_and_batches(monkeypatch):
    data = tiny_data()
    first, other = (initial_network(config(seed=seed), data).state_dict() for seed in (0, 1))
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])
    assert batches_seen(monkeypatch, config(seed=0)) != batches_seen(monkeypatch, config(seed=1))


@pytest.mark.parametrize("method", ON_DIGITS)
def test_the_same_config_gives_the_same_bits_whatever_was_drawn_before(method):
    data = tiny_data()
    one = train(config(method=method), data)
    torch.manual_seed(5)
    torch.rand(7)
    two = train(config(method=method), data)
    assert one.metrics == two.metrics
    assert one.result == two.result
    assert all(torch.equal(one.state[name], two.state[name]) for name in one.state)


def test_methods_do_differ():
    data = tiny_data()
    losses = {method: train(config(method=method), data).metrics[-1]["train_loss"] for method in ON_DIGITS}
    assert losses.pop("hidden-dropout") == losses["dropout"]  # one hidden layer that is fully connected
    assert len(set(losses.values())) == len(losses)


def test_training_leaves_the_callers_random_stream_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train(config(), tiny_data())
    assert torch.equal(torch.rand(4), expected)


def test_the_result_is_the_last_epoch_and_the_best_stands_beside_it(monkeypatch):
    """The network at the end of three epochs, evaluated with scripted errors: validation, test, ..., train."""
    scripted = iter([1.0, 7.0, 9.0, 2.0, 4.0, 5.0, 0.5])
    monkeypatch.setattr(engine, "error_percent", lambda *ignored: next(scripted))
    result = train(config(epochs=3), tiny_data()).result
    assert result == {
        "epochs": 3,
        "test_error": 5.0,
        "validation_error": 4.0,
        "train_error": 0.5,
        "best_epoch": 2,
        "best_test_error": 2.0,
    }


def test_only_every_so_many_epochs_are_evaluated_and_always_the_last(monkeypatch):
    every = train(config(epochs=5), tiny_data())
    some = train(config(epochs=5, evaluate_every=2), tiny_data())
    for one, other in zip(every.metrics, some.metrics, strict=True):
        kept = ("validation_error", "test_error") if other["epoch"] in (2, 4, 5) else ()
        assert other == {
            name: None if name.endswith("t_error") or name.startswith("val") else v for name, v in one.items()
        } | {name: one[name] for name in kept}
    assert {name: every.result[name] for name in ("test_error", "validation_error", "train_error")} == {
        name: some.result[name] for name in ("test_error", "validation_error", "train_error")
    }
    assert some.result["best_test_error"] == min(some.metrics[at]["test_error"] for at in (1, 3, 4))
    assert all(torch.equal(value, some.state[name]) for name, value in every.state.items())


def chosen_images(made, data):
    """The places in the training part of the images that are trained on, by their pixels."""
    pixels = [image.tobytes() for image in data.x_train.numpy()]
    return [pixels.index(image.tobytes()) for image in training_part(made, data).images.squeeze(1).numpy()]


def test_some_of_the_training_images_are_every_class_in_proportion_and_nested():
    data = tiny_data(train=200)
    few, more = (chosen_images(config(train_images=count, seed=3), data) for count in (40, 120))
    assert set(few) < set(more)
    assert few == sorted(few)
    for chosen, each in ((few, 4), (more, 12)):
        assert torch.bincount(data.y_train[chosen].long()).tolist() == [each] * 10
    labels = training_part(config(train_images=40, seed=3), data).labels
    assert torch.equal(labels, data.y_train[few])


def test_the_seed_draws_the_images_and_the_method_does_not():
    data = tiny_data(train=200)
    made = config(train_images=40)
    assert chosen_images(made, data) == chosen_images(config(train_images=40, method="rrelu"), data)
    assert chosen_images(made, data) != chosen_images(config(train_images=40, seed=1), data)
    assert len(training_part(config(train_images=205, train_on="train+validation"), data)) == 205
    assert Batches(made, data).per_epoch == 5
    normalise = Batches(made, data).normalise  # of the images at hand: the others are not there
    assert normalise.mean.unique().item() == pytest.approx(training_part(made, data).images.double().mean().item())


def test_more_images_than_there_are_are_refused():
    data = tiny_data(train=20, validation=12)
    accepted = {"train": 20, "train+validation": 32}
    for part, most in accepted.items():
        with pytest.raises(
            ConfigError, match=rf"train_images: got 33, accepted: at most {most}, the {re.escape(part)} part"
        ):
            train(config(train_images=33, train_on=part), data)


def test_running_errors_are_means_over_images_not_over_batches(monkeypatch):
    """Batches of 11, 11 and 10 images with one error each, and a loss of 1 per image."""

    def step(self, images, labels):
        self._losses.append(torch.tensor(float(len(labels))))
        self._errors.append(torch.tensor(1))

    monkeypatch.setattr(Trainer, "step", step)
    metrics = train(config(batch_size=11, epochs=1), tiny_data(train=32)).metrics
    assert metrics[0]["train_loss"] == 1.0
    assert metrics[0]["train_error"] == 100 * 3 / 32


def test_normalisation_is_per_channel_from_the_training_part():
    images = torch.randint(0, 255, (50, 3, 8, 8), dtype=torch.uint8)
    images[:, 2] = 7
    normalised = Normalisation.of(images)(images)
    assert torch.allclose(normalised.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(normalised.std((0, 2, 3), correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5)
    data = tiny_data()
    expected = data.x_train.double().mean().float()
    assert Batches(config(), data).normalise.mean.unique().tolist() == pytest.approx([expected.item()])


def test_training_on_both_parts_has_no_validation_error():
    data = tiny_data(train=20, validation=12)
    both = config(train_on="train+validation", epochs=1)
    assert len(training_part(both, data)) == 32
    outcome = train(both, data)
    assert outcome.metrics[0]["validation_error"] is None
    assert outcome.result["validation_error"] is None


def test_a_loss_that_is_not_finite_names_the_step_and_the_config(monkeypatch):
    plain = Trainer.step

    def step(self, images, labels):
        plain(self, images, labels)
        if self.steps == 7:  # counts this one: it is step 6
            self._losses[-1] *= float("nan")

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(TrainingError, match=r"step 6 .*dataset=digits.*seed=0") as caught:
        train(config(), tiny_data())
    assert "\n" not in str(caught.value)


def test_a_wild_learning_rate_is_stopped():
    with pytest.raises(TrainingError, match="not finite"):
        train(config(lr=1e30, epochs=5, schedule="constant"), tiny_data())


def test_the_final_weights_are_the_ones_the_result_speaks_of():
    data = tiny_data()
    outcome = train(config(method="dropout"), data)
    plain = initial_network(config(), data)
    plain.load_state_dict(outcome.state)
    part = part_of(data.x_test, data.y_test, config())
    normalise = Batches(config(), data).normalise
    assert error_percent(plain, part, normalise) == outcome.result["test_error"]


def test_a_step_notes_sums_over_its_batch():
    data = tiny_data()
    made, twin = (Trainer(config(), data, CPU) for _ in range(2))
    images, labels = twin.batches.make(torch.tensor([3, 1, 4, 15, 9, 2]), step=0)
    logits = twin.network(images)
    made.step(images, labels)
    assert made._losses[0].item() == pytest.approx(nn.functional.cross_entropy(logits, labels, reduction="sum").item())
    assert made._errors[0].item() == (logits.argmax(1) != labels).sum().item()


@pytest.mark.parametrize("network", ["simple-small", "resnet-20"])
def test_masks_have_a_stream_of_their_own_that_the_network_does_not_shift(network):
    initial_network(config(network=network, seed=3), tiny_data())
    drawn = torch.rand(3)
    torch.manual_seed(derived_seed(3, "masks"))
    assert torch.equal(torch.rand(3), drawn)
    assert len({derived_seed(seed, purpose) for seed in (3, 4) for purpose in ("weights", "order", "masks")}) == 6


def test_recalibration_gives_another_error_and_leaves_the_run_as_it_is(monkeypatch):
    """The error beside is that of a network whose BatchNorm has the test-time activations' own statistics; an
    independent computation of these: mean and unbiased variance over the batches of one more epoch, averaged."""
    fields = {"method": "drop-activation", "options": {"drop_prob": 0.5}, "epochs": 1}
    plain, both = (train(config(**fields, recalibrated=value), tiny_data()) for value in (False, True))
    assert both.metrics == plain.metrics
    assert all(torch.equal(a, b) for a, b in zip(both.state.values(), plain.state.values(), strict=True))
    assert {k: v for k, v in both.result.items() if k != "recalibrated_test_error"} == plain.result

    seen = []
    original = engine.error_percent
    monkeypatch.setattr(
        engine,
        "error_percent",
        lambda network, *args: (
            seen.append({k: v.clone() for k, v in network.state_dict().items()}),
            original(network, *args),
        )[1],
    )
    outcome = train(config(**fields, recalibrated=True), tiny_data())
    recomputed = seen[-2]  # the last is that of the train error, with the run's own statistics again
    assert all(torch.equal(seen[-1][key], value) for key, value in outcome.state.items())

    made = config(**fields)
    network = initial_network(made, tiny_data())
    network.load_state_dict(outcome.state)
    first = {}
    layers = dict(network.named_modules())
    name = next(name for name, module in layers.items() if isinstance(module, nn.BatchNorm2d))
    layers[name].register_forward_pre_hook(
        lambda module, args: first.setdefault("batches", []).append(args[0].double())
    )
    batches = Batches(made, tiny_data())
    with torch.no_grad():
        for images, _ in batches.epoch(made.epochs):
            network(images)  # in whatever mode: nothing of ours stands before the first BatchNorm
    means = torch.stack([b.mean((0, 2, 3)) for b in first["batches"]]).mean(0)
    variances = torch.stack([b.transpose(0, 1).flatten(1).var(1) for b in first["batches"]]).mean(0)
    torch.testing.assert_close(recomputed[f"{name}.running_mean"].double(), means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(recomputed[f"{name}.running_var"].double(), variances, rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(recomputed[key], value) for key, value in outcome.state.items() if "running" in key)


def test_recalibration_needs_a_batchnorm():
    with pytest.raises(ConfigError, match="recalibrated: got True, and mlp-800-800 has no BatchNorm"):
        train(config(network="mlp-800-800", recalibrated=True), tiny_data())
