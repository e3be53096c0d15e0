"""What docs/integrations.md says of other libraries is so."""

import copy
import math

import pytest
import torch
from blocks import block, execute, execute_on_ranks, names_to_begin_with
from torch import nn

import dropact
from dropact import DropActivation

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries


def show(heading):
    return execute(block("integrations.md", heading), names_to_begin_with())


def ours(model):
    return [module for module in model.modules() if isinstance(module, DropActivation)]


def test_plain_loop_ends_on_the_rate_and_keeps_plain_keys():
    names = show("A plain loop")
    assert ours(names["model"])[0].drop_prob == 0.1
    plain = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    plain.load_state_dict(names["checkpoint"]["model"])
    assert names["checkpoint"]["schedule"] == {"step": 4, "peaks": [0.1]}


def test_timm_builds_every_activation_as_ours():
    timm = pytest.importorskip("timm")
    names = show("timm")
    plain = timm.create_model("resnet18", num_classes=10)
    activations = [module for module in plain.modules() if isinstance(module, nn.ReLU)]
    assert len(ours(names["model"])) == len(activations) == 17
    assert not any(isinstance(module, nn.ReLU) for module in names["model"].modules())
    assert all(layer.inplace for layer in ours(names["model"]))  # timm asks for it
    names["model"].load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for layer in ours(names["model"]):
        layer.drop_prob = 0.0
    assert torch.equal(names["model"].eval()(x), plain.eval()(x))
    names["model"].train()(x).sum().backward()


@pytest.mark.parametrize(
    ("model", "activation"),
    [("vit_tiny_patch16_224", "gelu"), ("efficientnet_b0", "silu"), ("mobilenetv3_small_050", "hardswish")],
)
def test_timm_takes_other_activations(model, activation):
    timm = pytest.importorskip("timm")
    size = {"img_size": 32} if model.startswith("vit") else {}
    network = timm.create_model(
        model, act_layer=lambda **k: DropActivation(0.05, activation, **k), num_classes=3, **size
    )
    assert ours(network)
    loss = network(torch.randn(2, 3, 32, 32)).square().mean()
    loss.backward()
    assert math.isfinite(loss.item())


def test_transformers_finds_ours_by_the_name_in_the_configuration(tmp_path):
    transformers = pytest.importorskip("transformers")
    names = show("Hugging Face transformers")
    model = names["model"]
    assert [layer.activation for layer in ours(model)] == ["gelu", "gelu"]
    assert len({id(layer) for layer in ours(model)}) == 2
    plain = transformers.BertModel(transformers.BertConfig(**names["sizes"]))
    plain.load_state_dict(model.state_dict())
    words = torch.randint(100, (2, 7))
    model.train()(words).last_hidden_state.sum().backward()

    model.save_pretrained(tmp_path)
    again = transformers.BertModel.from_pretrained(tmp_path)
    assert [layer.drop_prob for layer in ours(again)] == [0.05, 0.05]
    torch.testing.assert_close(again.eval()(words)[0], model.eval()(words)[0], rtol=1e-5, atol=1e-6)
    for layer in ours(again):
        layer.drop_prob = 0.0
    torch.testing.assert_close(again(words)[0], plain.eval()(words)[0], rtol=1e-5, atol=1e-6)


TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Bert", {"hidden_act": "drop_gelu", "vocab_size": 50}),
        ("ViT", {"hidden_act": "drop_gelu", "image_size": 32, "patch_size": 8}),
        ("Llama", {"hidden_act": "drop_silu", "vocab_size": 50, "num_key_value_heads": 2}),
    ],
)
def test_rates_are_right_after_from_pretrained(kind, options, tmp_path, monkeypatch):
    """Which builds the model on the meta device and fills what the checkpoint lacks with memory as it lies."""
    transformers = pytest.importorskip("transformers")
    from transformers.activations import ACT2FN

    for name in ("gelu", "silu"):
        monkeypatch.setitem(ACT2FN, f"drop_{name}", (DropActivation, {"drop_prob": 0.05, "activation": name}))
    config = getattr(transformers, f"{kind}Config")(**TINY, **options)
    model = getattr(transformers, f"{kind}Model")(config)
    for number, layer in enumerate(ours(model)):
        layer.drop_prob = 0.05 + number / 10
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert [layer.drop_prob for layer in ours(again)] == [0.05] * len(ours(model)) == [0.05, 0.05]
    x = torch.randn(2, 3, 32, 32) if kind == "ViT" else torch.randint(50, (2, 7))
    for layer, other in zip(ours(again), ours(model), strict=True):
        layer.drop_prob = other.drop_prob
    torch.testing.assert_close(again.eval()(x)[0], model.eval()(x)[0], rtol=1e-5, atol=1e-6)


def test_gpt2_by_the_name_that_the_page_gives_computes_what_it_did_and_so_does_a_converted_one():
    transformers = pytest.importorskip("transformers")
    from transformers.activations import ACT2FN

    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 16}
    plain = transformers.GPT2Model(transformers.GPT2Config(**sizes)).eval()
    ACT2FN["drop_gelu_tanh"] = (DropActivation, {"drop_prob": 0.0, "activation": nn.GELU("tanh")})
    try:
        named = transformers.GPT2Model(transformers.GPT2Config(activation_function="drop_gelu_tanh", **sizes)).eval()
    finally:
        del ACT2FN["drop_gelu_tanh"]
    named.load_state_dict(plain.state_dict())
    converted = copy.deepcopy(plain)
    assert len(dropact.convert_(converted, DropActivation(0.0))) == 2
    words = torch.randint(50, (2, 7))
    wanted = plain(words).last_hidden_state
    for model in (named, converted):
        assert len(ours(model)) == 2
        torch.testing.assert_close(model(words).last_hidden_state, wanted, rtol=1e-5, atol=1e-6)


def test_lightning_anneals_and_resumes(tmp_path, monkeypatch):
    lightning = pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    names = show("Lightning")
    assert ours(names["module"])[0].drop_prob == 0.2
    assert names["trainer"].global_step == 4
    (checkpoint,) = tmp_path.glob("checkpoints/*.ckpt")

    seen = []

    class Watch(lightning.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            seen.append(ours(module)[0].drop_prob)

    def fit(**options):
        module = names["Classifier"]()
        names["dropact"].convert_(module, DropActivation(0.2))
        callbacks = [names["Anneal"](), Watch()]
        quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "callbacks": callbacks}
        trainer = lightning.Trainer(**quiet, **options)
        trainer.fit(module, names["loader"], ckpt_path=checkpoint)
        return seen

    # saved after 4 of 4 steps; 4 of 8 when training goes on to twice as many epochs
    assert fit(max_epochs=4) == pytest.approx([0.1, 0.125, 0.15, 0.175])


RANK_REPORT = """
import os, sys
def masks():
    layer = dropact.DropActivation(0.5)
    return (layer(-torch.ones(1, 4096)) != 0).double()

def agreement(mine):
    all_masks = [torch.empty_like(mine) for _ in range(2)]
    torch.distributed.all_gather(all_masks, mine)
    return (all_masks[0] == all_masks[1]).double().mean().item()

report = {"unseeded": agreement(masks())}
"""


def test_ranks_draw_apart_unless_seeded_alike(tmp_path):
    code = block("integrations.md", "DistributedDataParallel").code
    start, end = "rank = torch.distributed.get_rank()\n", "torch.distributed.destroy_process_group()\n"
    assert start in code
    assert end in code
    code = code.replace(start, start + RANK_REPORT)
    code = code.replace(
        end,
        "report['apart'] = agreement(masks())\n"
        "torch.manual_seed(5)\n"
        "report['alike'] = agreement(masks())\n"
        "weights = torch.cat([p.detach().flatten() for p in model.parameters()])[None]\n"
        "report['same weights'] = agreement(weights)\n"
        "report['loss'] = loss.item()\n"
        "print(report)\n" + end,
    )
    for out, err in execute_on_ranks(code, tmp_path):
        report = eval(out)
        for seeding in ("unseeded", "apart"):  # independent masks at 1/2; false alarm 4e-8
            assert abs(report[seeding] - 0.5) < 5.5 * (0.25 / 4096) ** 0.5, seeding
        assert report["alike"] == report["same weights"] == 1.0
        assert math.isfinite(report["loss"])
        assert "unused" not in err
