"""A name that stands twice in a file says nothing: it is refused, wherever it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from effnas.evaluate.compare.reading import read_points
from effnas.space.errors import UserError
from effnas.space.files import load_yaml


def test_in_a_mapping() -> None:
    with pytest.raises(UserError, match=r"a\.yaml: not readable as plain YAML: 'b' is given twice"):
        load_yaml("a: [{b: 1, c: 2, b: 3}]", "a.yaml")
    assert load_yaml("a: {b: 1}\nb: 2", "a.yaml") == {"a": {"b": 1}, "b": 2}


def test_in_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,accuracy,macs,accuracy\na,0.5,1,0.6\n")
    with pytest.raises(UserError, match=r"a\.csv: two columns have the name 'accuracy'"):
        read_points(tmp_path / "a.csv", "mine")
