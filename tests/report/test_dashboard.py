"""Optuna Dashboard opens the journal and the SQLite file of a search as they are."""

from __future__ import annotations

import json
import threading
import urllib.request
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from effnas.cli import main

pytestmark = pytest.mark.slow

dashboard = pytest.importorskip("optuna_dashboard", reason="needs optuna-dashboard")


class Silent(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_the_dashboard_shows_a_search(storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    monkeypatch.chdir(tmp_path)
    line = ["search", "--space", "tiny", "evaluator=zero_cost", "evaluator.proxies=[log_params]", "algorithm=random"]
    line += ["trials=4", "--quiet", "-o", "out", *(["storage=sqlite:///study.db"] if storage == "sqlite" else [])]
    assert main(line) == 0
    held: Any
    if storage == "sqlite":
        held = RDBStorage("sqlite:///study.db")
    else:
        held = JournalStorage(JournalFileBackend("out/study.journal"))
    server = make_server("127.0.0.1", 0, dashboard.wsgi(held), handler_class=Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"

        def ask(path: str) -> Any:
            with urllib.request.urlopen(address + path, timeout=20) as answer:
                return json.load(answer)

        (study,) = ask("/api/studies")["study_summaries"]
        name = study["study_name"]
        assert name == optuna.get_all_study_names(held)[0]
        detail = ask(f"/api/studies/{study['study_id']}")
        assert len(detail["trials"]) == 4
        assert detail["objective_names"] == optuna.load_study(study_name=name, storage=held).metric_names
        shown = {one["key"]: one["value"] for one in detail["user_attrs"]}
        assert "multiply-accumulates of one image" in shown["units"]
        assert "seconds per batch" in shown["units"]
        trial = detail["trials"][0]
        attributes = {one["key"] for one in trial["user_attrs"]}
        assert {"macs", "params", "merit"} <= attributes
        assert any(one["name"].startswith("block0_") for one in trial["params"])
    finally:
        server.shutdown()
        server.server_close()
