"""Command lines that nobody would type: whatever they are, the end is a result or one message, and soon."""

from __future__ import annotations

import functools
import os
import random
import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from effnas.cli import main
from effnas.commandline.commands import COMMANDS
from effnas.commandline.options import CONF, read_options

LINES, SECONDS = 2000, 20
#: Lines at whose prompt the shell asks for more; each takes Hydra's composition.
PROMPTS = 400
#: Commands that take no time; of the others everything runs but the job itself.
REAL = ("scale", "reproduce", "compare")
BASES = {
    "search": ["", "algorithm=evolution", "-m seed=0,1", "space=mobile_cifar objective=pareto", "FOLDER --cfg job"],
    "grid-alpha-beta-gamma": ["--baseline efficientnet_b0", "step=0.1 alpha=[1,2]"],
    "train": ["--architecture efficientnet_b0 training=modern", "data=folder data.path=photos"],
    "scale": ["--phi 1", "--family 0..2", "--preset b1 --json", "--target-macs 500M", "-m phi=0,1", "--explain"],
    "evaluate": ["--weights a.safetensors --part test"],
    "export": ["a.safetensors --to onnx,python --data digits"],
    "cam": ["--weights a.safetensors,b.safetensors --images 0,1"],
    "reproduce": ["table2", "table=table7 --json"],
    "compare": ["--members efficientnet --references imagenet", "families={a:[efficientnet]} x=[macs]"],
    "transfer": ["--weights a --datasets digits +data.digits.limit=100", "+data@data.pets=folder"],
    "ablate": ["factors=[2,4] rules=[compound,depth]"],
    "profile": ["efficientnet_b0"],
    "predict": ["--from a.csv --at-macs 4.5G,9.9G"],
    "latency": ["measure --space tiny --members 3", "fit a.csv --space accel_nasbench --unit ms"],
    "compress": ["--weights a.safetensors --target-macs 5M", "--json"],
    "report": ["outputs/search outputs/grid", "runs=[a,b] --json -o page.html"],
    "rank": ["--shortcuts synflow,epochs_2 --members 80", "shortcuts={fair:{rule:fair}} data=digits --json"],
}
VALUES = [
    *("", "null", "true", "-1", "0", "5", "0.5", "nan", "inf", "1e400", "9" * 400, "9" * 5000, "1_000", "x" * 300),
    *(
        "[]",
        "{}",
        "[1,1]",
        "{a:1}",
        "[[",
        "{",
        "'",
        '"',
        "it's",
        "a=b",
        "a,b",
        ",",
        "(",
        ")",
        "~",
        "~nouser/x",
        "..",
        "é",
    ),
    *("${", "${a}", "${oc.env:NO}", "range(0,1e9)", "range(3)", "choice(a,b)", "glob(*)", "interval(0,1)", "[" * 2000),
    *("\udcff", "\x1b[31m", "\t", "a b", "-", "--", "=", "digits", "tiny", "none", "job", "mine", "list", "5,5", "1,2"),
]
WORDS = [
    *(
        "-m",
        "--multirun",
        "--cfg",
        "--cfg=job",
        "--cfg job",
        "--resolve",
        "--package",
        "--help",
        "-h",
        "--json",
        "--quiet",
    ),
    *(
        "-o",
        "--output",
        "-o out",
        "--config-name",
        "--config-dir",
        "--config-dir mine",
        "--config-path",
        "--info",
        "--run",
    ),
    *(
        "hydra=null",
        "hydra.run=5",
        "hydra.sweep.subdir=a",
        "hydra.verbose=5",
        "hydra.launcher=null",
        "hydra/launcher=x",
    ),
    *("--experimental-rerun x", "-sc", "~json", "~data", "+json=1", "++seed=x", "+a.b=1", "a/b=1", "data@x=digits"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run: a few configurations of one's own, right and wrong, and jobs that do nothing."""
    place = tmp_path / "a" / "b"
    for group in ("space", "data", "network"):
        (place / "mine" / group).mkdir(parents=True)
        (place / "mine" / group / "list.yaml").write_text("- 1\n")
        (place / "mine" / group / "5.yaml").write_text("a: 1\n")
        (place / "mine" / group / "mine.yaml").write_text("_target_: nowhere.Thing\nb: {c: 1}\n")
    (place / "mine" / "mine.yaml").write_text("defaults:\n  - search\n  - _self_\nseed: 3\n")
    (place / "mine" / "list.yaml").write_text("- 1\n")
    for name, command in COMMANDS.items():
        if name not in REAL:
            module, _, function = command.run.rpartition(".")
            run = getattr(import_module(f"effnas.{module}"), function)
            monkeypatch.setattr(f"effnas.{module}.{function}", functools.wraps(run)(lambda **options: None))
    monkeypatch.chdir(place)
    monkeypatch.setattr("effnas.scaling.scale.job.LATENCY_REPEATS", 1)
    return place


def mutated_lines(seed: int) -> Iterator[list[str]]:
    """Lines of every command in turn, each changed in one to three places."""
    rng = random.Random(seed)
    names = {name: read_options(command.config, [CONF], {}).names() for name, command in COMMANDS.items()}
    while True:
        for name in COMMANDS:
            words = rng.choice(BASES[name]).replace("FOLDER", "--config-dir mine").split()
            for _ in range(rng.randint(1, 3)):
                words = mutate(words, names[name], rng)
            yield [name if rng.random() > 0.01 else rng.choice(VALUES), *words]


def mutate(words: list[str], names: list[str], rng: random.Random) -> list[str]:
    """The words with one change."""
    words, at = [*words], rng.randrange(len(words) + 1)
    kind = rng.randrange(8)
    if kind <= 2:
        sign = rng.choice(["", "", "", "", "+", "++", "~"])
        words.insert(at, f"{sign}{rng.choice(names)}={rng.choice(VALUES)}")
    elif kind == 3:
        words[at:at] = [f"--{rng.choice(names).replace('_', '-')}", rng.choice(VALUES)]
    elif kind == 4:
        words[at:at] = rng.choice(WORDS).split()
    elif words and kind == 5:
        del words[at - 1]
    elif words and kind == 6:
        word, place = words[at - 1], rng.randrange(len(words[at - 1]) + 1)
        words[at - 1] = word[:place] + rng.choice(["", "=", ".", "~", "@", ",", "[", "é", "-", "x"]) + word[place + 1 :]
    else:
        words.insert(at, rng.choice(VALUES))
    return words


def test_every_command_is_tried() -> None:
    assert BASES.keys() == COMMANDS.keys()


@pytest.fixture
def no_hang() -> Iterator[None]:
    """A line that takes too long fails."""

    def hang(*_: Any) -> None:
        raise TimeoutError(f"{SECONDS} seconds are over")

    before = signal.signal(signal.SIGALRM, hang)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.usefixtures("folder", "no_hang")
def test_a_line_ends_in_a_result_or_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = []
    for words, _ in zip(mutated_lines(0), range(LINES), strict=False):
        signal.alarm(SECONDS)
        status = main(words)
        signal.alarm(0)
        error = capsys.readouterr().err
        right = status == 0 or (status == 2 and error.count("error: ") == 1)
        if not right or "Traceback" in error:
            wrong.append(f"{[word[:80] for word in words]}: {status}\n{error[-600:]}")
    assert not wrong, f"{len(wrong)} lines:\n" + "\n".join(wrong[:20])


@pytest.mark.slow
@pytest.mark.usefixtures("folder", "no_hang")
def test_completion_offers_words_and_says_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, rng = [], random.Random(1)
    for words, _ in zip(mutated_lines(1), range(PROMPTS), strict=False):
        line = " ".join(["effnas", *words]).replace("\x00", "")
        monkeypatch.setenv("COMP_LINE", line[:2000])  # the shell's, through an environment variable
        monkeypatch.setenv(
            "COMP_POINT", rng.choice([str(rng.randrange(len(line[:2000]) + 1)), "", "-1", "x", "9" * 30])
        )
        signal.alarm(SECONDS)
        status = main(["-sc", f"query={rng.choice(['bash', 'zsh', 'fish'])}"])
        signal.alarm(0)
        said = capsys.readouterr()
        if status or said.err or "Traceback" in said.out:
            wrong.append(f"{line[:200]!r} at {os.environ['COMP_POINT']!r}: {status}\n{said.err[-600:]}")
    assert not wrong, f"{len(wrong)} lines:\n" + "\n".join(wrong[:20])
