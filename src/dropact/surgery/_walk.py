"""The one walk over a model's tree that every module surgery takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from dropact.surgery.receipt import Change, Receipt, Skip

Decision = nn.Module | str | None  # a replacement; the reason why the site stays; None: not a site, look inside


def replace_modules(model: nn.Module, decide: Callable[[str, nn.Module], Decision]) -> Receipt:
    """Replace the modules for which ``decide`` returns another one. First every decision, then every change.

    A module that stands at several places is decided once, at its first name, and stays one module. The inside of a
    site is not looked into.
    """
    decisions: dict[int, Decision] = {}
    changes: list[Change] = []
    skipped: list[Skip] = []

    def visit(prefix: str, parent: nn.Module, seen: set[int]) -> None:
        for leaf, child in parent._modules.items():
            if child is None:
                continue
            name = prefix + leaf
            if id(child) not in decisions:
                decisions[id(child)] = decide(name, child)
                if isinstance(after := decisions[id(child)], nn.Module):
                    _place_buffers(after, child, _device(parent, model))
            decision = decisions[id(child)]
            if isinstance(decision, nn.Module):
                changes.append(Change(name, child, decision))
            elif isinstance(decision, str):
                skipped.append(Skip(name, child, decision))
            elif id(child) not in seen:
                seen.add(id(child))
                visit(f"{name}.", child, seen)

    visit("", model, {id(model)})
    receipt = Receipt(model, tuple(changes), tuple(skipped))
    receipt.apply()
    return receipt


def _device(parent: nn.Module, model: nn.Module) -> torch.device | None:
    tensors: Iterator[torch.Tensor] = (t for m in (parent, model) for t in (*m.parameters(), *m.buffers()))
    return next((t.device for t in tensors), None)


def _place_buffers(after: nn.Module, before: nn.Module, device: torch.device | None) -> None:
    kept = set(map(id, before.modules()))
    for module in after.modules():
        if id(module) not in kept and device is not None:
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = buffer.to(device)
