"""What a surgery did to a model, site by site, and the way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

# What travels with a site rather than with the layer that stands there. The dictionaries themselves move, so that a
# handle that somebody holds still removes its hook.
_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_is_full_backward_hook",
)


@dataclass(frozen=True)
class Change:
    """One site: the dotted name of the module, what stood there and what stands there now."""

    name: str
    before: nn.Module
    after: nn.Module


@dataclass(frozen=True)
class Skip:
    """A site that was left as it is, and why."""

    name: str
    module: nn.Module
    reason: str


@dataclass(frozen=True)
class Receipt:
    """The sites changed and left, in the model's order; ``print`` it for a table, call ``undo()`` to go back.

    >>> import dropact
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> receipt = dropact.convert_(model, dropact.DropActivation(0.05))
    >>> len(receipt), receipt.changes[0].name
    (1, '1')
    >>> print(receipt)
    1 site changed
      1  ReLU() -> DropActivation(drop_prob=0.05, activation=relu)
    >>> receipt.undo(); model[1]
    ReLU()
    """

    model: nn.Module
    changes: tuple[Change, ...]
    skipped: tuple[Skip, ...] = ()

    def __len__(self) -> int:
        return len(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def apply(self) -> None:
        self._put(forward=True)

    def undo(self) -> None:
        """Put every module back where it stood, with its hooks and the current train/eval flag.

        Raises:
            RuntimeError: the model was changed at one of these sites since; nothing is put back.
        """
        for change in self.changes:
            present = _parent(self.model, change.name)._modules.get(_leaf(change.name))
            if present is not change.after:
                raise RuntimeError(
                    f"cannot undo: {change.name!r} should hold the {type(change.after).__name__} that was put there, "
                    f"but holds {type(present).__name__}; nothing was put back"
                )
        self._put(forward=False)

    def _put(self, *, forward: bool) -> None:
        # Parents first: a site's name leads through modules that are themselves never replaced.
        moved: set[int] = set()
        for change in self.changes:
            old, new = (change.before, change.after) if forward else (change.after, change.before)
            if id(old) not in moved:  # a shared module stands at several sites, its hooks move once
                moved.add(id(old))
                _move_state(old, new)
            _parent(self.model, change.name)._modules[_leaf(change.name)] = new

    def __str__(self) -> str:
        count = len(self.changes)
        lines = [f"{count} site{'s' * (count != 1)} changed"]
        names = [change.name for change in self.changes] + [skip.name for skip in self.skipped]
        width = max(map(len, names), default=0)
        lines += [f"  {c.name:<{width}}  {_line(c.before)} -> {_line(c.after)}" for c in self.changes]
        if self.skipped:
            lines.append(f"{len(self.skipped)} left as they are")
            lines += [f"  {s.name:<{width}}  {_line(s.module)}: {s.reason}" for s in self.skipped]
        return "\n".join(lines)


def census(model: nn.Module) -> str:
    """How many modules of each class a model has, for messages: ``2 Linear, 1 ReLU``."""
    counts = Counter(type(m).__name__ for m in model.modules() if not list(m.children()))
    return ", ".join(f"{n} {name}" for name, n in counts.most_common()) or "no modules"


def _move_state(old: nn.Module, new: nn.Module) -> None:
    new.train(old.training)
    for attribute in _HOOKS:
        if hasattr(old, attribute):
            setattr(new, attribute, getattr(old, attribute))
            # A fresh one stays behind: the old module may live on inside the new one and must not fire them twice.
            setattr(old, attribute, getattr(nn.Module(), attribute))


def _parent(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _line(module: nn.Module) -> str:
    return " ".join(repr(module).split())
