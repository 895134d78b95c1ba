"""A reader of pickles that runs nothing: it knows plain data, and names that its caller gives it.

A pickle is a program for a machine with a stack. This machine has no way to import or to call
anything: a name stands for what `names` holds under it, a function of ours among them, and a name
that is not there ends the reading. Each opcode is charged about the memory that it takes, so that
neither memory nor time is more than an honest file needs. The opcodes are those of protocols 2 to
5 that data needs, as in Python's pickletools, and the two that Python 2 wrote strings with.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

__all__ = ["READ_OVER", "SAVE_THE_STATE", "Function", "Machine"]

SAVE_THE_STATE = "save its state_dict() instead: torch.save(model.state_dict(), path)"
READ_OVER = object()  # in the place of objects that nobody asks for, such as an optimizer's options

BUDGET = 32 << 20  # bytes of all that the pickles of a small file make: enough for 7,000 tensors
_LONGEST_NAME = 200
_LARGEST_KEY = 1 << 24
_LONGEST_INTEGER = 64  # bytes: Python needs the square of its digits to write one down
_OPCODE, _CONTAINER, _TEXT, _ITEM = 32, 256, 64, 96  # what each takes, about


class Function:
    """What a pickle may call: one of our functions, of the machine and the pickle's arguments.

    Of these it takes `least` to `most`.
    """

    def __init__(
        self, of: Callable[[Machine, tuple[Any, ...]], Any], least: int, most: int
    ) -> None:
        self.of, self._least, self._most = of, least, most

    def call(self, machine: Machine, arguments: Any) -> Any:
        """Call it; TypeError for other arguments."""
        if type(arguments) is not tuple or not self._least <= len(arguments) <= self._most:
            raise TypeError
        return self.of(machine, arguments)


class Machine:
    """Reads the pickles of a file, one after another.

    They may make objects of BUDGET and `room` bytes. names: what each "module.name" stands for.
    persistent: called with what stands for data that lie outside of the pickle. Raises ValueError
    for what is no such pickle.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        room: int,
        names: Mapping[str, Any],
        persistent: Callable[[Any], Any],
    ) -> None:
        self._file, self._left = file, size
        self._names, self._persistent = names, persistent
        self._budget = BUDGET + room
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []  # the stacks below the marks
        self._memo: dict[int, Any] = {}

    def read(self) -> Any:
        """Return the next pickle's value."""
        self._stack, self._marked, self._memo = [], [], {}
        try:
            while True:
                opcode = self._take(1)[0]
                if opcode == _STOP:
                    return self._stack.pop()
                self.charge(_OPCODE)
                act = _ACTS.get(opcode)
                if act is None:
                    raise ValueError(
                        f"its pickle holds the opcode {opcode:#04x}, which no data has"
                    )
                act(self)
        except (LookupError, TypeError, struct.error, UnicodeError):
            raise ValueError("its pickle is damaged") from None

    def charge(self, size: int) -> None:
        """Count memory that is taken; ValueError when it is more than honest files need."""
        self._budget -= size
        if self._budget < 0:
            raise ValueError("its pickle holds more objects or longer texts than a state dict has")

    # ------------------------------------------------------------------ the bytes
    def _take(self, count: int) -> bytes:
        if count > self._left:
            raise ValueError("its pickle is cut off")
        self._left -= count
        data = self._file.read(count)
        if len(data) != count:
            raise ValueError("its pickle is cut off")
        return data

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        line = self._file.readline(min(self._left, _LONGEST_NAME))
        self._left -= len(line)
        if not line.endswith(b"\n"):
            raise ValueError("its pickle is cut off, or holds a name that is too long")
        return line[:-1].decode()

    def _data(self, form: str) -> bytes:
        count = self._number(form)
        if count < 0:
            raise ValueError("its pickle holds a text of less than no bytes")
        self.charge(_TEXT + 5 * count)  # its bytes, and four a character
        return self._take(count)

    def _text(self, form: str) -> None:
        self._stack.append(self._data(form).decode("utf-8", "surrogatepass"))

    def _text_of_python2(self, form: str) -> None:
        self._stack.append(self._data(form).decode("latin-1"))

    def _bytes(self, form: str) -> None:
        self._stack.append(self._data(form))

    def _integer(self, form: str) -> None:
        count = self._number(form)
        if not 0 <= count <= _LONGEST_INTEGER:
            raise ValueError(f"its pickle holds an integer of {count} bytes")
        self._stack.append(int.from_bytes(self._take(count), "little", signed=True))

    def _protocol(self) -> None:
        if (protocol := self._take(1)[0]) > 5:
            raise ValueError(f"its pickle is of protocol {protocol}, expected one up to 5")

    # ------------------------------------------------------------------ the stack
    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _mark(self) -> None:
        self.charge(_CONTAINER)
        self._marked.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        found, self._stack = self._stack, self._marked.pop()
        return found

    def _remember(self, place: int) -> None:
        self.charge(_ITEM)
        self._memo[place] = self._stack[-1]

    # ------------------------------------------------------------------ containers
    def _container(self, make: Callable[[], Any]) -> None:
        self.charge(_CONTAINER)
        self._stack.append(make())

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError
        self.charge(_CONTAINER)
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _all_as(self, make: Callable[[list[Any]], Any]) -> None:
        items = self._since_mark()
        self.charge(_CONTAINER + 8 * len(items))
        self._stack.append(make(items))

    def _extend(self, items: list[Any]) -> None:
        into = self._stack[-1]
        if into is READ_OVER:
            return
        if type(into) is not list:
            raise TypeError
        self.charge(16 * len(items))
        into.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        into = self._stack[-1]
        if into is not READ_OVER:
            if type(into) is not dict or len(items) % 2:
                raise TypeError
            self.fill(into, zip(items[::2], items[1::2], strict=True), len(items) // 2)

    def fill(self, into: dict[Any, Any], pairs: Any, count: int) -> None:
        """Put pairs into a dict.

        Keys are texts or small integers. The hash of nested ones can take ages, and thousands of
        large numbers can be chosen so that all have one hash.
        """
        self.charge(_ITEM * count)
        for key, value in pairs:
            plain = isinstance(key, str) or (type(key) is int and 0 <= key < _LARGEST_KEY)
            into[key if plain else READ_OVER] = value

    # ------------------------------------------------------------------ names and calls
    def _named(self, name: str) -> None:
        if name not in self._names:
            parts = name.split(".")
            if parts[:2] == ["torch", "nn"] or parts[0] == "__main__":
                raise ValueError(
                    f"it holds an object of {name}, as a whole model does; {SAVE_THE_STATE}"
                )
            raise ValueError(
                f"it holds {name}, which is not among the names that are read; a file of "
                "model.state_dict() holds tensors alone"
            )
        self._stack.append(self._names[name])

    def _named_by_stack(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError
        self._named(f"{module}.{name}")

    def _call(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if function is READ_OVER:
            self._stack.append(READ_OVER)
        elif isinstance(function, Function):
            self.charge(_CONTAINER)
            self._stack.append(function.call(self, arguments))
        else:
            raise ValueError("its pickle calls what is no function")

    def _make(self, count: int) -> None:
        """Make an object of a class: of those whose objects nobody asks for."""
        *_, made = [self._stack.pop() for _ in range(count)]
        if made is not READ_OVER:
            raise ValueError("its pickle makes an object of what is no class")
        self._stack.append(READ_OVER)

    def _persist(self) -> None:
        self._stack.append(self._persistent(self._stack.pop()))


_STOP = ord(".")
_ACTS: dict[int, Callable[[Machine], object]] = {
    0x80: Machine._protocol,
    0x95: lambda m: m._take(8),  # how long a frame is
    # numbers and constants
    ord("N"): lambda m: m._push(None),
    0x88: lambda m: m._push(True),
    0x89: lambda m: m._push(False),
    ord("J"): lambda m: m._push(m._number("<i")),
    ord("K"): lambda m: m._push(m._number("<B")),
    ord("M"): lambda m: m._push(m._number("<H")),
    0x8A: lambda m: m._integer("<B"),
    0x8B: lambda m: m._integer("<i"),
    ord("G"): lambda m: m._push(m._number(">d")),
    # texts and bytes
    ord("X"): lambda m: m._text("<I"),
    0x8C: lambda m: m._text("<B"),
    0x8D: lambda m: m._text("<Q"),
    ord("T"): lambda m: m._text_of_python2("<i"),
    ord("U"): lambda m: m._text_of_python2("<B"),
    ord("B"): lambda m: m._bytes("<I"),
    ord("C"): lambda m: m._bytes("<B"),
    0x8E: lambda m: m._bytes("<Q"),
    0x96: lambda m: m._bytes("<Q"),  # a bytearray
    # the stack and the memo
    ord("("): Machine._mark,
    ord("0"): lambda m: m._stack.pop(),
    ord("1"): Machine._since_mark,
    ord("2"): lambda m: m._push(m._stack[-1]),
    ord("q"): lambda m: m._remember(m._number("<B")),
    ord("r"): lambda m: m._remember(m._number("<I")),
    0x94: lambda m: m._remember(len(m._memo)),
    ord("h"): lambda m: m._push(m._memo[m._number("<B")]),
    ord("j"): lambda m: m._push(m._memo[m._number("<I")]),
    # containers; sets are lists, for nobody asks for one
    ord(")"): lambda m: m._push(()),
    0x85: lambda m: m._tuple(1),
    0x86: lambda m: m._tuple(2),
    0x87: lambda m: m._tuple(3),
    ord("t"): lambda m: m._all_as(tuple),
    ord("]"): lambda m: m._container(list),
    0x8F: lambda m: m._container(list),
    ord("l"): lambda m: m._all_as(list),
    0x91: lambda m: m._all_as(list),
    ord("a"): lambda m: m._extend([m._stack.pop()]),
    ord("e"): lambda m: m._extend(m._since_mark()),
    0x90: lambda m: m._extend(m._since_mark()),
    ord("}"): lambda m: m._container(dict),
    ord("s"): lambda m: m._set_items([m._stack.pop(-2), m._stack.pop()]),
    ord("u"): lambda m: m._set_items(m._since_mark()),
    # names and calls
    ord("c"): lambda m: m._named(f"{m._line()}.{m._line()}"),
    0x93: Machine._named_by_stack,
    ord("R"): Machine._call,
    0x81: lambda m: m._make(2),
    0x92: lambda m: m._make(3),
    ord("b"): lambda m: m._stack.pop(),  # attributes, such as a state dict's _metadata
    ord("Q"): Machine._persist,
}
