"""Numbers and paths that no float, no file system and no text file takes."""

from __future__ import annotations

import math
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from effnas.space.errors import UserError, check_int, check_number, is_finite, show
from effnas.space.files import read_text
from effnas.space.paths import as_text, expand_path, is_file, is_folder
from effnas.space.quantity import parse_quantity

HUGE = [10**308 * 10, 10**400, -(10**400), 10**5000]


@pytest.mark.parametrize("value", HUGE, ids=["309", "401", "below", "5001"])
def test_whole_numbers_that_no_float_holds(value: int) -> None:
    assert not is_finite(value)
    with pytest.raises(UserError, match=r"^lr must be a finite number, got (-?1000|a whole number of thousands)"):
        check_number("lr", value)
    with pytest.raises(UserError, match=r"^target must be a number above 0, .* got (-?1000|a whole number of thousan)"):
        parse_quantity("target", value)
    with pytest.raises(UserError, match=r"^trials must be (between 1 and 9223372036854775807|at least 1), got "):
        check_int("trials", value, 1)
    assert len(show(value)) <= 201


@pytest.mark.parametrize("value", [math.nan, math.inf, True, None, "1", 1j])
def test_what_is_no_finite_number(value: Any) -> None:
    assert not is_finite(value)
    with pytest.raises(UserError, match=r"^x must be a finite number, got "):
        check_number("x", value)


def test_quantities_of_many_digits() -> None:
    assert parse_quantity("target", 10**300) == 1e300
    with pytest.raises(UserError, match=r"^target must be a number above 0"):
        parse_quantity("target", "9" * 400)


@pytest.mark.parametrize("path", ["x" * 300, "a/" + "x" * 5000, "~nobody-at-all/x", "a\0b", "\udce9"])
def test_paths_that_lead_nowhere(path: str) -> None:
    assert not is_file(path)
    assert not is_folder(path)
    assert not is_file(expand_path(path))
    with pytest.raises(UserError, match=r"^architecture: no such file: "):
        read_text(path, "architecture")


def test_the_users_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_path("~/a") == tmp_path / "a"
    assert is_folder("~") is False
    assert is_folder(expand_path("~"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain name.png", "plain name.png"),
        (unicodedata.normalize("NFD", "café"), "café"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        ("\u2028", "\\u2028"),
        ("👩‍🔬 日本", "👩‍🔬 日本"),
        ("\ud800", "?"),
    ],
)
def test_names_as_text(name: str, text: str) -> None:
    assert as_text(name) == text
    assert as_text(name).encode()
