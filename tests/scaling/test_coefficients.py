import math

import pytest

from effnas.scaling.coefficients import PAPER, PRESETS, Coefficients, load_coefficients
from effnas.space.errors import UserError


def test_the_papers_answer_is_not_two():
    assert (PAPER.alpha, PAPER.beta, PAPER.gamma) == (1.2, 1.1, 1.15)
    assert PAPER.macs_ratio == pytest.approx(1.92027, abs=1e-9)  # 1.2 · 1.21 · 1.3225


def test_presets_are_the_published_rows():
    assert list(PRESETS) == [*(f"b{i}" for i in range(9)), "l2", *(f"lite{i}" for i in range(5))]
    assert PRESETS["b4"] == (1.4, 1.8, 380, 0.4)
    assert PRESETS["lite4"] == (1.4, 1.8, 300, 0.3)


def test_yaml_round_trip(tmp_path):
    found = Coefficients(1.25, 1, 1.1)
    path = found.save(tmp_path / "new" / "coefficients.yaml")
    assert path.read_text() == "effnas_coefficients: 1\nalpha: 1.25\nbeta: 1.0\ngamma: 1.1\n"
    assert load_coefficients(path) == found
    assert Coefficients.from_yaml(found.to_yaml()) == found
    assert [p.name for p in path.parent.iterdir()] == ["coefficients.yaml"]


@pytest.mark.parametrize("value", ["1.2,1.1,1.15", " 1.2, 1.1, 1.15", "[1.2,1.1,1.15]", [1.2, 1.1, 1.15], "paper"])
def test_the_ways_to_say_it(value):
    assert load_coefficients(value) == PAPER


def test_int_and_float_are_one():
    assert Coefficients(1, 1, 2) == Coefficients(1.0, 1.0, 2.0)
    assert Coefficients(1, 1, 2).to_yaml() == Coefficients(1.0, 1.0, 2.0).to_yaml()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.9,1,1", r"coefficient alpha must be in \[1, 10\], got 0.9"),
        ([1, 0, 1], r"coefficient beta must be in \[1, 10\], got 0"),
        ([1, 1, 11], r"coefficient gamma must be in \[1, 10\], got 11"),
        ([1, 1, "1.1"], "coefficient gamma must be a finite number, got '1.1'"),
        ([1, True, 1], "coefficient beta must be a finite number, got True"),
        ([math.inf, 1, 1], "coefficient alpha must be a finite number, got inf"),
        ("1.2,1.1", "must be three numbers alpha,beta,gamma, got 2: '1.2,1.1'"),
        ([1.2], "must be three numbers alpha, beta, gamma, got"),
        (7, "must be three numbers alpha, beta, gamma, got 7"),
        ("papre", "'papre' is not 'paper' or three numbers like 1.2,1.1,1.15, and there is no such file"),
        ("1.2,x,1.1", "'1.2,x,1.1' is not 'paper' or three numbers"),
        ("nan,1,1", "'nan,1,1' is not 'paper' or three numbers"),
    ],
)
def test_mistakes(value, message):
    with pytest.raises(UserError, match=message):
        load_coefficients(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpha: 1.2\n", "c.yaml: not coefficients"),
        ("- 1\n", "c.yaml: not coefficients"),
        ("effnas_coefficients: 2\n", "c.yaml: format 2 is unknown; this version reads 1"),
        ("effnas_coefficients: 1\nalpha: 1.2\nbeta: 1.1\n", "c.yaml: gamma is missing; coefficients are alpha, beta"),
        ("effnas_coefficients: 1\nalfa: 1.2\n", "c.yaml: field: unknown 'alfa'. Did you mean 'alpha'?"),
        ("effnas_coefficients: 1\nalpha: 0\nbeta: 1\ngamma: 1\n", r"c.yaml: coefficient alpha must be in \[1, 10\]"),
        ("effnas_coefficients: [\n", "c.yaml: not readable as plain YAML"),
        ("!!python/object/apply:os.getcwd []\n", "c.yaml: not readable as plain YAML"),
    ],
)
def test_damaged_files(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_coefficients(path)


def test_a_printout_shows_the_ratio():
    assert str(PAPER) == "alpha=1.2 beta=1.1 gamma=1.15 (MACs ×1.92 per step)"
