"""What makes two runs the same one: which objects count as equal, and which do not."""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import nn

from effnas.evaluate.identity import describe_changes, describe_content, describe_files


class Table:
    def __init__(self, rows: Any) -> None:
        self.rows, self.calls = rows, 0


class Hidden:
    def __init__(self, rate: float) -> None:
        self._rate = rate


class Renamed:
    def __init__(self, rate: float) -> None:
        self.speed = rate

    @cached_property
    def twice(self) -> float:
        return 2 * self.speed


class Slots:
    __slots__ = ("_rate",)

    def __init__(self, rate: float) -> None:
        self._rate = rate


class SlotsRenamed:
    __slots__ = ("speed",)

    def __init__(self, rate: float) -> None:
        self.speed = rate


class Bare:
    """Makes what it needs, and counts."""

    def __init__(self) -> None:
        self.calls = 0


class Named:
    def __init__(self, version: int) -> None:
        self.what, self.junk = version, object()

    def identity(self) -> dict[str, int]:
        return {"version": self.what}


class Lying:
    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __repr__(self) -> str:
        return "Lying()"


class Shown:
    def __init__(self, rate: float) -> None:
        self.speed = rate

    def __repr__(self) -> str:
        return f"Shown({self.speed})"


class Failing:
    def __init__(self, rate: float) -> None:
        self.speed = rate

    def __repr__(self) -> str:
        raise RuntimeError

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RuntimeError


@dataclass
class Plain:
    rate: float
    calls: int = field(default=0, init=False)
    log: str = field(default="", compare=False)


class Circular:
    def __init__(self, content: str) -> None:
        self.content, self.itself = content, self


def middle(other: float) -> Any:
    """Long, and of another value in the middle only, which a repr leaves out."""
    found = np.zeros((100, 100))
    found[50, 50] = other
    return found


def captured(rate: float) -> Callable[[float], float]:
    def inner(x: float) -> float:
        return rate * x

    return inner


def linear(value: float) -> nn.Module:
    layer = nn.Linear(2, 2)
    for part in layer.parameters():
        nn.init.constant_(part, value)
    return layer


def frame(value: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": range(200), "b": [value if i == 100 else 0 for i in range(200)]})


def make_lambda(number: int) -> Callable[[], int]:
    return (lambda: 1) if number == 1 else (lambda: 2)


def nan(number: float) -> float:
    return float("nan") if number == 1 else float("inf")


#: Each makes an object of a number: equal ones of equal numbers, others of others.
KINDS: dict[str, Callable[[Any], Any]] = {
    "attributes": lambda n: Table([n]),
    "hidden": Hidden,
    "renamed": Renamed,
    "slots": Slots,
    "renamed slots": SlotsRenamed,
    "identity": Named,
    "a repr that says nothing": Lying,
    "a repr": Shown,
    "fields": Plain,
    "circular": lambda n: Circular(str(n)),
    "array": middle,
    "array in a table": lambda n: Table(middle(n)),
    "array in a list": lambda n: [middle(n)],
    "array of objects": lambda n: np.array([n, "x"], dtype=object),
    "masked": lambda n: np.ma.array([1, 2], mask=[n == 1, False]),
    "shape": lambda n: np.zeros((n, 6 // n)),
    "dtype": lambda n: np.zeros(3, dtype=f"int{8 * n}"),
    "number of numpy": np.int64,
    "tensor": lambda n: torch.from_numpy(middle(n)),
    "bfloat16": lambda n: torch.tensor(float(n), dtype=torch.bfloat16, requires_grad=True),
    "sparse": lambda n: torch.tensor([0.0, n]).to_sparse(),
    "parameters": linear,
    "frame": frame,
    "frame of texts": lambda n: frame(str(n)),
    "frame of lists": lambda n: frame([n]),
    "names of columns": lambda n: pd.DataFrame({n: [1]}),
    "series": lambda n: frame(n)["b"],
    "index": lambda n: frame(n).set_index("b"),
    "arrow": lambda n: pa.table(frame(n)),
    "partial": lambda n: partial(middle, n),
    "partial by name": lambda n: partial(middle, other=n),
    "lambda": make_lambda,
    "captured": captured,
    "captured in a lambda": lambda n: lambda x: n * x,
    "default": lambda n: lambda x=n: x,
    "method": lambda n: Shown(n).__repr__,
    "set": lambda n: {"c", "a", "b", n},
    "set of tuples": lambda n: frozenset({(1, n), (0, 3)}),
    "mapping": lambda n: {"a": n},
    "keys": lambda n: {n: "a"},
    "long list": lambda n: [0] * 5000 + [n],
    "long text": lambda n: "a" * 5000 + str(n),
    "bytes": lambda n: b"a" * 5000 + bytes([n]),
    "decimal": Decimal,
    "date": lambda n: date(2020, 1, n),
    "deque": lambda n: collections.deque([n]),
    "not finite": nan,
    "range": range,
    "class": lambda n: (Table, Hidden)[n - 1],
    "path": lambda n: Path(f"/{n}"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_equal_content_is_equal_and_other_content_is_not(kind: str) -> None:
    one, same, other = (describe_content({"x": KINDS[kind](number)}) for number in (1, 1, 2))
    assert one == same
    assert describe_changes(json.loads(json.dumps(one)), json.loads(json.dumps(same))) == ""
    assert one != other
    assert len(json.dumps(one)) < 4000
    assert "0x" not in json.dumps(one)


def test_counters_and_caches_do_not_count() -> None:
    for made in (Table([1]), Plain(1), Bare(), Renamed(1)):
        before = describe_content(made)
        made.calls = 7  # type: ignore[union-attr]
        if isinstance(made, Renamed):
            del made.calls  # type: ignore[attr-defined]
            assert made.twice == 2
        assert describe_content(made) == before
    assert describe_content(Plain(1, log="a")) == describe_content(Plain(1, log="b"))


def test_order_does_not_count_where_there_is_none() -> None:
    assert describe_content({"a": 1, "b": 2}) == describe_content({"b": 2, "a": 1})
    assert describe_content(frozenset("cab")) == describe_content({"a", "b", "c"}) == ["a", "b", "c"]
    assert describe_content([1, 2]) != describe_content([2, 1])
    assert describe_content(middle(1).T) != describe_content(middle(1)[::-1])
    assert describe_content(np.asfortranarray(middle(1))) == describe_content(middle(1))


def test_a_place_counts_however_it_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("photos").mkdir()
    os.symlink("photos", "link")
    for name in ("path", "initial", "weights"):
        spellings = ("photos", "./photos", "photos/", str(tmp_path / "photos"), "~/photos", "link", "x/../photos")
        assert {describe_content({name: text})[name] for text in spellings[:-1]} == {str(tmp_path / "photos")}
    assert describe_content(Path("photos")) == describe_content(tmp_path / "link")
    assert describe_content({"table": "./t.csv"}) == describe_content({"table": ".//t.csv"})
    assert describe_content({"path": "uoft-cs/cifar10", "threads": 4}) == {"path": "uoft-cs/cifar10"}


def test_what_fails_to_describe_itself_is_known_by_its_class() -> None:
    assert describe_content(Failing(1)) == {"_target_": f"{__name__}.Failing"}


def test_what_is_free(tmp_path: Path) -> None:
    assert describe_content({"workers": 1, "threads": 2, "memory_mb": 3, "seed": 4}) == {"seed": 4}


def test_files_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Reader:
        input_files: tuple[Path, ...]

    file = tmp_path / "t.csv"
    file.write_bytes(b"a" * 1000)
    reader = Reader((file, tmp_path, tmp_path / "none"))
    first = describe_files(reader)
    assert list(first) == ["t.csv"]
    assert describe_files(7) == {}
    monkeypatch.setattr("effnas.evaluate.identity.content._WHOLE", 640)  # larger ones: pieces
    other = tmp_path / "u.csv"
    for content in (b"a" * 1000, b"a" * 999 + b"b", b"b" + b"a" * 999, b"a" * 1001):
        other.write_bytes(content)
        os.utime(other, ns=(1, len(content) + content[0] + content[-1]))
        equal = describe_files(Reader((other,))) == {"u.csv": describe_files(Reader((file,)))["t.csv"]}
        assert equal is False  # the other one's digest was made when it was small enough to be read whole
    digests = set()
    for i, content in enumerate((b"a" * 1000, b"a" * 999 + b"b", b"b" + b"a" * 999, b"a" * 1001)):
        other.write_bytes(content)
        os.utime(other, ns=(i, i))
        digests.add(describe_files(Reader((other,)))["u.csv"])
    assert len(digests) == 4
