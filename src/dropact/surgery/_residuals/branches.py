"""Every residual branch of a model: additions to be edited, and layers that drop a branch already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from dropact.methods import ResidualSum
from dropact.surgery._methods import forget
from dropact.surgery._residuals.drop_paths import Rate, rate_of
from dropact.surgery._residuals.reading import Residual, read_residuals
from dropact.surgery._rewrite import with_edits
from dropact.surgery._source import UnreadableError
from dropact.surgery.receipt import Skip

Where = Callable[[str, nn.Module], bool]


@dataclass(eq=False)
class BranchSite:
    """One branch that can be dropped: an addition in a method, or a module that drops a branch.

    Attributes:
        owner: name of the module that the addition stands in, or that holds the module.
        rate: of a foreign module; ``None`` for one of ours.
    """

    name: str
    owner: str
    child: str
    module: nn.Module
    residual: Residual | None = None
    rate: Rate | None = None


@dataclass
class Branches:
    rates: dict[int, Rate]  # of the modules that drop a branch already, by id
    sites: list[BranchSite] = field(default_factory=list)
    shared: bool = False  # whether one of them drops several branches, by one rate
    skipped: list[Skip] = field(default_factory=list)
    classes: list[tuple[str, nn.Module, type[nn.Module]]] = field(default_factory=list)  # name, module, what it becomes


def find_branches(
    model: nn.Module, where: Where, replace: bool, chosen: Mapping[str, str] | None, run: bool
) -> Branches:
    """The branches of a model in the order of its tree.

    Args:
        replace: whether an addition is edited whose branch another module drops already.
        chosen: the names that a run has shown, each with the reason not to take it, or ""; ``None``: all are taken.
        run: whether a run will show, or has shown, what is reached.
    """
    forget()
    drop_paths = {id(m): rate for m in model.modules() if (rate := rate_of(m)) is not None}
    found = Branches(drop_paths)
    names = {id(module): name for name, module in model.named_modules()}
    taken: set[int] = set()
    silenced: set[int] = set()  # drop already what an edited addition drops

    def unreached(name: str) -> str:
        return "" if chosen is None else chosen.get(name, "not reached in the run")

    def add_module(module: nn.Module) -> None:
        name = names[id(module)]
        if id(module) in taken:
            return
        taken.add(id(module))
        owner, _, child = name.rpartition(".")
        rate = drop_paths.get(id(module))
        if reason := unreached(name):
            found.skipped.append(Skip(name, module, reason))
        elif not where(name, module):
            found.skipped.append(Skip(name, module, "where(name, module) is false"))
        elif rate is not None and rate.survival is None:
            reason = f"it drops a branch already, by a rate that {rate.attribute} is not, nor what is left of 1"
            found.skipped.append(Skip(name, module, reason, missed=True))
        else:
            found.sites.append(BranchSite(name, owner, child, module, rate=rate))

    def wanted(residual: Residual) -> bool:
        drop_path = residual.drop_path
        if drop_path is not None and (not replace or drop_paths[id(drop_path)].survival is None):
            found.shared |= id(drop_path) in taken
            add_module(drop_path)
            return False
        missed, reason = False, unreached(residual.name)
        if not reason and residual.condition and not run:
            missed, reason = True, f"whether it runs depends on {residual.condition}: give inputs"
        elif not reason and not where(residual.name, residual.owner):
            reason = "where(name, module) is false"
        if reason:
            found.skipped.append(_skip(residual, reason, missed))
            return False
        found.sites.append(
            BranchSite(residual.name, names[id(residual.owner)], residual.child, residual.owner, residual)
        )
        if drop_path is not None:
            silenced.add(id(drop_path))
        return True

    for name, module in model.named_modules():
        if isinstance(module, ResidualSum) or id(module) in drop_paths:
            continue
        for child in module._modules.values():
            if isinstance(child, ResidualSum):
                add_module(child)
        before = len(found.sites)
        reading = read_residuals(name, module, drop_paths, wanted)
        for residual in reading.found:
            # A branch that is dropped already need not be cut out.
            if residual.problem is not None and (residual.drop_path is None or replace):
                found.skipped.append(
                    _skip(residual, residual.problem, missed=not residual.doubtful and not (run and residual.condition))
                )
        if reading.unreached and not reading.found:
            tests = "; ".join(reading.unreached)
            found.skipped.append(Skip(name, module, f"nothing goes around it: {tests}"))
        if reading.edits:
            made = [site for site in found.sites[before:] if site.residual is not None]
            children = tuple((site.child, None) for site in made)
            try:
                found.classes.append((name, module, with_edits(type(module), reading.edits, children)))
            except UnreadableError as error:
                found.sites = [site for site in found.sites if site not in made]
                silenced -= {id(site.residual.drop_path) for site in made if site.residual}
                found.skipped += [_skip(site.residual, str(error), missed=True) for site in made if site.residual]
        for child in module._modules.values():
            if child is not None and id(child) in drop_paths and id(child) not in silenced:
                add_module(child)
    return found


def _skip(residual: Residual, reason: str, missed: bool) -> Skip:
    return Skip(residual.name, residual.owner, reason, residual.text, residual.location, missed)
