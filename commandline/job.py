"""One job of Hydra's: from its configuration to its result, and the name of its folder in a sweep."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, read_write

from ..space.errors import hide_passwords, unknown
from ..space.files import write_text
from .arguments import ADDRESSES
from .commands import Command
from .schema import make_schema, read_arguments
from .sweep import Outcome, Sweep, list_facts

#: Characters of the name of a job's folder.
MAX_NAME = 120


def name_folder(differs: str, number: object) -> str:
    """The name of a job's folder inside its sweep's: what differs between the jobs, as far as that can be a name.

    What has other characters (a path's) or is too long gets a mark of its own, so that no two jobs share a folder.

    Args:
        differs: ``key=value`` of the job, joined by commas.
        number: of the job, which names it where nothing differs.
    """
    safe = re.sub(r"[^\w.,=+@-]+", "_", differs, flags=re.ASCII).lstrip(".-")
    if safe == differs and len(safe) <= MAX_NAME:
        return safe or str(number)
    return f"{safe[: MAX_NAME - 9]}-{hashlib.sha256(differs.encode(errors='surrogatepass')).hexdigest()[:8]}"


def _folder(*, _root_: Any) -> str:
    job = OmegaConf.select(_root_, "hydra.job")
    number = "0" if OmegaConf.is_missing(job, "num") else job.num
    return name_folder(str(job.override_dirname or ""), number)


# Where this module is imported, in a launcher's processes too, as it holds the job.
OmegaConf.register_new_resolver("effnas_folder", _folder, replace=True)


def name_job() -> str:
    """What differs between the jobs of a sweep, of the one that runs, as far as a line holds it."""
    job = HydraConfig.get().job
    return f"{job.override_dirname:.200}" or f"job {job.num}"


def begin_job(sweep: Sweep, config: DictConfig, error: str = "") -> None:
    """Tell the sweep of the job that runs, whatever comes of it; ``error``: that it has failed, and why."""
    settings = HydraConfig.get()
    outcome = Outcome(settings.job.num, name_job(), error=error, overrides=[*settings.overrides.task])
    sweep.add(outcome, as_json=bool(config.get("json")))


def run_job(
    command: Command, config: DictConfig, typed: str, sweep: Sweep | None = None, file: Path | None = None
) -> None:
    """Run one job of Hydra's; only its result reaches standard output, whatever a library prints.

    Args:
        command: whose job it is.
        config: composed.
        typed: the command line, for the record.
        sweep: whose job it is, which is told what the job gave; None: of none.
        file: that is the output in place of Hydra's folder.

    Raises:
        UserError: a mistake of the user's.
    """
    run = command.load_run()
    schema = make_schema(run)
    names = [field.name for field in fields(schema)]
    for key in map(str, config):
        if key not in names:  # +key=value adds to a group's module, never to the job
            raise unknown("option", f"+{key}", names)
    if OmegaConf.get_type(config) is dict:  # a primary config of the user's that does not begin with the schema
        config = cast("DictConfig", OmegaConf.merge(OmegaConf.structured(schema), config))
    settings = HydraConfig.get()
    if isinstance(address := config.get("storage"), str):
        _clean_records(settings, address)
        with read_write(config):
            config.storage = json.loads(os.environ.get(ADDRESSES, "{}")).get(address, address)
    output = Path(settings.runtime.output_dir) if file is None else file
    if output.is_relative_to(Path.cwd()):  # messages and tables name it as the user would
        output = output.relative_to(Path.cwd())
    if sweep is not None and not config.quiet:
        name = settings.job.override_dirname and f": {name_job()}"
        print(f"job {settings.job.num}{name} -> {output}", file=sys.stderr)
    with _standard_output_as_error():
        given = read_arguments(run, config, output=output, command=typed, quiet=config.quiet)
        result = run(**given)
        text = ""
        if result:  # nothing comes from torchrun's processes but the first
            text = json.dumps(result, indent=2) if config.json else _result_text(command, result, given)
    if sweep is not None:
        told: dict[str, Any] = {"document": result} if config.json else {"text": text}
        told["overrides"] = [*settings.overrides.task]
        told["facts"] = {"folder": output.name, **list_facts(result)} if result else {}
        sweep.add(Outcome(settings.job.num, name_job(), **told), as_json=config.json)
    elif text:
        print(text, flush=True)


@contextlib.contextmanager
def _standard_output_as_error() -> Iterator[None]:
    """What Python, other code and other processes write to standard output goes to standard error."""
    sys.stdout.flush()
    with contextlib.ExitStack() as stack, contextlib.redirect_stdout(sys.stderr):
        with contextlib.suppress(OSError):  # one of them was closed before this process began
            kept = os.dup(1)
            stack.callback(os.close, kept)
            os.dup2(2, 1)
            stack.callback(os.dup2, kept, 1)
        yield


def _clean_records(settings: HydraConf, address: str) -> None:
    """Hide the password of an address that comes from a file of the user's in what Hydra has recorded."""
    if hide_passwords(address) == address:
        return
    subdir = settings.output_subdir  # of the user's choice; ours is written hidden
    records = [] if subdir is None else (Path(settings.runtime.output_dir) / subdir).glob("*.yaml")
    for file in (*records, Path(settings.sweep.dir) / "multirun.yaml"):
        if file.is_file():
            write_text(file, hide_passwords(file.read_text(encoding="utf-8"), address))


def _result_text(command: Command, result: Any, given: Mapping[str, Any]) -> str:
    """The text of the command's report, which receives the options that it asks for."""
    text = command.load_text()
    _, *asked = inspect.signature(text).parameters
    return text(result, **{name: given[name] for name in asked})
