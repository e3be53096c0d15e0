"""Rates and parameters in the hands of others' code: checkpoints, sharding, averages, tracing, quantisation."""

import lightning
import pytest
import timm
import torch
import torch.distributed.checkpoint as dcp
import torchvision
from accelerate import init_empty_weights, load_checkpoint_and_dispatch
from diffusers.training_utils import EMAModel
from gloo import on_ranks
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn
from torch.ao.quantization import get_default_qat_qconfig_mapping
from torch.ao.quantization.quantize_fx import prepare_qat_fx
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict, set_model_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from dropact import AID, GAAF, DropActivation, RandomizedReLU, convert_, functional

RATES = [0.05, 0.3]
X = torch.linspace(-2, 2, 12).view(4, 3)


def net(activation=nn.PReLU):
    layers = nn.Linear(3, 8), activation(), nn.Linear(8, 3), nn.GELU(), nn.Linear(3, 2)
    model = nn.Sequential(*layers)
    convert_(model, DropActivation(RATES[0]), where=lambda name, module: name == "1")
    convert_(model, DropActivation(RATES[1]), where=lambda name, module: name == "3")
    return model


def rates_of(model):
    """What each layer says, and what its evaluation and its training show: of -4, whose GELU is nearly 0."""
    found = []
    for layer in model.modules():
        if isinstance(layer, DropActivation):
            shown = functional.drop_activation(torch.full((4000,), -4.0), layer.rate(), "relu", seed=1)
            again = functional.drop_activation(torch.full((4000,), -4.0), layer.drop_prob, "relu", seed=1)
            assert torch.equal(shown, again)
            found.append(layer.drop_prob)
    return found


def test_accelerate_fills_an_empty_model(tmp_path):
    trained = net()
    torch.save(trained.state_dict(), tmp_path / "pytorch_model.bin")
    with init_empty_weights():
        model = net()
    model = load_checkpoint_and_dispatch(model, str(tmp_path / "pytorch_model.bin"), device_map={"": "cpu"})
    assert rates_of(model) == RATES
    assert torch.equal(model.eval()(X), trained.eval()(X))


def fsdp2_from_meta(rank):
    with torch.device("meta"):
        model = net()
    fully_shard(model)
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        model(X).square().mean().backward()
        optimizer.step()
    return rates_of(model)


def fsdp1_from_meta(rank):
    with torch.device("meta"):
        model = net()

    def fill(module):
        module.to_empty(device="cpu", recurse=False)
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter, std=0.1)

    model = FullyShardedDataParallel(model, param_init_fn=fill, device_id=torch.device("cpu"))
    model(X).square().mean().backward()
    return rates_of(model)


def ddp_of_other_rates(rank):
    model = net()
    model[1].drop_prob = (rank + 1) / 10
    wrapped = DistributedDataParallel(model)
    for _ in range(2):
        wrapped(X).square().mean().backward()
    return rates_of(model)


def test_sharded_and_parallel_models_keep_their_rates(tmp_path):
    cases = {"fsdp2": fsdp2_from_meta, "fsdp1": fsdp1_from_meta, "ddp": ddp_of_other_rates}
    found = on_ranks(cases, tmp_path)
    assert found == {"fsdp2": [RATES] * 2, "fsdp1": [RATES] * 2, "ddp": [[0.1, RATES[1]], [0.2, RATES[1]]]}, found


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_distributed_checkpoint_of_parameters_inside_a_layer(tmp_path):
    def made():
        model = nn.Sequential(nn.Linear(3, 8), nn.PReLU(8), nn.Linear(8, 2))
        convert_(model, DropActivation(0.1))
        return model

    first, second = made(), made()
    with torch.no_grad():
        first[1].activation.weight.uniform_(0, 1)
    plain = list(nn.Sequential(nn.Linear(3, 8), nn.PReLU(8), nn.Linear(8, 2)).state_dict())
    assert [name for name, _ in first.named_parameters()] == plain
    state = get_model_state_dict(first)
    assert list(state) == plain
    dcp.save({"model": state}, checkpoint_id=tmp_path, no_dist=True)
    into = {"model": get_model_state_dict(second)}
    dcp.load(into, checkpoint_id=tmp_path, no_dist=True)
    set_model_state_dict(second, into["model"])
    assert torch.equal(second.eval()(X), first.eval()(X))
    optimizer = torch.optim.Adam(first.parameters())
    first(X).sum().backward()
    optimizer.step()
    assert get_optimizer_state_dict(first, optimizer)["state"]


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = net()

    def training_step(self, batch, index):
        self.net[1].drop_prob = RATES[0]
        return self.net(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lightnings_average_has_the_rates_of_its_model(tmp_path):
    module, average = Module(), EMAWeightAveraging(decay=0.5)
    trainer = lightning.Trainer(
        max_steps=3,
        callbacks=[average],
        logger=False,
        enable_checkpointing=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, torch.utils.data.DataLoader(X.repeat(4, 1), batch_size=4))
    assert rates_of(module) == RATES
    assert rates_of(average._average_model or module) == RATES


def test_diffusers_average_has_them_too():
    model, start = net(), net()
    start.load_state_dict(model.state_dict())
    average = EMAModel(model.parameters(), decay=0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    average.step(model.parameters())
    average.copy_to(model.parameters())
    assert rates_of(model) == RATES


NETWORKS = {
    "resnet50": lambda: torchvision.models.resnet50(num_classes=4),
    "convnext_atto": lambda: timm.create_model("convnext_atto", num_classes=4),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_networks_are_traced_and_prepared_for_quantisation(name):
    model, x = NETWORKS[name](), torch.randn(2, 3, 64, 64)
    sites = len(convert_(model, DropActivation(0.1)))
    traced = torch.fx.symbolic_trace(model.eval())
    torch.testing.assert_close(traced(x), model(x))
    leaves = [node for node in traced.graph.nodes if node.op == "call_module"]
    assert sum(isinstance(traced.get_submodule(node.target), DropActivation) for node in leaves) >= sites
    last = {"resnet50": "layer4.2.relu", "convnext_atto": "stages.3.blocks.1.mlp.act"}[name]
    features = torchvision.models.feature_extraction.create_feature_extractor(model.eval(), [last])
    assert features(x)[last].isfinite().all()
    prepared = prepare_qat_fx(model.train(), get_default_qat_qconfig_mapping("x86"), (x,))
    prepared(x).sum().backward()


def test_an_exported_program_is_of_the_mode_it_was_exported_in():
    """And stays so, whatever ``move_exported_model_to_eval`` does to torch's own dropout: export for evaluation."""
    model = net(nn.ReLU)

    def draws(training):
        program = torch.export.export(model.train(training), (X,))
        return any("draw_seed" in str(node.target) for node in program.graph.nodes)

    assert draws(True)
    assert not draws(False)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (DropActivation(0.1), "DropReLU"),
        (DropActivation(0.1, "gelu"), "Pair"),
        (AID(0.1), "Pair"),
        (RandomizedReLU(), "RandomizedReLU"),
        (GAAF(), "ReplacedDerivative"),
    ],
    ids=str,
)
def test_a_profiler_shows_operations_by_name(layer, name):
    x = torch.randn(4, 4, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        layer(x).sum().backward()
    assert {name, f"{name}Backward"} <= {event.key for event in seen.key_averages()}


def test_a_rate_that_asks_for_a_gradient_is_refused():
    rate = torch.tensor(0.3, requires_grad=True)
    for call in (functional.drop_activation, functional.aid):
        with pytest.raises(ValueError, match=r"no draw has: pass drop_prob.detach\(\)"):
            call(X, rate)
