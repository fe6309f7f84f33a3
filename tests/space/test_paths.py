"""Where things are kept that may be made again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from effnas.space.paths import cache_folder


def test_the_cache_is_where_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFNAS_CACHE", "~/mine")  # as a file of settings has it, which no shell reads
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/mine")
    monkeypatch.delenv("EFFNAS_CACHE")
    assert cache_folder() == Path("/home/me/.cache/effnas")


@pytest.mark.skipif(os.name != "posix", reason="users have numbers there")
def test_a_user_without_a_home_has_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("EFFNAS_CACHE", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert cache_folder() == Path(tempfile.gettempdir()) / f"effnas-{os.getuid()}"
