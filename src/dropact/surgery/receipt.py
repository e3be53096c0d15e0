"""What a surgery did to a model, site by site, and the way back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from dropact.surgery import _steps
from dropact.surgery._table import brief, one_line, table


@dataclass(frozen=True)
class Change:
    """One site.

    Attributes:
        name: dotted; that of the layer which stands there now.
        before: the module that stood there, or what the call of a function did.
        after: the layer that stands there now.
        call: the function called before, as text; "" where it was a module.
        location: file and line of the call, where the source shows it.
    """

    name: str
    before: nn.Module | Callable[..., Any]
    after: nn.Module
    call: str = ""
    location: str = ""


@dataclass(frozen=True)
class Skip:
    """A site that was left as it is, and why; ``missed`` where that was nobody's choice."""

    name: str
    module: nn.Module
    reason: str
    call: str = ""
    location: str = ""
    missed: bool = False


def warn_of_missed(skipped: Iterable[Skip], one: str, many: str, what: str) -> None:
    """One warning, at the line that called the surgery, about sites which could not be changed."""
    if missed := [skip for skip in skipped if skip.missed]:
        first = missed[0]
        warnings.warn(
            f"{len(missed)} {one if len(missed) == 1 else many} {what}, the first of them {first.name} "
            f"{first.location}: {first.reason}. print(receipt) lists all",
            stacklevel=3,
        )


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
      site  before  after
      1     ReLU()  DropActivation(drop_prob=0.05, activation=relu)
    >>> receipt.to_dict()["changes"][0]["before"]
    'ReLU()'
    >>> receipt.undo(); model[1]
    ReLU()
    """

    model: nn.Module
    changes: tuple[Change, ...]
    skipped: tuple[Skip, ...] = ()
    steps: tuple[_steps.Step, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def to_dict(self) -> dict[str, Any]:
        """What happened as plain data, such as ``json.dump`` takes: changes, what was left, notes."""
        changes = [
            {"name": c.name, "before": one_line(c.before), "after": one_line(c.after), "call": c.call, "at": c.location}
            for c in self.changes
        ]
        skipped = [
            {"name": s.name, "what": one_line(s.module), "reason": s.reason, "call": s.call, "at": s.location}
            | {"missed": s.missed}
            for s in self.skipped
        ]
        return {"changes": changes, "skipped": skipped, "notes": list(self.notes)}

    def apply(self) -> None:
        _steps.make(self.model, self.steps, forward=True)

    def undo(self) -> None:
        """Put everything back: modules with their hooks and the current train/eval flag, and the calls of functions.

        Raises:
            RuntimeError: the model was changed at one of these sites since; nothing is put back.
        """
        for step in self.steps:
            try:
                owner = self.model.get_submodule(step.owner)
            except AttributeError as error:
                raise RuntimeError(f"cannot undo: {error}; nothing was put back") from error
            if not step.stands(owner):
                after = step.after.__name__ if isinstance(step.after, type) else type(step.after).__name__
                what = f"{step.owner}.{step.child}".lstrip(".") if isinstance(step, _steps.Child) else step.owner
                raise RuntimeError(
                    f"cannot undo: {what!r} should hold the {after} that was put there, but holds "
                    f"{step.present(owner)}; nothing was put back"
                )
        _steps.make(self.model, self.steps, forward=False)

    def __str__(self) -> str:
        count = len(self.changes)
        lines = [f"{count} site{'s' * (count != 1)} changed"]
        if self.changes:
            rows = [[c.name, c.location, c.call or brief(c.before), brief(c.after)] for c in self.changes]
            lines += table(["site", "called at", "before", "after"], rows)
        if self.skipped:
            missed = sum(skip.missed for skip in self.skipped)
            lines.append(f"{len(self.skipped)} left as they are" + f", {missed} of them missed" * bool(missed))
            rows = [[s.name, s.location, s.call or brief(s.module), s.reason] for s in self.skipped]
            lines += table(["site", "called at", "what", "why"], rows)
        lines += self.notes
        return "\n".join(lines)
