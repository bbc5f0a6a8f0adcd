"""Reads what ``torch.save`` and ``torch.jit.save`` write as a pickle, by a grammar instead of a machine.

Why there is a reader of our own: embeddings and models are swapped among strangers, and a pickle is a program.
``torch.load(weights_only=True)`` is the usual guard, but releases that are in use (2.1, which WebUIs pin) have known
ways around it, believe the sizes that a file claims, and spend as much time and memory as the file asks for;
TorchScript archives run code of the file by being opened. Here nothing in a file is ever called, and nothing
is looked up by a name that the file says: names are only compared with the few in this module.

The grammar, each line a form that the writers really use (anything else is refused)::

    pickle     PROTO? value STOP
    value      None | True | False | int of up to 128 bits | float | text | bytes
             | tuple of values | list of values | dict of values by text or int
             | a name of torch's, from the table below
             | OrderedDict() | OrderedDict() with the state that nn.Module adds
             | torch.Size(tuple) | torch.device(...) | _codecs.encode(text, "latin1")
             | tensor   _rebuild_tensor[_v2](storage, offset, size, stride, ...)
             | tensor   _rebuild_parameter[_with_state](tensor, ...)
    storage    persistent id ("storage", type, key, location, numel[, None])

and, only where the file is a TorchScript archive::

             | object   a class below __torch__, made with no arguments, with a dict (or whatever) as its state
             | build_intlist([...]) and its like | restore_type_tag(value, text)

An object is kept as the dict of its attributes; a state that is no dict belongs to a ``__setstate__`` and is dropped.
What was pickled before and is referred to again is taken over if it is a text, number, name, storage or tensor;
a container that is referred to again is an empty stand-in, so that what is read is always a tree no larger than the file.

Bounds: ``MOST_BYTES``, ``MOST_OPCODES``, ``DEEPEST``, ``WIDEST`` for what lies on the stack at once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from .faults import Executable, UnreadableFile, quoted

MOST_BYTES = 4 * 2**20
MOST_OPCODES = 150_000
DEEPEST = 64
WIDEST = 20_000
_LONGEST_LINE = 400
_LONGEST_INT = 16

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_FUNCTIONS = {
    "collections.OrderedDict",
    "torch.Size",
    "torch.device",
    "_codecs.encode",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
}
_NAMES = (
    _FUNCTIONS
    | {f"torch.{name}" for name in _DTYPES}
    | {f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
)
_SCRIPT = "torch.jit._pickle."
_SCRIPT_LISTS = {f"{_SCRIPT}build_{kind}list" for kind in ("int", "double", "bool", "tensor")}


class Name(NamedTuple):
    """A name that a file says: only ever compared."""

    text: str


class Storage(NamedTuple):
    """The bytes of one or more tensors, which lie elsewhere in the file."""

    dtype: torch.dtype
    key: str
    numel: int


class StoredTensor(NamedTuple):
    """A tensor as the file describes it."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass
class ScriptObject:
    """An object of a TorchScript archive."""

    attributes: dict[object, object] = field(default_factory=dict)


class Again:
    """In the place of a container that was there before."""


@dataclass(frozen=True)
class Pickle:
    """What was read.

    Attributes:
        value: the value itself.
        end: where in the data it ended.
        storages: all that were named, by key.
    """

    value: object
    end: int
    storages: dict[str, Storage]


def parse(data: bytes, start: int = 0, script: bool = False, opcodes: int = MOST_OPCODES) -> Pickle:
    """The next pickle in ``data``, of a TorchScript archive if ``script``, of at most ``opcodes`` instructions.

    Raises:
        Executable: it names something else than tensors are made of.
        UnreadableFile: it is damaged, or larger than what is bounded here.
    """
    parser = _Parser(data, start, script)
    return Pickle(parser.run(opcodes), parser.at, parser.storages)


class _Parser:
    def __init__(self, data: bytes, start: int, script: bool) -> None:
        self.data, self.at, self.script = data, start, script
        self.end = min(len(data), start + MOST_BYTES)
        self.stack: list[object] = []
        # How deep the containers on the stack are nested.
        self.depths: list[int] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.storages: dict[str, Storage] = {}

    def run(self, opcodes: int) -> object:
        rules = _RULES
        for _ in range(opcodes):
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                if len(self.stack) != 1 or self.marks:
                    raise _damaged()
                return self.stack[0]
            rule = rules.get(code)
            if rule is None:
                raise Executable(f"holds the pickle instruction {code:#04x}, which no file of tensors needs")
            rule(self)
        raise UnreadableFile(
            "It describes more objects than any model has.", "Save only the model's weights, best as .safetensors."
        )

    def take(self, length: int) -> bytes:
        at, self.at = self.at, self.at + length
        if self.at > self.end:
            raise UnreadableFile("It is cut off, or no file of torch.save.")
        return self.data[at : self.at]

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + _LONGEST_LINE)
        if end < 0:
            raise _damaged()
        line = self.take(end + 1 - self.at)[:-1]
        return line.decode("utf-8", "replace")

    def push(self, value: object, depth: int = 0) -> None:
        if len(self.stack) >= WIDEST or depth > DEEPEST:
            raise UnreadableFile("It is nested deeper or wider than any model.")
        self.stack.append(value)
        self.depths.append(depth)

    def pop(self) -> tuple[object, int]:
        # A value below the last mark does not belong to what is being read.
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _damaged()
        return self.stack.pop(), self.depths.pop()

    def popped(self, count: int) -> tuple[list[object], int]:
        """The last values, and how deep what holds them is nested."""
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise _damaged()
        return self._cut(len(self.stack) - count)

    def since_mark(self) -> tuple[list[object], int]:
        if not self.marks:
            raise _damaged()
        return self._cut(self.marks.pop())

    def _cut(self, at: int) -> tuple[list[object], int]:
        values, depth = self.stack[at:], max(self.depths[at:], default=0) + 1
        del self.stack[at:], self.depths[at:]
        return values, depth

    def top(self, depth: int) -> object:
        """The container at the top, which is now that deep."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _damaged()
        if depth > DEEPEST:
            raise UnreadableFile("It is nested deeper than any model.")
        self.depths[-1] = max(self.depths[-1], depth)
        return self.stack[-1]

    def name(self, module: str, name: str) -> None:
        text = f"{module}.{name}"
        script = self.script and (text.startswith(("__torch__.", _SCRIPT)))
        if text not in _NAMES and not script:
            raise Executable(f"names {quoted(text)}")
        self.push(Name(text))

    def number(self, length: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(length), "little", signed=signed)

    def text(self, length: int) -> None:
        try:
            self.push(self.take(length).decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise _damaged() from None

    def remember(self, index: int) -> None:
        if not self.stack:
            raise _damaged()
        self.memo[index] = self.stack[-1]

    def again(self, index: int) -> None:
        try:
            value = self.memo[index]
        except KeyError:
            raise _damaged() from None
        container = isinstance(value, (list, dict, ScriptObject, Again)) or (type(value) is tuple and value)
        self.push(Again() if container else value)

    # The rules

    def proto(self) -> None:
        if self.take(1)[0] > 5 or self.stack:
            raise _damaged()

    def frame(self) -> None:
        self.take(8)

    def mark(self) -> None:
        if len(self.marks) >= WIDEST:
            raise UnreadableFile("It is nested deeper than any model.")
        self.marks.append(len(self.stack))

    def integer(self) -> None:
        length = self.take(1)[0]
        if length > _LONGEST_INT:
            raise UnreadableFile("It holds a number that no model has.")
        self.push(int.from_bytes(self.take(length), "little", signed=True))

    def global_(self) -> None:
        self.name(self.line(), self.line())

    def stack_global(self) -> None:
        (module, name), _ = self.popped(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise _damaged()
        self.name(module[:_LONGEST_LINE], name[:_LONGEST_LINE])

    def tuple_(self, count: int | None = None) -> None:
        values, depth = self.since_mark() if count is None else self.popped(count)
        self.push(tuple(values), depth)

    def list_(self) -> None:
        values, depth = self.since_mark()
        self.push(values, depth)

    def append(self) -> None:
        value, depth = self.pop()
        self._append([value], depth + 1)

    def appends(self) -> None:
        self._append(*self.since_mark())

    def _append(self, values: list[object], depth: int) -> None:
        into = self.top(depth)
        if not isinstance(into, list):
            raise _damaged()
        into.extend(values)

    def dict_(self) -> None:
        values, depth = self.since_mark()
        self.push({}, 0)
        self._set(values, depth)

    def setitem(self) -> None:
        self._set(*self.popped(2))

    def setitems(self) -> None:
        self._set(*self.since_mark())

    def _set(self, values: list[object], depth: int) -> None:
        into = self.top(depth)
        if not isinstance(into, dict) or len(values) % 2:
            raise _damaged()
        for key, value in zip(values[::2], values[1::2]):
            if not isinstance(key, (str, int)):
                raise UnreadableFile(f"It holds a dictionary by {quoted(key)} instead of by names.")
            into[key] = value

    def storage(self) -> None:
        pid, _ = self.pop()
        if not isinstance(pid, tuple) or not 5 <= len(pid) <= 6 or pid[5:] not in ((), (None,)):
            raise UnreadableFile("It describes the bytes of a tensor in an unknown way.")
        kind, type_, key, _location, numel = pid[:5]
        dtype = _DTYPES.get(type_.text.removeprefix("torch.")) if isinstance(type_, Name) else None
        if kind != "storage" or dtype is None or not isinstance(key, str) or len(key) > _LONGEST_LINE:
            raise UnreadableFile("It describes the bytes of a tensor in an unknown way.")
        storage = Storage(dtype, key, _size(numel))
        if self.storages.setdefault(key, storage) != storage:
            raise UnreadableFile(f"It describes the bytes {quoted(key)} in two ways.")
        self.push(storage)

    def newobj(self) -> None:
        (cls, arguments), _ = self.popped(2)
        if not (isinstance(cls, Name) and cls.text.startswith("__torch__.") and arguments == ()):
            raise Executable("makes an object")
        self.push(ScriptObject())

    def build(self) -> None:
        state, depth = self.pop()
        built = self.top(depth + 1)
        if isinstance(built, ScriptObject):
            built.attributes = state if isinstance(state, dict) else {}
        elif not isinstance(built, dict) or not isinstance(state, dict):
            raise Executable("sets the state of an object")
        # The state of an OrderedDict is nn.Module's list of versions, which nobody asks for.

    def reduce(self) -> None:
        (function, arguments), depth = self.popped(2)
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise Executable("calls something")
        self.push(self._made(function.text, arguments), depth)

    def _made(self, function: str, arguments: tuple[object, ...]) -> object:
        """What a call of the grammar stands for."""
        count = len(arguments)
        if function == "collections.OrderedDict" and not count:
            return {}
        if function in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2") and 4 <= count <= 7:
            return _stored(*arguments[:4])
        if function.startswith("torch._utils._rebuild_parameter") and 3 <= count <= 4:
            if isinstance(arguments[0], StoredTensor):
                return arguments[0]
        elif function == "torch.Size" and count == 1 and isinstance(arguments[0], tuple):
            return arguments[0]
        elif function == "torch.device":
            return None
        elif function == "_codecs.encode" and count == 2 and arguments[1] == "latin1" and isinstance(arguments[0], str):
            return arguments[0].encode("latin-1", "replace")
        elif (self.script and function in _SCRIPT_LISTS and count == 1) or (
            self.script and function == f"{_SCRIPT}restore_type_tag" and count == 2
        ):
            return arguments[0]
        if function in _NAMES or function.startswith(_SCRIPT):
            raise _damaged()
        raise Executable(f"calls {quoted(function)}")


def _stored(storage: object, offset: object, size: object, stride: object) -> StoredTensor:
    if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise UnreadableFile("It describes a tensor without bytes, size or stride.")
    if len(size) != len(stride) or len(size) > 16:
        raise UnreadableFile("It describes a tensor of an impossible shape.")
    sizes, strides, start = tuple(map(_size, size)), tuple(map(_size, stride)), _size(offset)
    elements = 1
    for number in sizes:
        elements *= number
    if elements:
        last = start + sum((number - 1) * step for number, step in zip(sizes, strides))
        if last >= storage.numel or elements > storage.numel:
            raise UnreadableFile("It describes a tensor that is larger than its storage.")
    return StoredTensor(storage, start, sizes, strides)


def _size(number: object) -> int:
    if type(number) is not int or not 0 <= number < 2**40:
        raise UnreadableFile("It describes a tensor by what is no size.")
    return number


def _damaged() -> UnreadableFile:
    return UnreadableFile("Its pickle is damaged.")


_RULES: dict[int, Callable[[_Parser], None]] = {
    0x80: _Parser.proto,
    0x95: _Parser.frame,
    ord("("): _Parser.mark,
    ord("N"): lambda parser: parser.push(None),
    0x88: lambda parser: parser.push(True),
    0x89: lambda parser: parser.push(False),
    ord("J"): lambda parser: parser.push(parser.number(4, signed=True)),
    ord("K"): lambda parser: parser.push(parser.number(1)),
    ord("M"): lambda parser: parser.push(parser.number(2)),
    0x8A: _Parser.integer,
    ord("G"): lambda parser: parser.push(struct.unpack(">d", parser.take(8))[0]),
    ord("X"): lambda parser: parser.text(parser.number(4)),
    0x8C: lambda parser: parser.text(parser.number(1)),
    ord("B"): lambda parser: parser.push(parser.take(parser.number(4))),
    ord("C"): lambda parser: parser.push(parser.take(parser.number(1))),
    ord("c"): _Parser.global_,
    0x93: _Parser.stack_global,
    ord(")"): lambda parser: parser.push((), 0),
    ord("t"): _Parser.tuple_,
    0x85: lambda parser: parser.tuple_(1),
    0x86: lambda parser: parser.tuple_(2),
    0x87: lambda parser: parser.tuple_(3),
    ord("]"): lambda parser: parser.push([], 0),
    ord("l"): _Parser.list_,
    ord("a"): _Parser.append,
    ord("e"): _Parser.appends,
    ord("}"): lambda parser: parser.push({}, 0),
    ord("d"): _Parser.dict_,
    ord("s"): _Parser.setitem,
    ord("u"): _Parser.setitems,
    ord("q"): lambda parser: parser.remember(parser.number(1)),
    ord("r"): lambda parser: parser.remember(parser.number(4)),
    0x94: lambda parser: parser.remember(len(parser.memo)),
    ord("h"): lambda parser: parser.again(parser.number(1)),
    ord("j"): lambda parser: parser.again(parser.number(4)),
    ord("Q"): _Parser.storage,
    0x81: _Parser.newobj,
    ord("b"): _Parser.build,
    ord("R"): _Parser.reduce,
}
