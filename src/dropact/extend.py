"""What a method of one's own is made of: see ``docs/new-method.md``, whose template imports nothing else of dropact.

Bits: :func:`as_seed`, :func:`random_bits_like`, :func:`is_chosen`, :func:`unit_interval`, :func:`choose`. Layers:
:class:`LayerWithRate`, :func:`special`, :class:`AroundActivation`. Activations: :data:`Activation`, :func:`apply`,
:func:`is_relu`, :func:`same_activation`, :func:`stock_module`, :func:`underlying`. Arguments: :func:`check_input`,
:func:`check_number`, :func:`check_probability`. What training adds, for ``dropact.diagnostics``: :class:`UnitNoise`.

>>> import torch
>>> x = torch.tensor([-1.0, 1.0])
>>> bits = random_bits_like(as_seed(7, x), x)
>>> torch.equal(is_chosen(bits, 1.0), torch.tensor([True, True])), is_relu(torch.relu)
(True, True)
"""

from dropact._activations import Activation, is_relu
from dropact._arguments import check_input, check_number, check_probability
from dropact._elementwise import apply
from dropact._random import as_seed, is_chosen, random_bits_like, unit_interval
from dropact.kernels import choose
from dropact.methods._activation import AroundActivation, underlying
from dropact.methods._activation import same as same_activation
from dropact.methods._activation import stock as stock_module
from dropact.methods._rate import LayerWithRate
from dropact.methods._tracing import special
from dropact.theory import UnitNoise

__all__ = [
    "Activation",
    "AroundActivation",
    "LayerWithRate",
    "UnitNoise",
    "apply",
    "as_seed",
    "check_input",
    "check_number",
    "check_probability",
    "choose",
    "is_chosen",
    "is_relu",
    "random_bits_like",
    "same_activation",
    "special",
    "stock_module",
    "underlying",
    "unit_interval",
]
