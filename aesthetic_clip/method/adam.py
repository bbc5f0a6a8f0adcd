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
from torch.optim.adam import adam
from torch.utils.hooks import RemovableHandle

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class AdamInBackward:
    """Updates ``parameters`` whenever a ``backward`` has their gradients; a context manager.

    Args:
        parameters: leaves that require a gradient, fp32 or float64, all of one kind and on one device.
        lr: learning rate.
        moments_away: keep Adam's two moments in main memory and fetch those of one tensor at a
            time: the same numbers with a third of the memory on the GPU, at the speed of the bus.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float, moments_away: bool = False) -> None:
        self.parameters = list(parameters)
        self.lr = lr
        self.moments_away = moments_away
        self._steps = 0
        self._moments: dict[int, tuple[Tensor, Tensor]] = {}
        self._counts: dict[int, Tensor] = {}
        self._free: Tensor | None = None
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> AdamInBackward:
        # torch 2.0 has no such hook: there the gradients wait for the end of the backward pass.
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._update)
            for parameter in self.parameters
            if hasattr(parameter, "register_post_accumulate_grad_hook")
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
        for parameter in self.parameters:
            if parameter.grad is not None:
                self._update(parameter)

    @torch.no_grad()
    def step_back(self, part: float) -> None:
        """Take a part of the last step back: 1 is all of it, a negative part goes forward again.

        The step is made anew from the moments, so that nobody keeps the weights before it.
        """
        for parameter in self.parameters:
            if id(parameter) in self._moments:
                m, v = (moment.to(parameter.device) for moment in self._moments[id(parameter)])
                self._move(parameter, m, v.sqrt(), -part)

    @torch.no_grad()
    def _update(self, parameter: Tensor) -> None:
        gradient, index = parameter.grad, id(parameter)
        assert gradient is not None
        m, v = self._moments[index] if index in self._moments else self._places(parameter)
        if self.moments_away:
            m, v = m.to(parameter.device), v.to(parameter.device)
        if _fused_works(parameter.device):
            self._fused(parameter, gradient, m, v)
        else:
            self._stepwise(parameter, gradient, m, v)
        self._moments[index] = (m.cpu(), v.cpu()) if self.moments_away else (m, v)
        parameter.grad = None

    def _places(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        """Where the two moments of a tensor are to be, not filled in."""
        if self.moments_away:
            return torch.empty_like(parameter), torch.empty_like(parameter)
        if self._free is None:
            # One piece of memory for all: many between the gradients that come and go would tear the heap to pieces.
            count = sum(p.numel() for p in self.parameters)
            self._free = torch.empty(2 * count, device=parameter.device, dtype=parameter.dtype)
        n = parameter.numel()
        m, v, self._free = self._free[:n], self._free[n : 2 * n], self._free[2 * n :]
        return m.view_as(parameter), v.view_as(parameter)

    def _fused(self, parameter: Tensor, gradient: Tensor, m: Tensor, v: Tensor) -> None:
        if self._steps == 1:
            m.zero_()
            v.zero_()
            if not self._counts:
                # One transfer to the device for all: torch counts the steps of each tensor there, in place.
                zeros = torch.zeros(len(self.parameters), device=parameter.device, dtype=torch.float32)
                self._counts = {id(p): count for p, count in zip(self.parameters, zeros.unbind())}
        # Without an optimizer object: a hundred of them would cost as much as their work.
        adam(
            [parameter],
            [gradient],
            [m],
            [v],
            [],
            [self._counts[id(parameter)]],
            fused=True,
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=self.lr,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    def _stepwise(self, parameter: Tensor, gradient: Tensor, m: Tensor, v: Tensor) -> None:
        if self._steps == 1:
            torch.mul(gradient, 1 - BETA1, out=m)
            torch.mul(gradient, gradient, out=v).mul_(1 - BETA2)
        else:
            m.lerp_(gradient, 1 - BETA1)
            v.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        # The gradient has done its work and is the place for the root: a new tensor for it costs more than the root.
        self._move(parameter, m, torch.sqrt(v, out=gradient))

    def _move(self, parameter: Tensor, m: Tensor, root: Tensor, part: float = 1.0) -> None:
        """A part of the step at hand, by the first moment and the root of the second, which is changed."""
        correction = math.sqrt(1 - BETA2**self._steps)
        rate = self.lr * correction / (1 - BETA1**self._steps)
        parameter.addcdiv_(m, root.add_(EPSILON * correction), value=-part * rate)


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
