"""Adam whose steps happen inside the backward pass, tensor by tensor.

Each gradient is used and freed as soon as it is complete, so that they never exist
all at once, and while it is still in the cache. The numbers are those of
``torch.optim.Adam`` with its defaults (Kingma and Ba 2015, algorithm 1).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


_WORTH_A_STEP = 2**16
"""Elements from which a tensor's gradient is used at once; the many small ones wait for the end and share one step."""


class AdamInBackward:
    """Updates ``parameters`` whenever a ``backward`` has their gradients; a context manager.

    Args:
        parameters: fp32 leaves that require a gradient.
        lr: learning rate.
        moments_away: keep Adam's two moments in main memory and fetch those of one tensor at a
            time: the same numbers with a third of the memory on the GPU, at the speed of the bus.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float, moments_away: bool = False) -> None:
        self.lr = lr
        self.moments_away = moments_away
        self._large = [(parameter,) for parameter in parameters if parameter.numel() >= _WORTH_A_STEP]
        self._small = tuple(parameter for parameter in parameters if parameter.numel() < _WORTH_A_STEP)
        self._steps = 0
        self._optimizers: dict[int, torch.optim.Adam] = {}
        self._moments: dict[int, tuple[Tensor, Tensor]] = {}
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> AdamInBackward:
        # torch 2.0 has no such hook: there the gradients wait for the end of the backward pass.
        self._hooks = [
            group[0].register_post_accumulate_grad_hook(functools.partial(self._after_gradient, group))
            for group in self._large
            if hasattr(group[0], "register_post_accumulate_grad_hook")
        ]
        return self

    def __exit__(self, *_: object) -> None:
        # A parameter, its hook and this object hold each other: without this, gigabytes would wait for the collector.
        for hook in self._hooks:
            hook.remove()

    def step(self, loss: Tensor) -> None:
        """Backward pass of the scalar ``loss`` and one step of every parameter that it reaches."""
        self._steps += 1
        loss.backward()
        for group in (*self._large, self._small):
            self._update(group)

    def _after_gradient(self, group: tuple[Tensor, ...], _: Tensor) -> None:
        self._update(group)

    @torch.no_grad()
    def _update(self, group: tuple[Tensor, ...]) -> None:
        """A step of those tensors of ``group`` that have a gradient, which is used up."""
        if all(parameter.grad is None for parameter in group):
            return
        if not self.moments_away and _fused_works(group[0].device):
            key = id(group[0])
            if key not in self._optimizers:
                self._optimizers[key] = torch.optim.Adam(group, lr=self.lr, fused=True)
            self._optimizers[key].step()
        else:
            for parameter in group:
                self._update_stepwise(parameter)
        for parameter in group:
            parameter.grad = None

    def _update_stepwise(self, parameter: Tensor) -> None:
        gradient, index = parameter.grad, id(parameter)
        if gradient is None:
            return
        correction = math.sqrt(1 - BETA2**self._steps)
        rate = self.lr * correction / (1 - BETA1**self._steps)
        if index not in self._moments:
            m, v = gradient * (1 - BETA1), gradient.square().mul_(1 - BETA2)
        else:
            m, v = (moment.to(parameter.device) for moment in self._moments[index])
            m.lerp_(gradient, 1 - BETA1)
            v.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        # The gradient has done its work and is the place for the root: a new tensor for it costs more than the root.
        root = torch.sqrt(v, out=gradient).add_(EPSILON * correction)
        parameter.addcdiv_(m, root, value=-rate)
        self._moments[index] = (m.cpu(), v.cpu()) if self.moments_away else (m, v)


@functools.cache
def _fused_works(device: torch.device) -> bool:
    """Whether torch has a one-pass Adam for this device (CUDA: since 2.0, CPU: since 2.4)."""
    probe = torch.zeros(1, device=device, requires_grad=True)
    probe.grad = torch.zeros_like(probe)
    try:
        torch.optim.Adam([probe], fused=True).step()
    except (RuntimeError, ValueError, TypeError, NotImplementedError):
        return False
    return True
