"""A second device on a machine that has none: its tensors are the CPU's, and never meet the CPU's in one operation.

It goes by the name ``meta``, the only other one that torch sends through autograd without a driver for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

DEVICE = torch.device("meta")


class Elsewhere(Tensor):
    """A tensor on the second device; ``inner`` has its numbers."""

    inner: Any
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        made: Any = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE,
        )  # fmt: skip
        made.inner = inner
        return made  # type: ignore[no-any-return]

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(func, args, kwargs or {})


class SecondDevice(TorchDispatchMode):
    """While it is entered, ``meta`` is the second device.

    Raises:
        AssertionError: an operation has tensors of both devices; numbers without dimensions may come from the CPU.
    """

    def __enter__(self) -> SecondDevice:
        self._before = autocast, tensor = torch.autocast, torch.tensor

        def known(device_type: str, *args: Any, **kwargs: Any) -> torch.autocast:
            return autocast("cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)

        def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
            return tensor(data, *args, **kwargs).to(device)

        # Neither asks the mode.
        torch.autocast, torch.tensor = known, made  # type: ignore[assignment, misc]
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        torch.autocast, torch.tensor = self._before  # type: ignore[misc]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    there: dict[int, Elsewhere] = {}
    here: list[Tensor] = []

    def unwrapped(value: Any) -> Any:
        if isinstance(value, Elsewhere):
            there[id(value.inner)] = value
            return value.inner
        if isinstance(value, Tensor) and value.ndim:
            here.append(value)
        return torch.device("cpu") if value == DEVICE and isinstance(value, torch.device) else value

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return there[id(value)] if id(value) in there else Elsewhere(value)

    target, moves = kwargs.get("device"), func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    args, kwargs = tree_map(unwrapped, tuple(args)), tree_map(unwrapped, dict(kwargs))
    assert moves or not (there and here), f"{func} has tensors of two devices"
    result = func(*args, **kwargs)
    goes_there = target == DEVICE if target is not None else bool(there)
    if func is torch.ops.aten.copy_.default:
        goes_there = id(args[0]) in there
    return tree_map(wrapped, result) if goes_there else result
