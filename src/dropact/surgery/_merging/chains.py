"""Which layers of a traced module are neighbours that are linear together: products along the data, sums of two ways.

`torch.fx` shows the order of the layers and who else reads what lies between them, which is what forbids a merge.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.fx
from torch import Tensor, nn
from torch.fx import Node

from dropact.methods._activation import Method, is_method
from dropact.surgery._merging.affine import Affine, CannotMerge, product, total, with_padding_moved
from dropact.surgery._trial import run

_SUMS = (operator.add, operator.iadd, torch.add)
_PASSES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class _Tracer(torch.fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = type(m).__module__.startswith("dropact.") and not list(m.children())
        return ours or super().is_leaf_module(m, module_qualified_name)


def traced(module: nn.Module) -> torch.fx.Graph:
    """Its layers and what passes between them.

    Raises:
        CannotMerge: `torch.fx` cannot follow its forward method.
    """
    try:
        graph = _Tracer().trace(module)
    except Exception as error:  # whatever a forward method does with what is no tensor
        reason = " ".join(str(error).split())
        raise CannotMerge(f"torch.fx cannot follow {type(module).__name__}: {reason}") from None
    return graph


@dataclass(frozen=True)
class Part:
    """A layer as it stood: its name and what it was."""

    name: str
    affine: Affine


@dataclass(frozen=True)
class Chain:
    """Layers that are one linear map of what `source` gives.

    Attributes:
        parts: the layers in it, in the order of the data.
        through: the names of layers between them that change nothing.
        nodes: of the graph, the last of which has the map's output.
        sums: whether it has a sum in it.
        moved: whether padding was moved to the front.
    """

    source: Node
    affine: Affine
    parts: tuple[Part, ...]
    nodes: tuple[Node, ...]
    through: tuple[str, ...] = ()
    sums: bool = False
    moved: bool = False

    @property
    def is_merged(self) -> bool:
        return len(self.parts) > 1 or self.sums

    @property
    def text(self) -> str:
        """The layers in it, for a receipt."""
        names = " · ".join(part.name for part in self.parts)
        return names + " + shortcut" * self.sums + " (padding moved)" * self.moved


Decide = Callable[[Chain, tuple[Chain, ...]], str]  # of the merged one and the separate ones: why not, or ""


@dataclass
class Found:
    """The chains of a graph by their last node, and the merges refused: the layer's name and why."""

    graph: torch.fx.Graph
    chains: dict[Node, Chain]
    refused: dict[str, str]


def passes_through(module: nn.Module) -> bool:
    """Whether a layer gives its input: a nonlinearity that is always dropped, a Dropout of rate 0, an identity."""
    if is_method(module):
        return type(cast(Method, module).folded()) is nn.Identity
    if isinstance(module, nn.LeakyReLU):
        return module.negative_slope == 1
    return type(module) in _PASSES and not getattr(module, "p", 0)


def chains(root: nn.Module, decide: Decide, *, sums: bool, move: bool) -> Found:
    """Merges as far as `decide` lets it, from the inputs on.

    Args:
        sums: whether two ways from one place to a sum become one.
        move: whether padding may be moved where a product is not exact at the border otherwise.
    """
    found = Found(traced(root), {}, {})
    modules = dict(root.named_modules(remove_duplicate=False))
    called = Counter(id(modules[str(node.target)]) for node in found.graph.nodes if node.op == "call_module")
    through: dict[Node, tuple[str, ...]] = {}
    for node in list(found.graph.nodes):
        if node.op == "call_module":
            name, source = str(node.target), node.args[0] if len(node.args) == 1 and not node.kwargs else None
            layer = modules[name]
            if not isinstance(source, Node):
                continue
            if passes_through(layer):
                through[source] = (*through.get(source, ()), name)
                node.replace_all_uses_with(source)
                found.graph.erase_node(node)
            elif called[id(layer)] == 1 and not (layer._forward_hooks or layer._forward_pre_hooks):
                _extend(found, node, source, name, layer, through.get(source, ()), decide, move)
        elif sums and node.op in ("call_function", "call_method"):
            _join(found, node, decide)
    return found


def _extend(
    found: Found,
    node: Node,
    source: Node,
    name: str,
    layer: nn.Module,
    through: tuple[str, ...],
    decide: Decide,
    move: bool,
) -> None:
    """A layer at the end of the chain before it, or the beginning of one."""
    try:
        affine = Affine.of(layer)
    except CannotMerge as error:
        if source in found.chains:
            found.refused[name] = str(error)
        return
    if affine is None:
        return
    alone = found.chains[node] = Chain(source, affine, (Part(name, affine),), (node,))
    before = found.chains.get(source)
    if before is None:
        return
    if len(source.users) > 1:
        found.refused[name] = f"what comes before it is read {len(source.users)} times"
        return
    moved = before.moved
    try:
        try:
            joined = product(before.affine, affine)
        except CannotMerge:
            if not move:
                raise
            first, second = with_padding_moved(before.affine, affine)
            joined, moved = product(first, second), True
    except CannotMerge as error:
        found.refused[name] = str(error)
        return
    made = replace(
        before,
        affine=joined,
        parts=before.parts + alone.parts,
        nodes=(*before.nodes, node),
        through=before.through + through,
        moved=moved,
    )
    if reason := decide(made, (before, alone)):
        found.refused[name] = reason
    else:
        del found.chains[source]
        found.chains[node] = made


def _join(found: Found, node: Node, decide: Decide) -> None:
    """Two ways from one place to a sum, one of which may be the identity."""
    plain = node.target in _SUMS if node.op == "call_function" else node.target in ("add", "add_")
    terms = node.args
    if not plain or node.kwargs or len(terms) != 2 or not all(isinstance(term, Node) for term in terms):
        return
    one, other = (found.chains.get(term) for term in terms)  # type: ignore[arg-type]
    if one is not None and one.source is terms[1]:  # which is the shortcut
        inside = [one]
    elif other is not None and other.source is terms[0]:
        inside = [other]
    elif one is not None and other is not None and one.source is other.source:
        inside = [one, other]
    else:
        return
    if any(len(way.nodes[-1].users) > 1 for way in inside):
        return
    first, name = inside[0], inside[0].parts[-1].name
    try:
        second = inside[1].affine if len(inside) == 2 else Affine.identity(first.affine)
        made = replace(
            first,
            affine=total(first.affine, second),
            parts=tuple(part for way in inside for part in way.parts),
            nodes=(*(n for way in inside for n in way.nodes), node),
            through=tuple(n for way in inside for n in way.through),
            sums=True,
            moved=any(way.moved for way in inside),
        )
    except CannotMerge as error:
        found.refused[name] = str(error)
        return
    if reason := decide(made, tuple(inside)):
        found.refused[name] = reason
        return
    for way in inside:
        del found.chains[way.nodes[-1]]
    found.chains[node] = made


def rebuilt(root: nn.Module, found: Found) -> nn.Module:
    """`root` with its merged chains in place: stock layers one after the other where that is all, else a graph."""
    graph, layers = found.graph, dict(root.named_modules(remove_duplicate=False))
    for chain in found.chains.values():
        if not chain.is_merged:
            continue
        last, name = chain.nodes[-1], chain.parts[-1].name.replace(".", "_") + "_merged"
        layers[name] = chain.affine.layer()
        with graph.inserting_before(last):
            last.replace_all_uses_with(graph.call_module(name, (chain.source,)))
        for node in reversed(chain.nodes):
            graph.erase_node(node)
    graph.lint()
    inner = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    in_line = all(
        node.op == "call_module" and node.args == (before,) and not node.kwargs
        for before, node in zip([next(iter(graph.nodes)), *inner], inner, strict=False)
    )
    made: nn.Module
    if in_line and sum(node.op == "placeholder" for node in graph.nodes) == 1:
        made = nn.Sequential()
        for node in inner:
            made.add_module(str(node.target).replace(".", "_"), layers[str(node.target)])
    else:
        held: dict[str, Any] = {str(n.target): layers[str(n.target)] for n in inner if n.op == "call_module"}
        for node in inner:
            if node.op == "get_attr":
                held[str(node.target)] = operator.attrgetter(str(node.target))(root)
        made = torch.fx.GraphModule(held, graph, f"Merged{type(root).__name__}")
    return made.train(root.training)


def shapes(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Tensor]:
    """What each layer is given in one run, by its name: empty tensors of that shape."""
    seen: dict[str, Tensor] = {}
    handles = []
    for name, module in model.named_modules():

        def note(module: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
            if inputs and isinstance(inputs[0], Tensor):
                seen.setdefault(name, torch.empty_like(inputs[0]))

        handles.append(module.register_forward_pre_hook(note))
    try:
        run(model, args, kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return seen
