"""Run a command: compose its configuration with Hydra, call its function, print the result."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..space.errors import UserError, hide_passwords
from .annotations import read_kinds
from .arguments import ADDRESSES, Arguments, hide_addresses, parse_words, scan_words
from .commands import COMMANDS, Command
from .config_record import LEFT_OUT, record_configuration
from .hydra_settings import list_unheeded, take_mode
from .options import CONF, Options, read_options

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from .sweep import Sweep


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
    take_mode(arguments)
    addresses = hide_addresses(arguments)
    file = _take_file(command, arguments)
    multirun = "--multirun" in arguments.hydra
    from .errors import explain_error
    from .hydra_words import write_hydra_words  # needs Hydra, and --help does not
    from .job import begin_job, run_job
    from .sweep import Sweep

    sweep = Sweep() if multirun else None
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"

    def job(config: DictConfig) -> None:  # in another process too, where a launcher runs it there
        try:
            if sweep is not None:
                begin_job(sweep, config)
            with record_configuration(config):
                run_job(command, config, typed, sweep, file)
        except Exception as error:
            if sweep is None:
                raise _JobFailed from error
            text = explain_error(error, in_job=True)
            if text is None:
                raise
            if traceback_wanted:
                _print_traceback(error)
            begin_job(sweep, config, text)  # and the other jobs still run

    kinds = read_kinds(command.run, options)
    composed = write_hydra_words(arguments, options, kinds)
    if command.endings or os.environ.get("RANK", "0") != "0":  # torchrun's: the folder is the first process's
        composed.append(LEFT_OUT)
    for line in list_unheeded(arguments, options, kinds):
        print(f"note: {line}", file=sys.stderr)
    given = dict(arguments.overrides)
    if given.get(command.only_prints or "") == "true" and given.keys() <= {command.only_prints, "json", "quiet"}:
        composed += [] if arguments.output or multirun else ["hydra.run.dir=.", LEFT_OUT]
    with _environment(ADDRESSES, json.dumps(addresses) if addresses else None):
        if sweep is None:
            call_hydra(command, composed, job)
        else:
            with sweep.told():
                call_hydra(command, composed, job, sweep)


def _take_file(command: Command, arguments: Arguments) -> Path | None:
    """The file that is named as the output, of a command that writes one; Hydra is told its folder."""
    place = next((value for key, value in arguments.overrides if key == "hydra.run.dir"), arguments.output)
    if "--multirun" in arguments.hydra or not place or Path(place).suffix.lower() not in command.endings:
        return None
    arguments.overrides = [(key, value) for key, value in arguments.overrides if key != "hydra.run.dir"]
    arguments.output = str(Path(place).parent)
    return Path(place)


def call_hydra(
    command: Command,
    words: Sequence[str],
    job: Callable[[DictConfig], None] = lambda config: None,
    sweep: Sweep | None = None,
) -> None:
    """Compose the configuration and run the job or the sweep; a mistake on the way becomes one message.

    Args:
        command: whose configuration it is.
        words: for Hydra.
        job: what runs with each configuration.
        sweep: whose jobs they are, where they are several.

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
    except BrokenPipeError:  # of a reader that has gone: `--hydra-help | head`
        raise
    except (_JobFailed, Exception) as error:
        cause = error.__cause__ if isinstance(error, _JobFailed) else error
        assert cause is not None
        began = cause is not error or (sweep is not None and sweep.began)
        text = explain_error(cause, in_job=began)
        if text is None and began:
            raise cause from cause.__cause__
        if text is None:  # settings that Hydra itself stumbles over
            told = next(iter(str(cause).splitlines()), "")
            begun = sweep is not None and sweep.folder
            what = "the sweep cannot be launched" if begun else "the configuration cannot be composed"
            text = f"{what}: {type(cause).__name__}: {told:.200}"
        if traceback_wanted:
            _print_traceback(cause)
        raise UserError(text) from None


def _print_traceback(error: BaseException) -> None:
    hidden = json.loads(os.environ.get(ADDRESSES, "{}")).values()
    print(hide_passwords("".join(traceback.format_exception(error)), *hidden), end="", file=sys.stderr)


def _store(command: Command, *, complete: bool) -> None:
    """The job's schema, and Hydra's own settings under whichever primary config: fixed folders, so that the same
    command continues where it stopped, a sweep's jobs named by what differs between them, and no logs on standard
    output.
    """
    from hydra.conf import HydraConf, JobConf, RunDir, SweepDir
    from hydra.core.config_store import ConfigStore

    from .schema import make_schema

    store = ConfigStore.instance()
    for other in COMMANDS.values():  # a line that ran in this process before: what its schema has is no option here
        store.repo.pop(f"{other.config}_job.yaml", None)
    store.store(name=f"{command.config}_job", node=make_schema(command.load_run()) if complete else {})
    folder = f"outputs/{command.config}"
    settings = HydraConf(
        job=JobConf(name=command.config),
        run=RunDir(folder),
        sweep=SweepDir(f"{folder}-sweep", "${effnas_folder:}"),
        output_subdir=None,  # written by record_configuration instead
        callbacks={"effnas": {"_target_": f"{__package__}.sweep.Beginning"}},
    )
    for group in settings.defaults:
        group.update((key, "none") for key in group if key in ("job_logging", "hydra_logging"))
    store.store(group="hydra", name="config", node=settings, provider="effnas")


@contextlib.contextmanager
def _as_program(words: Sequence[str]) -> Iterator[None]:
    """Hydra reads its words from ``sys.argv``, and hands over its exceptions where this variable says so.

    For ``--info`` it sets up logging, which a process that runs other commands afterwards would have for good.
    """
    argv, told, root = sys.argv, logging.raiseExceptions, logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    sys.argv = ["effnas", *words]
    logging.raiseExceptions &= not any(word.startswith("--info") for word in words)  # logged, to `| head`
    try:
        with _environment("HYDRA_FULL_ERROR", "1"):
            yield
    finally:
        sys.argv, logging.raiseExceptions, root.handlers[:] = argv, told, handlers
        root.setLevel(level)


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
