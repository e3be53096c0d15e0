"""The training engine has the bits of the plain loop written out here: what was trained stays what it was.

Everything that decides a run is repeated without the engine, but for the streams of random numbers and the network:
order, normalisation, rates, optimiser, counting. A change of any of them is a change of every run that was recorded.
"""

import pytest
import torch
from makers import tiny_data
from torch.nn import functional as F

import dropact
from dropact.experiments import RunConfig, build_network
from dropact.experiments.engine import train
from dropact.experiments.seeds import derived_seed, stream

EPOCHS, BATCH, LR = 3, 8, 0.1
LAYERS = {
    "baseline": None,
    "drop-activation": dropact.DropActivation(0.05),
    "rrelu": dropact.RandomizedReLU(),
    "gaaf": dropact.GAAF(),
}


def plain_loop(seed, layer, data):
    """Metrics of every epoch, and the weights."""
    torch.manual_seed(derived_seed(seed, "weights"))
    network = build_network("simple-small", 10, in_channels=1, image_size=8)
    if layer is not None:
        dropact.convert_(network, layer)
    torch.manual_seed(derived_seed(seed, "masks"))
    grey = data.x_train.double()
    mean, std = grey.mean().float(), (grey.square().mean() - grey.mean() ** 2).sqrt().float()

    def normalised(images):
        return ((images.float() - mean) / std).unsqueeze(1)

    def error(images, labels):
        network.eval()
        with torch.no_grad():
            wrong = (network(normalised(images)).argmax(1) != labels.long()).sum()
        network.train()
        return 100 * int(wrong) / len(labels)

    optimiser = torch.optim.SGD(network.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4, fused=True)
    per_epoch = -(-len(data.y_train) // BATCH)
    total, step, metrics = EPOCHS * per_epoch, 0, []
    warm_up = int(0.2 * total)
    for epoch in range(EPOCHS):
        losses, wrong = [], 0
        order = torch.randperm(len(data.y_train), generator=stream(seed, "order", epoch))
        for indices in order.tensor_split(per_epoch):
            rate = LR * (step + 1) / (warm_up + 1) if step < warm_up else LR * (total - step) / (total - warm_up)
            optimiser.param_groups[0]["lr"] = rate
            images, labels = normalised(data.x_train[indices]), data.y_train[indices].long()
            logits = network(images)
            loss = F.cross_entropy(logits, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach() * len(labels))
            wrong += int((logits.argmax(1) != labels).sum())
            step += 1
        metrics.append(
            {
                "epoch": epoch + 1,
                "train_loss": float(torch.stack(losses).double().sum()) / len(data.y_train),
                "train_error": 100 * wrong / len(data.y_train),
                "validation_error": error(data.x_validation, data.y_validation),
                "test_error": error(data.x_test, data.y_test),
            }
        )
    return metrics, network.state_dict()


@pytest.mark.parametrize("method", LAYERS)
def test_the_engine_has_the_bits_of_a_loop_written_out(method):
    data = tiny_data()
    fields = {"dataset": "digits", "network": "simple-small", "method": method, "seed": 3}
    outcome = train(RunConfig(**fields, epochs=EPOCHS, batch_size=BATCH, lr=LR, schedule="one-cycle"), data)
    with torch.random.fork_rng():
        metrics, weights = plain_loop(3, LAYERS[method], data)
    assert outcome.metrics == metrics
    assert all(torch.equal(value, outcome.state[name]) for name, value in weights.items())
