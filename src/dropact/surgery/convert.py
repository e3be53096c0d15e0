"""Put a method in place of a model's activations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import nn

from dropact.surgery import _plan
from dropact.surgery._observe import not_called, observe
from dropact.surgery._per_site import Chooser, PerSite
from dropact.surgery._recognise import kind_of
from dropact.surgery._refuse import refuse_wrapped
from dropact.surgery._sites import Unread, find
from dropact.surgery._trial import Inputs, arguments
from dropact.surgery.receipt import Receipt, Skip, warn_of_missed

_PASSED_BY = (
    "the run calls what stood there before, not the layer in its place: a decorator, a closure or an object of yours "
    "holds it as well"
)


def convert_(
    model: nn.Module,
    method: PerSite,
    where: Callable[[str, nn.Module], bool] = lambda name, module: True,
    inputs: Inputs | None = None,
    *,
    split_shared: bool = True,
    gates: bool = False,
) -> Receipt:
    """Put a method in place of every activation that ``model`` calls, in place.

    >>> import dropact
    >>> from torch.nn import functional as F
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.one, self.two, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()
    ...
    ...     def forward(self, x):
    ...         return self.act(self.two(self.act(self.one(F.gelu(x)))))
    >>> model = Net()
    >>> receipt = dropact.convert_(model, dropact.DropActivation(drop_prob=0.05))
    >>> model
    Net(
      (one): Linear(in_features=4, out_features=4, bias=True)
      (two): Linear(in_features=4, out_features=4, bias=True)
      (act): DropActivation(drop_prob=0.05, activation=relu)
      (act_call2): DropActivation(drop_prob=0.05, activation=relu)
      (gelu_call1): DropActivation(drop_prob=0.05, activation=gelu)
    )

    Each site keeps the activation that stands there (a GELU becomes Drop-Activation of GELU), its ``inplace`` and
    ``training`` flags, device and hooks. Parameters, optimisers and ``state_dict`` keys stay as they are. Converting
    twice with the same method changes nothing; another method or rate replaces the first.

    A module is replaced where it stands. A call of a function (``F.relu(x)``, ``x.relu_()``, ...) becomes the call of a
    new child: the module gets a class of its own, a subclass of what it was, whose methods are the same source with
    that call edited. `docs/conversion.md` says what is found how, and what is not.

    Args:
        model: a plain module; a bare activation has no parent to be replaced in.
        method: a layer with the settings wanted, ``DropActivation(...)`` or ``RandomizedReLU(...)``, which is copied
            to each site; or a mapping from names or patterns of sites (``"layer1.*"``) to such layers; or a function
            from a site's name and activation to such a layer, or to any module to be put there as it is. ``None``, in
            either, leaves the site.
        where: called with each site's dotted name and its module, which is the activation itself or, for the call of a
            function, the module that calls it; False leaves the site as it is.
        inputs: what to run the model with once (a tensor, a tuple of positional or a mapping of keyword arguments), to
            find what the source alone does not tell: functions that only a run names, activations written as functions
            of several operations, arguments that are computed. The run leaves no trace in the model.
        split_shared: whether an activation module that is called from several places becomes one layer for each, which
            can be given a rate of its own. They draw masks of their own either way. One with parameters stays one.
        gates: whether activations with values in [0, 1], such as the sigmoid of a squeeze-and-excitation block, are
            converted as well.

    Returns:
        A :class:`Receipt`: what changed, what was left and why, and ``undo()``.

    Raises:
        TypeError: ``method`` is none of these, or the model is scripted, compiled or wrapped.
        ValueError: no site was found, or a key of the mapping matches none; the message says what there is. Or
            parameters have no shape yet, and the model has to run once before.

    Warns:
        UserWarning: activations were seen that could not be converted.
    """
    refuse_wrapped(model, "convert_")
    choose = Chooser(method)
    if kind_of(model) is not None:
        raise ValueError(
            f"the model is itself an activation, {type(model).__name__}, with no parent to replace it in: "
            "use the method's layer directly, or wrap the model in nn.Sequential"
        )
    sites, unread = find(model)
    if inputs is not None:
        observe(model, sites, *arguments(inputs))
        unread = [sign for sign in unread if not sign.shown_by_run]
    plan = _plan.decide(sites, choose, where, split_shared, gates)
    choose.refuse_unused()
    receipt = _carried_out(model, plan, unread)
    if inputs is not None and (passed_by := _not_called(receipt, plan, *arguments(inputs))):
        receipt.undo()
        _plan.pass_over(plan, passed_by, _PASSED_BY)
        receipt = _carried_out(model, plan, unread)
    warn_of_missed(receipt.skipped, "activation", "activations", "could not be converted")
    return receipt


def _carried_out(model: nn.Module, plan: _plan.Plan, unread: list[Unread]) -> Receipt:
    steps = _plan.steps(model, plan)
    skipped = (
        *(_plan.skip(site, reason, missed=False) for site, reason in plan.stays),
        *(_plan.skip(site, reason, missed=True) for site, reason in plan.missed),
        *(Skip(u.name, u.module, u.reason, missed=u.missed) for u in unread),
    )
    changes = tuple(_plan.change(site, layer) for site, layer in plan.layers)
    receipt = Receipt(model, changes, skipped, steps)
    if not changes and not any(skip.reason == _plan.ALREADY for skip in skipped):
        raise ValueError(_nothing(model, receipt))
    _plan.place(model, plan)
    receipt.apply()
    return receipt


def _not_called(receipt: Receipt, plan: _plan.Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> set[int]:
    try:
        return not_called(receipt.model, plan.layers, args, kwargs)
    except BaseException:
        receipt.undo()
        raise


def _nothing(model: nn.Module, receipt: Receipt) -> str:
    counts = Counter(type(m).__name__ for m in model.modules() if not list(m.children()))
    census = ", ".join(f"{n} {name}" for name, n in counts.most_common()) or "no modules"
    left = "".join(f"; {skip.name}: {skip.reason}" for skip in receipt.skipped)
    return (
        "no activation was converted. Looked for elementwise activation modules and for calls of torch's activation "
        f"functions in the source of forward; the model has {census}{left}"
    )
