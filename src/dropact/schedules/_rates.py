"""The rates of a model as tensors."""

from __future__ import annotations

from torch import Tensor, nn

from dropact.methods._rate import RATE, LayerWithRate


def rates(model: nn.Module) -> dict[str, Tensor]:
    """The rates of a model's layers as tensors, under the names that ``torch.func.functional_call`` takes others by.

    >>> import dropact, torch
    >>> from torch.func import functional_call, stack_module_state, vmap
    >>> models = [nn.Sequential(nn.Linear(3, 3), dropact.DropActivation(rate)).eval() for rate in (0.1, 0.4)]
    >>> x, (params, buffers) = torch.randn(5, 3), stack_module_state(models)
    >>> each = [dropact.schedules.rates(model) for model in models]
    >>> stacked = {name: torch.stack([rates[name] for rates in each]) for name in each[0]}
    >>> y = vmap(lambda *state: functional_call(models[0], state, (x,)))(params, buffers, stacked)
    >>> torch.allclose(y[1], models[1](x))
    True

    Rates are no buffers, so that whoever averages, broadcasts or initialises those leaves them alone; and so
    ``stack_module_state`` does not stack them, and members of an ensemble have those of the model that is called.

    Returns:
        A 0-d float64 tensor for each layer that has a ``drop_prob``, of its own: writing into one changes nothing.
    """
    return {
        f"{name}.{RATE}".lstrip("."): module._own_rate.detach().clone()
        for name, module in model.named_modules()
        if isinstance(module, LayerWithRate)
    }
