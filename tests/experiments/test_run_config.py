import json

import pytest
from makers import config

from dropact.experiments.comparison import Comparison
from dropact.experiments.config import RunConfig, key_of
from dropact.experiments.errors import ConfigError
from dropact.experiments.methods import METHODS
from dropact.experiments.schedule import learning_rate


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"method": "rrelu", "options": {"lower": 0.1}},
        {"schedule": "step", "milestones": (1,), "nesterov": True, "train_on": "train+validation"},
        {"lr": 1, "weight_decay": 0},
        {"method": "drop-activation+cutout", "options": {"size": 4}, "augmentation": "crop+flip", "compiled": True},
        {"compiled": "reduce-overhead"},
    ],
)
def test_json_gives_back_the_same_config(fields):
    made = config(**fields)
    again = RunConfig.from_dict(json.loads(made.to_json()))
    assert again == made
    assert again.key == made.key == key_of(json.loads(made.to_json()))
    assert hash(again) == hash(made)


def test_key_does_not_depend_on_how_the_same_config_was_said():
    assert config(lr=1).key == config(lr=1.0).key
    assert config(method="drop-activation").key == config(method="drop-activation", options={"drop_prob": 0.05}).key


def test_the_order_in_which_methods_are_combined_does_not_matter():
    options = {"size": 2}
    one, two = (config(method=name, options=options) for name in ("cutout+rrelu", "rrelu+cutout"))
    assert one == two
    assert one.method == "cutout+rrelu"
    assert one.key.startswith("digits-simple-small-cutout+rrelu-s0-")


def test_methods_share_no_name_of_an_option():
    names = [name for method in METHODS.values() for name in method.options]
    assert len(set(names)) == len(names)


def test_key_is_stable():
    """The directories of earlier runs bear it."""
    made = RunConfig(dataset="digits", network="simple-small", method="dropout", seed=4)
    assert made.key == "digits-simple-small-dropout-s4-2c3e55a12805"


OTHERS = {
    "dataset": "cifar10",
    "network": "resnet-20",
    "method": "dropout",
    "seed": 1,
    "epochs": 3,
    "batch_size": 9,
    "lr": 0.2,
    "momentum": 0.8,
    "weight_decay": 0.0,
    "nesterov": True,
    "schedule": "constant",
    "train_on": "train+validation",
    "augmentation": "crop+flip",
    "label_smoothing": 0.1,
    "clip_norm": 1.0,
    "ema_decay": 0.99,
    "precision": "bfloat16",
    "memory_format": "channels_last",
    "compiled": True,
    "normalisation": "scale",
    "full_epochs": 9,
    "microbatches": 2,
    "recorded": ("features",),
    "train_images": 100,
    "evaluate_every": 2,
}
# those that not every value of another field goes with, with what they need
WITH = {
    "fused": {"fused": True},
    "recalibrated": {"recalibrated": True},
    "lr_factor": {"lr_factor": 0.2, "schedule": "step", "milestones": (1,)},
}


def test_a_run_that_records_nothing_says_nothing_of_it():
    """Recording does not decide what comes out: the key of a run that does without is that of its other fields."""
    assert "recorded" not in json.loads(config().to_json())
    assert json.loads(config(recorded=["stage2"]).to_json())["recorded"] == ["stage2"]


def test_the_networks_own_dropout_changes_the_key():
    assert config(network="wrn-16-8", dropout=0.4).key != config(network="wrn-16-8").key


@pytest.mark.parametrize("field", [*OTHERS, *WITH])
def test_every_field_changes_the_key(field):
    fields = WITH.get(field) or {field: OTHERS[field]}
    plain = {name: value for name, value in fields.items() if name != field}
    assert config(**fields).key.rsplit("-", 1)[1] != config(**plain).key.rsplit("-", 1)[1]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"network": "resnet"}, ["network", "'resnet'", "simple-small", "resnet-110"]),
        ({"network": ["simple"]}, ["network"]),
        ({"dataset": "imagenet"}, ["dataset", "'imagenet'", "digits", "cifar100"]),
        ({"method": "droput"}, ["method", "'droput'", "baseline", "drop-activation"]),
        ({"method": "drop-activation", "options": {"drop_prob": float("nan")}}, ["drop_prob", "nan", "0 to 1"]),
        ({"method": "drop-activation", "options": {"drop_prob": 1.01}}, ["drop_prob", "1.01"]),
        ({"method": "drop-activation", "options": {"drop_prob": "0.1"}}, ["drop_prob", "'0.1'"]),
        ({"method": "baseline", "options": {"drop_prob": 0.1}}, ["drop_prob", "baseline", "none"]),
        ({"method": "rrelu", "options": {"lower": 0.5}}, ["lower", "0.5", "upper"]),
        ({"options": [1]}, ["options"]),
        ({"seed": -1}, ["seed", "-1", "at least 0"]),
        ({"seed": True}, ["seed", "True"]),
        ({"seed": 1.0}, ["seed", "1.0"]),
        ({"epochs": 0}, ["epochs", "0", "at least 1"]),
        ({"epochs": "3"}, ["epochs", "'3'"]),
        ({"batch_size": 0}, ["batch_size"]),
        ({"lr": 0}, ["lr", "above 0"]),
        ({"lr": float("inf")}, ["lr", "inf"]),
        ({"lr": float("nan")}, ["lr", "nan"]),
        ({"momentum": 1.0}, ["momentum", "below 1"]),
        ({"weight_decay": -1e-4}, ["weight_decay"]),
        ({"nesterov": 1}, ["nesterov", "true or false"]),
        ({"nesterov": True, "momentum": 0}, ["nesterov", "momentum"]),
        ({"schedule": "cosine"}, ["schedule", "'cosine'", "one-cycle"]),
        ({"schedule": "step"}, ["milestones", "at least one"]),
        ({"milestones": [1]}, ["milestones", "one-cycle"]),
        ({"schedule": "step", "milestones": [2]}, ["milestones", "below 2"]),
        ({"schedule": "step", "milestones": [3, 1], "epochs": 9}, ["milestones", "ascending"]),
        ({"schedule": "step", "milestones": "1"}, ["milestones"]),
        ({"recorded": "stage2"}, ["recorded", "'stage2'", "names of modules"]),
        ({"train_on": "all"}, ["train_on", "train+validation"]),
        ({"method": 3}, ["method", "3", "baseline"]),
        ({"method": ""}, ["method", "''", "baseline"]),
        ({"method": "cutout+drop"}, ["method", "'drop'", "drop-activation"]),
        ({"method": "dropout+dropout"}, ["method", "each method once"]),
        ({"method": "baseline+dropout"}, ["method", "'baseline' alone"]),
        ({"method": "rrelu+drop-activation"}, ["method", "both replace ReLU"]),
        ({"method": "cutout"}, ["size", "digits", "whole number"]),
        ({"method": "cutout", "options": {"size": 1.5}}, ["size", "1.5", "whole number"]),
        ({"method": "cutout", "options": {"size": 3}}, ["size", "3", "even"]),
        ({"method": "cutout", "options": {"size": 0}}, ["size", "0", "from 2"]),
        ({"method": "autoaugment"}, ["method", "'autoaugment'", "'digits'", "cifar10"]),
        ({"method": "cutout+drop-activation", "options": {"rate": 1}}, ["options", "'rate'", "size, drop_prob"]),
        ({"augmentation": "crop"}, ["augmentation", "'crop'", "crop+flip"]),
        ({"label_smoothing": 1}, ["label_smoothing", "below 1"]),
        ({"clip_norm": -1}, ["clip_norm", "-1", "at least 0"]),
        ({"ema_decay": 1}, ["ema_decay", "below 1"]),
        ({"precision": "float16"}, ["precision", "'float16'", "bfloat16"]),
        ({"memory_format": "nhwc"}, ["memory_format", "'nhwc'", "channels_last"]),
        ({"recalibrated": True, "microbatches": 2}, ["recalibrated", "2 microbatches", "1 microbatch"]),
        ({"fused": 1}, ["fused", "1", "true or false"]),
        ({"compiled": 1}, ["compiled", "1", "true or false", "reduce-overhead"]),
        ({"compiled": "max-autotune"}, ["compiled", "'max-autotune'", "reduce-overhead"]),
        ({"compiled": "reduce-overhead", "microbatches": 2}, ["compiled", "2 microbatches", "true or false"]),
        ({"normalisation": "none"}, ["normalisation", "'none'", "standardise, scale"]),
        ({"dropout": 0.3}, ["dropout", "0.3", "'simple-small'", "wrn-28-10"]),
        ({"dropout": 1, "network": "wrn-16-8"}, ["dropout", "1", "below 1"]),
        ({"full_epochs": 2}, ["full_epochs", "2", "another number"]),
        ({"full_epochs": 0}, ["full_epochs", "0", "null"]),
        ({"full_epochs": True}, ["full_epochs", "True"]),
        ({"epoch": 3}, ["epoch", "unknown field", "epochs"]),
    ],
)
def test_refusals_name_the_field_the_value_and_what_is_accepted(fields, words):
    values = {**json.loads(config().to_json()), **fields}
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_dict(values)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("values", [[], "config", None, {}, {"dataset": "digits"}])
def test_json_that_is_no_config_is_refused(values):
    with pytest.raises(ConfigError):
        RunConfig.from_dict(values)


@pytest.mark.parametrize(
    ("methods", "seeds", "word"),
    [({}, [0], "methods"), ({"baseline": {}}, [], "seeds"), ({"baseline": {}}, [1, 1], "1")],
)
def test_a_comparison_needs_methods_and_distinct_seeds(methods, seeds, word):
    with pytest.raises(ConfigError, match=word):
        Comparison.of(config().setting, methods, seeds)


def test_step_schedule_drops_at_the_start_of_each_milestone():
    made = config(schedule="step", milestones=(2, 3), epochs=4, lr=1.0, lr_factor=0.1)
    rates = [learning_rate(made, step, steps_per_epoch=2) for step in range(8)]
    assert rates == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_one_cycle_rises_to_the_rate_and_falls_towards_zero():
    rates = [learning_rate(config(epochs=10, lr=0.5), step, steps_per_epoch=10) for step in range(100)]
    assert max(rates) == rates[20] == 0.5
    assert all(rate > 0 for rate in rates)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(0.5 / 80)
