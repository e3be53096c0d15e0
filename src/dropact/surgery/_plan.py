"""From sites to decisions, and from decisions to the steps that carry them out. Nothing is changed here."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from dropact.methods._rate import LayerWithRate
from dropact.surgery._edit import Edit
from dropact.surgery._per_site import Chooser
from dropact.surgery._recognise import GATE
from dropact.surgery._rewrite import with_edits
from dropact.surgery._sites import Site
from dropact.surgery._source import UnreadableError
from dropact.surgery._steps import Attribute, Child, Class, Step, held_as_well
from dropact.surgery.receipt import Change, Skip

ALREADY = "already so"
OF_WEIGHTS = "it is applied to parameters"


@dataclass
class Plan:
    """What happens to every site: a layer, or the reason why it stays."""

    layers: list[tuple[Site, nn.Module]] = field(default_factory=list)
    stays: list[tuple[Site, str]] = field(default_factory=list)
    missed: list[tuple[Site, str]] = field(default_factory=list)


def decide(
    sites: list[Site], choose: Chooser, where: Callable[[str, nn.Module], bool], split_shared: bool, gates: bool
) -> Plan:
    plan = Plan()
    shared: dict[int, nn.Module | str] = {}  # what was decided for a module that stays one
    kept: set[int] = set()
    for site in sites:
        if site.of_weights:
            if site.twin_of is not None:
                plan.stays.append((site, OF_WEIGHTS))  # and keeps what stands there
            continue
        if site.twin_of is not None and not split_shared:
            continue
        one = id(site.activation)
        stays_one = site.is_module and (not split_shared or _has_parameters(site.activation))
        if stays_one and one in shared:
            decision = shared[one]
        else:
            decision = _decide(site, choose, where, gates)
            if decision is site.activation and not stays_one and one in kept:
                decision = copy.deepcopy(decision)  # the same settings, its own instance
            shared[one] = decision
        if isinstance(decision, str):
            (plan.missed if decision == site.why_not else plan.stays).append((site, decision))
        elif decision is site.activation:
            kept.add(one)
            plan.stays.append((site, ALREADY))
        else:
            plan.layers.append((site, decision))
    return plan


def _decide(site: Site, choose: Chooser, where: Callable[[str, nn.Module], bool], gates: bool) -> nn.Module | str:
    if site.kind == GATE and not gates:
        return "a gate: gates=True converts it"
    if not where(site.name, site.module):
        return "where(name, module) is false"
    if site.why_not is not None or site.activation is None:
        return site.why_not or "it is not known what it does"
    return choose(site.name, site.activation)


def _has_parameters(activation: object) -> bool:
    return isinstance(activation, nn.Module) and any(True for _ in activation.parameters())


def steps(model: nn.Module, plan: Plan) -> tuple[Step, ...]:
    """The steps of a plan; a site whose source cannot be edited goes over to those missed."""
    names = {id(module): name for name, module in model.named_modules()}
    made: list[Step] = []
    owners = {id(site.owner): site.owner for site, _ in plan.layers}
    for owner in owners.values():
        name = names[id(owner)]
        replaced = {site.child for site, _ in plan.layers if site.owner is owner and site.twin_of is None}
        calls = list(_edited_calls(owner, plan, replaced))
        try:
            cls = _class(owner, calls)
        except UnreadableError as error:
            failed = {id(site) for site, _ in calls}
            weighing = {site.twin_of for site, _ in calls if site.of_weights}  # a layer there would act on weights
            failed |= {id(s) for s, _ in plan.layers if s.owner is owner and s.child in weighing}
            plan.missed += [(s, str(error)) for s, _ in plan.layers if id(s) in failed and s.twin_of not in replaced]
            plan.layers = [(s, layer) for s, layer in plan.layers if id(s) not in failed]
            calls, cls = [], None
        for site, layer in plan.layers:
            if site.owner is owner and site.is_module and site.twin_of is None:
                made.append(Child(name, site.child, site.activation, layer, like=site.activation))  # type: ignore[arg-type]
        for site, layer in calls:
            like = site.activation if site.is_module else None
            made.append(Child(name, site.child, None, layer, like=like))  # type: ignore[arg-type]
        if cls is not None:
            made.append(Class(name, type(owner), cls))
        made += without_shortcuts(name, owner, model)
    return (*made, *held_as_well(model, made))


def pass_over(plan: Plan, missed: Collection[int], reason: str) -> None:
    """Leave the sites whose layers, by ``id``, are among those missed."""
    plan.missed += [(site, reason) for site, layer in plan.layers if id(layer) in missed]
    plan.layers = [(site, layer) for site, layer in plan.layers if id(layer) not in missed]


def without_shortcuts(name: str, owner: nn.Module, model: nn.Module) -> list[Step]:
    """What keeps a module's forward on the path that its source shows."""
    if not isinstance(owner, nn.TransformerEncoderLayer):
        return []
    # In evaluation it has a fused path of its own for ReLU and GELU, which would pass a new layer by; and the encoder
    # around it hands nested tensors to its layers, as that path alone takes them.
    flag, nested = "activation_relu_or_gelu", "use_nested_tensor"
    encoders = [
        Attribute(place, nested, encoder.use_nested_tensor, False)
        for place, encoder in model.named_modules()
        if isinstance(encoder, nn.TransformerEncoder) and any(layer is owner for layer in encoder.layers)
    ]
    return [Attribute(name, flag, getattr(owner, flag), 0), *encoders]


def _edited_calls(owner: nn.Module, plan: Plan, replaced: Collection[str]) -> Iterator[tuple[Site, nn.Module]]:
    """The calls in ``owner`` that will go to a child of their own, and that child."""
    for site, layer in plan.layers:
        if site.owner is owner and (site.twin_of is not None or not site.is_module):
            yield site, layer
    for site, _ in (*plan.stays, *plan.missed):
        # The first of several places is converted and this one is not: it keeps what stood there.
        if site.owner is owner and site.twin_of in replaced and isinstance(site.activation, nn.Module):
            yield site, site.activation


def _class(owner: nn.Module, calls: list[tuple[Site, nn.Module]]) -> type[nn.Module] | None:
    if not calls:
        return None
    edits: dict[str, list[Edit]] = {}
    for site, _ in calls:
        assert site.call is not None
        edits.setdefault(site.call.method, []).extend(site.call.edits(site.child))
    return with_edits(type(owner), edits, tuple((site.child, site.twin_of) for site, _ in calls))


def place(model: nn.Module, plan: Plan) -> None:
    """Bring new layers to the device of what they stand beside, and calls of functions to the mode of their module."""
    for site, layer in plan.layers:
        kept = set(map(id, site.activation.modules())) if isinstance(site.activation, nn.Module) else set()
        if not site.is_module:
            layer.train(site.owner.training)
        bring(layer, (site.owner, model), kept)


def bring(layer: nn.Module, beside: tuple[nn.Module, ...], kept: Collection[int] = ()) -> None:
    """Bring the buffers of a new layer, but for the modules in ``kept``, to the device of what it stands beside."""
    device = _device(*beside)
    for module in layer.modules():
        if id(module) not in kept and device is not None:
            if isinstance(module, LayerWithRate):
                module.bring_rate(device)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = buffer.to(device)


def _device(*modules: nn.Module) -> torch.device | None:
    tensors = (t for module in modules for t in (*module.parameters(), *module.buffers()))
    return next((t.device for t in tensors), None)


def change(site: Site, layer: nn.Module) -> Change:
    assert site.activation is not None
    return Change(site.name, site.activation, layer, "" if site.is_module else site.shown, site.location)


def skip(site: Site, reason: str, missed: bool) -> Skip:
    return Skip(site.name, site.module, reason, "" if site.is_module else site.shown, site.location, missed)
