"""docs/new-method.md: its template, copied and renamed, keeps every law; and every method has a card."""

import doctest
import importlib.util
import sys
from types import SimpleNamespace

import laws
import pytest
import torch
from blocks import ROOT, block
from torch import nn

from dropact import DropActivation, convert_, coverage, fold_, functional

PAGE = "new-method.md"


def named(code):
    return code.replace("NewMethod", "SquaredSlope").replace("new_method", "squared_slope")


def copied(folder, change=lambda code: code):
    """The page's file under a name of its own, imported, and the page's row for it."""
    path = folder / "squared_slope.py"
    path.write_text(change(named(block(PAGE, "The file").code)), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("squared_slope", path)
    module = sys.modules["squared_slope"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scope = {**vars(module)}
    exec(named(block(PAGE, "The row").code), scope)
    return module, scope["row"]


@pytest.fixture
def template(tmp_path):
    yield SimpleNamespace(**dict(zip(("module", "row"), copied(tmp_path), strict=True)))
    del sys.modules["squared_slope"]


def test_the_templates_examples_run(template):
    found = doctest.testmod(template.module)
    assert (found.failed, found.attempted) == (0, 2)


def test_the_template_keeps_every_law(template, subtests):
    for law, arguments in laws.of(template.row):
        with subtests.test(law=law.__name__, arguments=arguments):
            law(template.row, *arguments)


def test_the_template_is_converted_counted_and_folded_without_being_registered(template):
    model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)), torch.randn(5, 4)
    layer = template.module.SquaredSlope(0.9)
    convert_(model, layer)
    assert repr(model[1]) == "SquaredSlope(upper=0.9, inplace=True)"
    assert coverage(model, x).complete
    assert len(convert_(model, layer)) == 0
    expected = model.eval()(x)
    folding = fold_(model)
    assert repr(model[1]) == "LeakyReLU(negative_slope=0.3, inplace=True)"
    assert torch.equal(model.train()(x), expected)
    folding.undo()
    convert_(model, DropActivation())
    assert repr(model[1]) == "DropActivation(drop_prob=0.05, activation=relu, inplace=True)"


@pytest.mark.parametrize(
    ("right", "wrong", "law"),
    [
        ("upper / 3, inplace", "upper / 2, inplace", "evaluation_is_the_formula"),
        ("u.square()", "u", "training_mean_is_the_formula"),
        ("random_bits_like(as_seed(seed, x), x)", "random_bits_like(as_seed(3, x), x)", "seed_determines_the_mask"),
    ],
)
def test_a_template_filled_in_wrongly_breaks_a_law(tmp_path, right, wrong, law):
    def spoil(code):
        assert code.count(right) == 1
        return code.replace(right, wrong)

    _, row = copied(tmp_path, spoil)
    with pytest.raises(AssertionError):
        getattr(laws, law)(row, *([torch.float64] if getattr(laws, law) in laws.PER_DTYPE else []))


@pytest.mark.parametrize("name", functional.__all__)
def test_every_method_has_a_card(name):
    cards = [path.read_text("utf-8") for path in (ROOT / "docs/methods").glob("*.md")]
    assert any(f"dropact.functional.{name}(" in card for card in cards), f"docs/methods/ has no card of {name}"


def test_the_page_imports_nothing_private():
    text = (ROOT / "docs" / PAGE).read_text(encoding="utf-8")
    private = [line for line in text.splitlines() if "import" in line and ("dropact._" in line or "methods._" in line)]
    assert not private
