"""One run on two gloo ranks: what they train is what one process trains."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from makers import config, snapshot, tiny_data
from stopping import StopAfter, Stopped, assert_same

from dropact.cli import main
from dropact.experiments.batches import Batches
from dropact.experiments.checkpoint import Checkpoints
from dropact.experiments.engine import train
from dropact.experiments.errors import ConfigError
from dropact.experiments.ranks import Ranks, sizes

WHOLE = config(epochs=6, network="mlp-800-800", batch_size=7, lr=0.03, schedule="constant", augmentation="flip")
HALVES = replace(WHOLE, microbatches=2)
# BatchNorm, masks, an average, clipping and a record of the variance shift
RICH = config(
    epochs=2,
    network="resnet-20",
    method="drop-activation",
    augmentation="crop+flip",
    ema_decay=0.7,
    clip_norm=0.5,
    microbatches=2,
    recorded=["stage2"],
)
CASES = {
    "halves": HALVES,
    "rich": RICH,
    "cut": replace(RICH, microbatches=4, epochs=1),
    "shared": replace(RICH, shared_masks=True, epochs=1),
    "bfloat16": replace(RICH, epochs=1, precision="bfloat16", memory_format="channels_last"),
}
EVALUATED = 261  # two evaluation batches, the last of another size


def data():
    return tiny_data(test=EVALUATED)


def _rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    ranks = Ranks(rank, 2)
    outcomes = {name: train(made, data(), ranks=ranks) for name, made in CASES.items()}
    # Rank 0 goes on from what one process left; the other is told.
    kept = Checkpoints(folder / "begun", RICH.key, data().sha256, 1e9) if rank == 0 else None
    outcomes["resumed"] = train(RICH, data(), checkpoints=kept, ranks=ranks)
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(outcomes))
    dist.barrier()
    os._exit(0)  # torch's own threads of gloo abort one interpreter in fifty while it shuts down


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "begun").mkdir()
    with pytest.raises(Stopped):
        train(RICH, data(), StopAfter(6), checkpoints=Checkpoints(folder / "begun", RICH.key, data().sha256, 0.0))
    torch.multiprocessing.spawn(_rank, (folder,), nprocs=2)
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)]


def test_without_batchnorm_and_masks_two_halves_are_one_batch(ranks):
    """Batches of 6, 6, 6, 6 and 6 and halves of 3; the sums of float32 are taken in another order."""
    alone, together = train(WHOLE, data()), ranks[0]["halves"]
    curve = [[record["train_loss"] for record in outcome.metrics] for outcome in (alone, together)]
    assert curve[0] == pytest.approx(curve[1], rel=1e-5)
    assert curve[0][0] - curve[0][-1] > 0.1  # it did learn something
    for name, value in alone.state.items():
        assert torch.allclose(value, together.state[name], rtol=1e-4, atol=1e-5)


def test_halves_of_unequal_size_too():
    """A batch of 7 in 4 and 3: the gradient is the mean over images, not over halves."""
    odd = [replace(made, epochs=2) for made in (WHOLE, HALVES)]
    outcomes = [train(made, tiny_data(train=35)) for made in odd]
    losses = [[record["train_loss"] for record in outcome.metrics] for outcome in outcomes]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_all_ranks_end_alike(name, ranks):
    assert_same(ranks[0][name], ranks[1][name])


@pytest.mark.parametrize("name", [name for name, made in CASES.items() if made.microbatches == 2])
def test_two_ranks_and_one_that_takes_both_halves_end_with_the_same_bits(name, ranks):
    alone = train(CASES[name], data())
    assert_same(alone, ranks[0][name])
    assert alone.readings == ranks[0][name].readings


def test_more_microbatches_than_ranks_differ_by_rounding_alone(ranks):
    alone, together = train(CASES["cut"], data()), ranks[0]["cut"]
    assert [r["train_loss"] for r in alone.metrics] == pytest.approx(
        [r["train_loss"] for r in together.metrics], rel=1e-3
    )


def test_a_run_begun_alone_goes_on_with_two_ranks_to_the_same_bits(ranks):
    assert_same(ranks[1]["resumed"], ranks[0]["resumed"])
    assert_same(ranks[0]["rich"], ranks[0]["resumed"])


def test_masks_are_the_microbatches_own_unless_shared(monkeypatch):
    """What the generator would draw at the start of each of the two microbatches of the first steps."""
    drawn = []
    plain = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda seed: (drawn.append(seed), plain(seed))[1])
    short = {"epochs": 1, "batch_size": 15, "method": "drop-activation", "microbatches": 2}
    train(config(**short), data())
    own, drawn[:] = drawn[2:], []  # behind the weights' seed and the first of the masks'
    train(config(**short, shared_masks=True), data())
    shared = drawn[2:]
    assert len(own) == len(set(own)) == 4
    assert [shared.count(seed) for seed in shared] == [2, 2, 2, 2]


@pytest.mark.parametrize("augmentation", ["none", "crop+flip"])
@pytest.mark.parametrize(("images", "microbatches", "count"), [(11, 2, 2), (14, 4, 2), (13, 6, 3), (9, 1, 1)])
def test_the_shares_of_a_batch_are_the_batch(augmentation, images, microbatches, count):
    cut = {"method": "cutout+dropout", "options": {"size": 2}, "augmentation": augmentation}
    made = config(batch_size=images, microbatches=microbatches, **cut)
    indices = torch.arange(images)
    whole = Batches(replace(made, microbatches=1), tiny_data()).make(indices, step=3)
    shares = [Batches(made, tiny_data(), ranks=Ranks(rank, count)).make(indices, step=3) for rank in range(count)]
    assert torch.equal(torch.cat([images for images, _ in shares]), whole[0])
    assert torch.equal(torch.cat([labels for _, labels in shares]), whole[1])
    expected = [len(part) for part in indices.tensor_split(microbatches)]
    assert [size for rank in range(count) for size in Ranks(rank, count).share(images, microbatches)] == expected
    assert sizes(images, microbatches) == expected


@pytest.mark.parametrize(
    ("fields", "count", "words"),
    [
        ({"microbatches": 2}, 3, "ranks: got 3 for 2 microbatches, accepted: a divisor of 2"),
        ({}, 2, "ranks: got 2 for 1 microbatches"),
        ({"microbatches": 9, "batch_size": 10}, 1, "microbatches: got 9, accepted: at most 7"),
        ({"microbatches": 2, "sync_batchnorm": True}, 2, "sync_batchnorm: got True with 2 ranks on cpu"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(fields, count, words):
    with pytest.raises(ConfigError, match=words):
        train(config(**fields), tiny_data(train=23), ranks=Ranks(0, count))


@pytest.mark.parametrize(
    "fields", [{"microbatches": 9}, {"shared_masks": True}, {"sync_batchnorm": True}, {"microbatches": 0}]
)
def test_configs_that_make_no_sense_are_refused(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        config(**fields)


def test_a_usual_run_keeps_its_key():
    assert config().key == config(microbatches=1, shared_masks=False).key
    assert "microbatches" not in config().to_json()
    keys = {made.key for made in (config(), config(microbatches=2), config(microbatches=2, shared_masks=True))}
    assert len(keys) == 3


def test_torchrun_leaves_the_files_of_one_process(tmp_path, capsys):
    """The whole command: one writer, the data set's own images, every record but the times and the environment."""
    words = ["train", "--network", "simple-small", "--epochs", "2", "--checkpoint-seconds", "0"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "dropact"]
    done = subprocess.run([*torchrun, *words, "--out", str(tmp_path / "two")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Test error") == 1
    assert "Warning" not in done.stderr
    assert main([*words, "--microbatches", "2", "--out", str(tmp_path / "one")]) == 0
    one, two = snapshot(tmp_path / "one"), snapshot(tmp_path / "two")
    assert one.keys() == two.keys()
    assert {path.name for path in one if one[path] != two[path]} == {"timing.json", "environment.json"}
    (environment,) = (content for path, content in two.items() if path.name == "environment.json")
    assert b'"ranks": 2' in environment


def test_a_grid_is_not_trained_once_in_every_rank(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["compare", "--out", str(tmp_path / "out")]) == 2
    assert "torchrun: got 2 ranks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
