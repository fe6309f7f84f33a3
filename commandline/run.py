"""Run a command: compose its configuration with Hydra, call its function, print the result."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..space.errors import UserError, hide_passwords, unknown
from ..space.files import write_text
from .annotations import read_kinds
from .arguments import hide_addresses, parse_words, scan_words
from .commands import COMMANDS, Command
from .config_record import LEFT_OUT, record_configuration
from .options import CONF, Options, read_options

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

#: Variable with the storages' addresses in full, by what Hydra is told of them: it writes what it is told to files. The
#: processes in which a sweep's jobs may run inherit it.
ADDRESSES = "EFFNAS_STORAGES"


class _JobFailed(BaseException):
    """Carries a job's exception past Hydra, which would print a line of its own about it."""


def find_options(name: str, words: Sequence[str]) -> Options:
    """The options of a command, of the configurations that the words after it choose."""
    hydra, chosen = scan_words(words)
    folders = [Path(folder) for folder in (hydra.get("--config-path") or CONF, hydra.get("--config-dir")) if folder]
    command = COMMANDS[name]
    return read_options(hydra.get("--config-name") or command.config, folders, chosen, command.positional)


def run_command(name: str, words: Sequence[str], options: Options) -> None:
    """Run a command with the words after it.

    Raises:
        UserError: a mistake of the user's.
        KeyboardInterrupt: after Ctrl-C.
    """
    command, typed = COMMANDS[name], hide_passwords(shlex.join(["effnas", name, *words]), *words)
    arguments = parse_words(words, options)
    addresses = hide_addresses(arguments)
    multirun = "--multirun" in arguments.hydra
    failed: dict[str, Exception] = {}

    def job(config: DictConfig) -> None:
        try:
            with record_configuration(config):
                _run_job(command, config, typed)
        except Exception as error:
            failed[_job_name() if multirun else ""] = error
            if multirun:
                raise  # the other jobs of the sweep still run
            raise _JobFailed from error

    from .hydra_words import write_hydra_words  # needs Hydra, and --help does not

    composed = write_hydra_words(arguments, options, read_kinds(command.run, options))
    if os.environ.get("RANK", "0") != "0":  # torchrun's: the folder is the first process's
        composed.append(LEFT_OUT)
    with _environment(ADDRESSES, json.dumps(addresses) if addresses else None):
        call_hydra(command, composed, job, failed)


def call_hydra(
    command: Command,
    words: Sequence[str],
    job: Callable[[DictConfig], None] = lambda config: None,
    failed: Mapping[str, Exception] | None = None,
) -> None:
    """Compose the configuration and run the job or the sweep; a mistake on the way becomes one message.

    Args:
        command: whose configuration it is.
        words: for Hydra.
        job: what runs with each configuration.
        failed: filled by ``job``: what its runs raised, by name.

    Raises:
        UserError: a mistake of the user's, before the job or in it.
    """
    import hydra

    from .errors import explain_error

    _store(command, complete="-sc" not in words)
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    start = hydra.main(config_path=str(CONF), config_name=command.config, version_base="1.3")(job)
    shown = io.StringIO() if any(word.startswith("--cfg=") for word in words) else sys.stderr
    try:
        with _as_program(words), contextlib.redirect_stderr(shown):
            start()
    except SystemExit as end:  # Hydra's for --cfg job --package=NAME, which it tells on standard error
        if end.code and isinstance(shown, io.StringIO):
            raise UserError(shown.getvalue().strip()) from None
        raise
    except (_JobFailed, Exception) as error:
        causes: Mapping[str, BaseException] = failed or {"": error}
        texts = []
        for job_name, cause in causes.items():
            text = explain_error(cause, in_job=bool(failed))
            if text is None and failed:
                raise cause from cause.__cause__
            if text is None:  # settings that Hydra itself stumbles over
                told = next(iter(str(cause).splitlines()), "")
                text = f"the configuration cannot be composed: {type(cause).__name__}: {told:.200}"
            if traceback_wanted:
                hidden = json.loads(os.environ.get(ADDRESSES, "{}")).values()
                print(hide_passwords("".join(traceback.format_exception(cause)), *hidden), end="", file=sys.stderr)
            texts.append(f"{job_name}: {text}" if job_name else text)
        raise UserError("\n".join(texts)) from None


def _run_job(command: Command, config: DictConfig, typed: str) -> None:
    """Run one job of Hydra's; only its result reaches standard output, whatever a library prints."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf, read_write

    from .schema import make_schema, read_arguments

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
    output = Path(settings.runtime.output_dir)
    if output.is_relative_to(Path.cwd()):  # messages and tables name it as the user would
        output = output.relative_to(Path.cwd())
    if settings.mode is RunMode.MULTIRUN:
        print(f"job {settings.job.num}: {_job_name()} -> {output}", file=sys.stderr)
    with _standard_output_as_error():
        given = read_arguments(run, config, output=output, command=typed)
        result = run(**given)
        text = ""
        if result:  # nothing comes from torchrun's processes but the first
            text = json.dumps(result, indent=2) if config.json else _result_text(command, result, given)
    if text:
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


def _store(command: Command, *, complete: bool) -> None:
    """The job's schema, and Hydra's own settings under whichever primary config: fixed folders, so that the same
    command continues where it stopped, a sweep's jobs named by what differs between them, and no logs on standard
    output.
    """
    from hydra.conf import HydraConf, JobConf, RunDir, SweepDir
    from hydra.core.config_store import ConfigStore

    from .schema import make_schema

    store = ConfigStore.instance()
    store.store(name=f"{command.config}_job", node=make_schema(command.load_run()) if complete else {})
    folder = f"outputs/{command.config}"
    settings = HydraConf(
        job=JobConf(name=command.config),
        run=RunDir(folder),
        sweep=SweepDir(f"{folder}-sweep", "${hydra.job.override_dirname}"),
        output_subdir=None,  # written by record_configuration instead
    )
    for group in settings.defaults:
        group.update((key, "none") for key in group if key in ("job_logging", "hydra_logging"))
    store.store(group="hydra", name="config", node=settings, provider="effnas")


def _job_name() -> str:
    from hydra.core.hydra_config import HydraConfig

    return HydraConfig.get().job.override_dirname


@contextlib.contextmanager
def _as_program(words: Sequence[str]) -> Iterator[None]:
    """Hydra reads its words from ``sys.argv``, and hands over its exceptions where this variable says so."""
    argv = sys.argv
    sys.argv = ["effnas", *words]
    try:
        with _environment("HYDRA_FULL_ERROR", "1"):
            yield
    finally:
        sys.argv = argv


@contextlib.contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """A variable for this process and those it starts; None: none of that name."""
    before = os.environ.pop(name, None)
    try:
        if value is not None:
            os.environ[name] = value
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
