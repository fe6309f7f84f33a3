"""A full disk, too few files, a folder where a file should be: one line, status 2, and nothing finished is lost."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import RandomSampler
from synthetic import decisions_and_scores, own_folder, python, search

from effnas.cli import main
from effnas.search.journal import check_journal
from effnas.space.errors import UserError, explain_os_error

AGAIN = "run the same command again"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "out/a"),
            r"^out/a: No space left on device \(ENOSPC\)",
        ),
        (
            OSError(errno.EMFILE, "Too many open files"),
            r"^Too many open files \(EMFILE\); make room or raise",
        ),
        (OSError(errno.EISDIR, "Is a directory", ".x.tmp", None, "x"), r"^x: Is a directory \(EISDIR\); remove it"),
        (OSError(errno.EROFS, "Read-only file system", b"x"), r"^x: Read-only file system \(EROFS\); remove it"),
        (OSError("odd"), r"^odd \(OSError\); run the same"),
    ],
)
def test_the_systems_refusals_in_one_line(error: OSError, text: str) -> None:
    assert re.search(text, explain_os_error(error))
    assert AGAIN in explain_os_error(error)


def words(folder: Path) -> list[str]:
    own = own_folder(folder / "own")
    return ["search", "--config-dir", str(own), "evaluator=synthetic", "algorithm=random", "trials=8"]


@pytest.mark.parametrize("limit", [12_000, 20_000])
@pytest.mark.slow
def test_a_file_that_may_not_grow(tmp_path: Path, limit: int) -> None:
    given = [*words(tmp_path), f"hydra.run.dir={tmp_path}/out"]
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, -1)); from effnas.cli import main; "
    process = python(["-c", code + "raise SystemExit(main())", *given], tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    assert re.search(r"study.journal: File too large \(EFBIG\); make room .* run the same command again", errors)
    check_journal(tmp_path / "out" / "study.journal")
    assert main(given) == 0
    search(tmp_path / "whole", trials=8, algorithm=RandomSampler)
    assert decisions_and_scores(tmp_path / "out") == decisions_and_scores(tmp_path / "whole")


@pytest.mark.parametrize("after", [0, 3, 12, 40])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_is_full_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, number: int
) -> None:
    from effnas.search import journal

    write, made = journal._write_whole, []

    def fail(*args: Any) -> None:
        made.append(args)
        if len(made) > after:
            raise OSError(number, os.strerror(number), "study.journal")
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_write_whole", fail)
        with pytest.raises(UserError, match=rf"study.journal: {os.strerror(number)} .*{AGAIN}"):
            search(tmp_path / "out", trials=8)
    assert search(tmp_path / "out", trials=8)["complete"] == 8
    search(tmp_path / "whole", trials=8)
    assert decisions_and_scores(tmp_path / "out") == decisions_and_scores(tmp_path / "whole")


@pytest.mark.parametrize(
    "name", ["trials.csv", "summary.json", "baseline.yaml", "study.journal", ".lock", "search.png"]
)
@pytest.mark.parametrize("kind", ["folder", "loop", "dangling"])
def test_something_else_where_a_file_should_be(
    tmp_path: Path, name: str, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    place = out / name
    if kind == "folder":
        place.mkdir()
        (place / "inside").write_text("mine")
    else:
        place.symlink_to(place if kind == "loop" else tmp_path / "nowhere" / "file")
    status = main([*words(tmp_path), f"hydra.run.dir={out}"])
    told = capfd.readouterr().err
    assert "Traceback" not in told
    assert status in (0, 2)  # results replace a link
    if kind == "folder":
        assert status == 2
        assert name in told.splitlines()[-1]
        assert (place / "inside").read_text() == "mine"
    if status == 2:
        place.rename(tmp_path / "elsewhere")
        assert main([*words(tmp_path), f"hydra.run.dir={out}"]) == 0
    assert check_journal(out / "study.journal")[1] == b""
