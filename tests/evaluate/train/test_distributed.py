"""Two processes that train together, over gloo on this machine's CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from effnas.evaluate.train.distributed import ALONE, synchronise_batch_norms, torchrun_group
from effnas.space.errors import UserError

#: Trains in one process or in several, and saves the weights: dropout, stochastic depth and augmentation draw other
#: numbers in each process, and are off.
SCRIPT = """
import sys
import torch
from effnas.evaluate.train.checkpoint import Checkpoint
from effnas.evaluate.data import ImageData
from effnas.evaluate.data.load import load_split
from effnas.evaluate.train.distributed import torchrun_group
from effnas.evaluate.train.recipe import Training
from effnas.evaluate.train.train import train
from effnas.space.architecture import Architecture
from effnas.space.stage import Stage
from effnas.space.network import build
from pathlib import Path

out, sync, accumulate, folder = sys.argv[1], sys.argv[2] == "sync", int(sys.argv[3]), sys.argv[4]
balance = sys.argv[5] or None
net = Architecture(
    (Stage("mbconv", 8, 2, expand_ratio=2, se_ratio=0.25),), stem=8, stem_stride=1, head=16, dropout=0.0,
    drop_path=0.0, resolution=8, in_channels=1, num_classes=10,
)
training = Training(
    epochs=3, batch_size=64, lr=0.4, ema_decay=0.9, clip_norm=1.0, sync_bn=sync, accumulate=accumulate, balance=balance,
    memory_format="channels_last", precision="fp32", compile=False,
)
with torchrun_group() as group:
    torch.manual_seed(0)
    model = build(net)
    split = load_split(ImageData(limit=400), 1)
    checkpoint = Checkpoint(Path(folder) / "checkpoint.pt", {}) if folder else None
    result = train(
        model, split.train, split.heldout, training, resolution=8, seed=1, report=lambda *_: None, threads=1,
        group=group, checkpoint=checkpoint,
    )
    if group.main:
        rows = [(row.train_loss, row.loss, row.accuracy) for row in result.history]
        torch.save({"rows": rows, "weights": model.state_dict()}, out)
    group.wait()
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "trains.py"
    path.write_text(SCRIPT)
    return path


def run(
    script: Path, processes: int, sync: bool = False, accumulate: int = 1, folder: str = "", balance: str = ""
) -> dict[str, object]:
    out = script.parent / f"{processes}{sync}{accumulate}{balance}.pt"
    command = [str(script), str(out), "sync" if sync else "each", str(accumulate), folder, balance]
    if processes > 1:
        command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out, weights_only=True)  # type: ignore[no-any-return]


def flat(found: dict[str, object]) -> torch.Tensor:
    weights: dict[str, torch.Tensor] = found["weights"]  # type: ignore[assignment]
    return torch.cat(
        [w.flatten().float() for name, w in weights.items() if "running" not in name and "tracked" not in name]
    )


@pytest.mark.slow
def test_two_processes_are_one_with_the_summed_batch(script: Path, tmp_path: Path) -> None:
    alone = run(script, 1)
    together = run(script, 2, sync=True)
    assert torch.allclose(flat(alone), flat(together), atol=2e-4)
    for a, b in zip(alone["rows"], together["rows"], strict=True):  # type: ignore[call-overload]
        assert a == pytest.approx(b, abs=2e-3)
    statistics = [
        torch.cat([w.flatten() for name, w in found["weights"].items() if "running" in name])  # type: ignore[attr-defined]
        for found in (alone, together)
    ]
    assert torch.allclose(*statistics, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_two_processes_balance_classes_as_one_does(balance: str, script: Path) -> None:
    alone, together = run(script, 1, balance=balance), run(script, 2, sync=True, balance=balance)
    assert torch.allclose(flat(alone), flat(together), atol=2e-4)
    for a, b in zip(alone["rows"], together["rows"], strict=True):  # type: ignore[call-overload]
        assert a == pytest.approx(b, abs=2e-3)


@pytest.mark.slow
def test_without_sync_each_process_normalises_its_part_as_accumulation_does(script: Path, tmp_path: Path) -> None:
    parts, together = run(script, 1, accumulate=2), run(script, 2, folder=str(tmp_path))
    assert torch.allclose(flat(parts), flat(together), atol=2e-4)
    assert not torch.allclose(flat(parts), flat(run(script, 1)), atol=2e-4)
    assert (tmp_path / "checkpoint.pt").is_file()
    again = run(script, 2, folder=str(tmp_path))  # every process goes on from the file of the first
    assert torch.equal(flat(again), flat(together))


def test_alone_nothing_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with torchrun_group() as group:
        assert group is ALONE
        assert (group.main, group.shard) == (True, (0, 1))
        values = torch.ones(2)
        assert group.sum(values) is values
        group.wait()


def test_half_of_torchruns_variables_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(UserError, match=r"RANK WORLD_SIZE set, LOCAL_RANK MASTER_ADDR MASTER_PORT not: .*torchrun"),
        torchrun_group(),
    ):
        pass


def test_batchnorm_is_its_own_again_afterwards() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    before = model[1]
    with synchronise_batch_norms(model, torch.device("cpu")):
        assert type(model[1]) is not nn.BatchNorm2d
        assert model[1].weight is before.weight
        x = torch.randn(3, 1, 8, 8)
        model.eval()
        assert torch.allclose(model(x), before.eval()(model[0](x)))
    assert model[1] is before
