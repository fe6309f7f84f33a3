"""``effnas report``: the settings, and the page that is written."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..space.errors import UserError, explain_os_error, show
from ..space.files import write_text
from ..space.paths import as_path, as_text, is_file, is_folder
from .folders import find_folders, is_run, read_run, read_runs
from .page import make_page

log = logging.getLogger(__name__)

#: Of the page, where a folder is named.
NAME = "report.html"
ENDINGS = (".html", ".htm")


def run_report(
    runs: Sequence[str] | str = (),
    *,
    output: str | Path = "outputs/report",
    command: str = "",
) -> dict[str, Any]:
    """Put what runs have found on one page: a self-contained HTML file, for which nothing is loaded from elsewhere.

    Args:
        runs: folders that commands wrote, patterns of these, or of a sweep its folder. Of a run that has not ended
            what is there is shown.
        output: the file, or a folder of ``report.html``.
        command: as the user typed it, for the record.

    Returns:
        ``output`` (the file), ``bytes``, and ``runs``: of each its ``folder``, ``name`` on the page, ``command``,
        whether it is ``finished``, and ``notes`` on what is missing.

    Raises:
        UserError: no such folder, no results in it, or the file cannot be written.
    """
    file = _choose_file(as_path("output", output))
    found = read_runs(find_folders(_list_names(runs)))
    page = make_page(found, command)
    try:
        write_text(file, page)
    except OSError as error:
        raise UserError(explain_os_error(error)) from error
    return {
        "output": str(file),
        "bytes": len(page.encode()),
        "runs": [
            {
                "folder": str(run.folder),
                "name": run.name,
                "command": run.kind,
                "finished": run.finished,
                "notes": list(run.notes),
            }
            for run in found
        ],
    }


def _list_names(runs: Any) -> list[str]:
    if isinstance(runs, str | Path | int | float):
        return [str(runs)]
    several = runs is None or isinstance(runs, Iterable)
    if not several or any(isinstance(one, Mapping | list) for one in runs or ()):
        raise UserError(f"runs: must be folders, one or a list of them, got {show(runs)}")
    return [str(one) for one in runs or ()]


def write_report(folder: Path) -> None:
    """Write the page of a run beside its results, at its end; whatever goes wrong there is told, and ends no run.

    Args:
        folder: of the run, held by it.
    """
    try:
        write_text(folder / NAME, make_page(read_runs([folder])))
    except Exception as error:  # a run without its page is whole
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        log.warning("%s: no %s is written (%s); report=false asks for none", folder, NAME, told)


def tell_report(output: str | Path) -> list[str]:
    """A line for the terminal: where a run's page is; none where there is no page."""
    file = as_path("output", output) / NAME
    return [f"on one page: {as_text(file)}"] if is_file(file) else []


def _choose_file(output: Path) -> Path:
    """The file to write: no other command's results are there.

    Raises:
        UserError: the file is a folder, the folder is a file, or it has the results of another command.
    """
    if output.suffix.lower() in ENDINGS:
        if is_folder(output):
            raise UserError(f"output: {as_text(output)} is a folder; name a file: -o FILE.html")
        return output
    if is_file(output):
        raise UserError(f"output: {as_text(output)} is a file, and no HTML; name one: -o FILE.html")
    check_owner(output, "report")
    return output / NAME


def check_owner(folder: Path, command: str) -> None:
    """Refuse a folder of another command's; a file in it may be named.

    Raises:
        UserError: it has results of another command.
    """
    if not is_folder(folder) or not is_run(folder):
        return
    owner = read_run(folder, "").kind
    raise UserError(
        f"{as_text(folder)}: holds the results of effnas {owner or '?'}, which those of effnas {command} would replace "
        f"or be mixed with; choose another folder for effnas {command} with -o DIR, or name the file to write: "
        f"-o {as_text(folder / NAME)}"
    )
