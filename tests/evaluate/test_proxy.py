"""The evaluator that trains for a few epochs, on the embedded digits."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from effnas.evaluate.data import ImageData
from effnas.evaluate.data.load import load_split
from effnas.evaluate.data.sources import find_table
from effnas.evaluate.data.table import ImageTable
from effnas.evaluate.evaluation import Evaluation, Stopped
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.recipe import Training
from effnas.evaluate.train.train import train
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.network import build
from effnas.space.stage import Stage
from effnas.space.weights.weights import load_into, read_weights, save_weights

CONF = Path(__file__).resolve().parents[2] / "conf"
DIGITS = ImageData(source="digits")
NET = Architecture(
    stages=(Stage("ds", 16, stride=2), Stage("mbconv", 24, 2, stride=2, expand_ratio=2, se_ratio=0.25)),
    stem=16,
    stem_stride=1,
    head=64,
    resolution=8,
    in_channels=1,
    num_classes=10,
)
SHORT = Training(epochs=2, batch_size=64)


def recipe(name: str) -> Training:
    fields = yaml.safe_load((CONF / "training" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert fields.pop("_target_") == "effnas.evaluate.train.recipe.Training"
    return Training(**fields)


def quiet(epoch: int, accuracy: float) -> None:
    pass


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return Proxy(DIGITS, SHORT, device="cpu")(NET, seed=0, report=quiet)


def test_learns_and_says_what_it_measured(evaluation: Evaluation) -> None:
    assert evaluation.accuracy > 0.4  # chance is 0.1
    assert evaluation.cost == cost(NET)
    assert evaluation.latency is None
    assert evaluation.seconds > 0
    names = {"loss", "train_loss", "images_per_second", "epochs", "heldout_images", "image_passes"}
    assert set(evaluation.metrics) == names
    assert evaluation.metrics["epochs"] == 2


def test_the_same_seed_gives_the_same_accuracy_another_seed_another_network(evaluation: Evaluation) -> None:
    proxy = Proxy(DIGITS, SHORT, device="cpu")
    again = proxy(NET, seed=0, report=quiet)
    assert (again.accuracy, again.metrics["loss"]) == (evaluation.accuracy, evaluation.metrics["loss"])
    assert proxy(NET, seed=1, report=quiet).metrics["loss"] != evaluation.metrics["loss"]


def test_the_last_epoch_counts_and_all_are_reported() -> None:
    seen: list[tuple[int, float]] = []
    result = Proxy(DIGITS, SHORT)(NET, seed=0, report=lambda epoch, accuracy: seen.append((epoch, accuracy)))
    assert [epoch for epoch, _ in seen] == [1, 2]
    assert seen[-1][1] == result.accuracy


def test_stopped_passes() -> None:
    def stop(epoch: int, accuracy: float) -> None:
        raise Stopped(f"at {epoch}")

    with pytest.raises(Stopped, match=r"^at 1$"):
        Proxy(DIGITS, SHORT)(NET, seed=0, report=stop)


def test_the_test_part_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def find(data: ImageData, part: str, classes: tuple[str, ...] | None = None) -> ImageTable | None:
        asked.append(part)
        return find_table(data, part, classes)

    monkeypatch.setattr("effnas.evaluate.data.load.find_table", find)
    Proxy(replace(DIGITS, split_seed=11), replace(SHORT, epochs=1))(NET, seed=0, report=quiet)
    assert asked == ["train"]


def test_latency_where_asked_for() -> None:
    result = Proxy(DIGITS, replace(SHORT, epochs=1), device="cpu", latency_batch=2)(NET, seed=0, report=quiet)
    assert result.latency is not None
    assert 0 < result.latency < 5


def test_more_strides_than_pixels_still_train() -> None:
    deep = NET.with_(stages=tuple(Stage("mbconv", 16, stride=2, skip="pool", kernel_size=5) for _ in range(5)))
    assert deep.total_stride > deep.resolution
    assert Proxy(DIGITS, replace(SHORT, epochs=1))(deep, seed=0, report=quiet).accuracy > 0


def test_classes_must_agree() -> None:
    with pytest.raises(UserError, match="the data has 10 classes, the architecture 7"):
        Proxy(DIGITS, SHORT)(NET.with_(num_classes=7), seed=0, report=quiet)


def test_making_it_loads_nothing() -> None:
    Proxy(ImageData(source="files", path="/no/such/folder"), SHORT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"data": {"source": "digits"}},
            "data must be of type ImageData .`_target_: effnas.*ImageData`.*got dict",
        ),
        ({"training": None}, "training must be of type Training.*got NoneType"),
        ({"device": "gpu"}, "unknown 'gpu'.*Choose one of: auto, .*cpu"),
        ({"device": "cuda:99"}, "unknown 'cuda:99'"),
        ({"latency_batch": 0}, "latency_batch must be between 1 and"),
        ({"initial": 3}, "initial must be a file of weights or null, got 3"),
    ],
)
def test_mistakes(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Proxy(**{"data": DIGITS, "training": SHORT, **arguments})  # type: ignore[arg-type]


def test_the_papers_recipe() -> None:
    paper = recipe("paper")
    assert (paper.optimizer, paper.schedule, paper.ema_decay) == ("rmsprop", "exponential", 0.9999)
    assert paper.lr_at(6 * 312, 312, batch_size=4096) == pytest.approx(0.256 * 0.97**2)


@pytest.mark.parametrize("name", ["proxy", "paper"])
def test_recipes_name_every_field_and_explain_it(name: str) -> None:
    text = (CONF / "training" / f"{name}.yaml").read_text(encoding="utf-8")
    assert set(yaml.safe_load(text)) == {"_target_", *Training.__dataclass_fields__}
    assert text.startswith("# ")
    assert all("  # " in line for line in text.splitlines()[2:])


@pytest.mark.slow
def test_the_default_recipe_ranks_a_capable_network_above_a_crippled_one() -> None:
    proxy = Proxy(DIGITS, recipe("proxy"), device="cpu")
    crippled = NET.with_(stages=(Stage("mbconv", 2, stride=8, skip="none"),), head=4)
    good, bad = proxy(NET, seed=0, report=quiet), proxy(crippled, seed=0, report=quiet)
    assert good.accuracy > 0.8
    assert good.accuracy > bad.accuracy + 0.1


def test_a_fixed_number_of_threads_is_used_and_given_back() -> None:
    seen = []

    before = torch.get_num_threads()
    Proxy(DIGITS, Training(epochs=1), threads=3)(NET, seed=0, report=lambda *_: seen.append(torch.get_num_threads()))
    assert seen == [3]
    assert torch.get_num_threads() == before


def test_threads_must_be_a_number() -> None:
    with pytest.raises(UserError, match="threads must be between 1 and 4096, got 0"):
        Proxy(DIGITS, Training(), threads=0)


# -- starting from a smaller member of the family -------------------------------------------------------


@pytest.fixture(scope="module")
def smaller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of NET after six epochs, as ``effnas train`` writes them."""
    split = load_split(DIGITS, 1)
    torch.manual_seed(0)
    model = build(NET)
    settings = {"resolution": NET.resolution, "seed": 0, "report": quiet}
    train(model, split.train, split.heldout, replace(SHORT, epochs=6), **settings)  # type: ignore[arg-type]
    pixels = split.train.pixels
    return save_weights(
        tmp_path_factory.mktemp("smaller") / "weights.safetensors",
        model,
        architecture=NET,
        normalization=(pixels.mean, pixels.std),
        classes=split.classes,
    )


GROWN = NET.scaled(1.5, 1.5, NET.resolution)


def test_candidates_start_from_a_smaller_member(smaller: Path) -> None:
    """At a learning rate of nearly nothing a candidate is what it starts from, and another seed the same network."""
    still = replace(SHORT, epochs=1, lr=1e-9, warmup_epochs=0, bn_momentum=1e-9, precision="fp32")
    start = Proxy(DIGITS, still, initial=str(smaller))(NET, seed=0, report=quiet)
    assert start.accuracy > 0.8
    for seed in (0, 1):
        found = Proxy(DIGITS, still, initial=str(smaller))(GROWN, seed=seed, report=quiet)
        assert found.accuracy == start.accuracy
        assert found.metrics["loss"] == pytest.approx(start.metrics["loss"], rel=1e-4)
    cold = Proxy(DIGITS, SHORT)(GROWN, seed=0, report=quiet)
    warm = Proxy(DIGITS, SHORT, initial=str(smaller))(GROWN, seed=0, report=quiet)
    assert warm.metrics["loss"] < cold.metrics["loss"]
    assert warm.cost == cold.cost


def test_the_images_are_normalised_as_the_weights_want_them(smaller: Path, tmp_path: Path) -> None:
    model = build(NET)
    load_into(model, read_weights(smaller))
    other = save_weights(tmp_path / "w.safetensors", model, architecture=NET, normalization=((0.0,), (1000.0,)))
    still = replace(SHORT, epochs=1, lr=1e-9, warmup_epochs=0, bn_momentum=1e-9, precision="fp32")
    right, wrong = (Proxy(DIGITS, still, initial=str(file))(NET, seed=0, report=quiet) for file in (smaller, other))
    assert wrong.accuracy < right.accuracy - 0.2


def test_a_file_that_is_written_again_is_read_again(smaller: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(smaller.read_bytes())
    proxy = Proxy(DIGITS, SHORT, initial=str(file))
    proxy.prepare()
    file.write_bytes(smaller.read_bytes()[:1000])
    os.utime(file, ns=(1, 1))
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        proxy.prepare()


def test_weights_that_candidates_cannot_start_from(smaller: Path, tmp_path: Path) -> None:
    def call(file: Path, network: Architecture = NET, data: ImageData = DIGITS) -> None:
        Proxy(data, SHORT, initial=str(file))(network, seed=0, report=quiet)

    missing = tmp_path / "none.safetensors"
    with pytest.raises(UserError, match=f"^weights: no such file: {missing}$"):
        Proxy(DIGITS, SHORT, initial=str(missing)).prepare()
    text = (
        f"initial: the network cannot start from {smaller}: the networks are not a smaller and a larger member of one "
        "family: stage 0: kernel_size is 3 in the smaller and 5 in the larger. Only"
    )
    with pytest.raises(UserError, match=f"^{re.escape(text)}"):
        call(smaller, NET.with_(stages=(replace(NET.stages[0], kernel_size=5), NET.stages[1])))
    nameless = tmp_path / "state.pt"
    torch.save(build(NET).state_dict(), nameless)
    text = (
        f"initial: {nameless} (effnas format) does not name its network; give a file that effnas train wrote "
        "(weights.safetensors)"
    )
    with pytest.raises(UserError, match=f"^{re.escape(text)}$"):
        Proxy(DIGITS, SHORT, initial=str(nameless)).prepare()
    letters = save_weights(tmp_path / "letters.safetensors", build(NET), architecture=NET, classes=list("abcdefghij"))
    text = (
        f"initial: {letters} was trained on other classes (a, b, c, d, e, f, g, h, i, j) than the data has (0, 1, 2, "
        "3, 4, 5, 6, 7, 8, 9): train the smaller network on the same data"
    )
    with pytest.raises(UserError, match=f"^{re.escape(text)}$"):
        call(letters)


# -- stopped early, and gone on with -------------------------------------------------------------------

FOUR = Training(epochs=4, batch_size=64, ema_decay=0.9, precision="fp32", memory_format="contiguous")
FEW = ImageData(source="digits", limit=300)


class Judge:
    """Keeps what is reported, and stops after some epochs, each once."""

    def __init__(self, *stops: int) -> None:
        self.stops, self.reports = list(stops), []

    def __call__(self, step: int, accuracy: float, train_accuracy: float | None = None) -> None:
        self.reports.append((step, accuracy, train_accuracy))
        if step in self.stops:
            self.stops.remove(step)
            raise Stopped


def leave(proxy: Proxy, folder: Path) -> Proxy:
    return proxy.keeping(str(folder / "weights")).checkpointing(str(folder / "checkpoints"))


@pytest.mark.parametrize("stops", [(1,), (1, 3), (2, 3)])
def test_a_stopped_candidate_goes_on_as_if_it_had_not_been(stops: tuple[int, ...], tmp_path: Path) -> None:
    proxy, whole, parts = Proxy(FEW, FOUR, device="cpu", threads=1), Judge(), Judge(*stops)
    once = leave(proxy, tmp_path / "once")(NET, seed=3, report=whole)
    again = leave(proxy, tmp_path / "parts")
    for _ in stops:
        with pytest.raises(Stopped, match=r"^$"):
            again(NET, seed=3, report=parts)
    del parts.reports[:]
    gone_on = again(NET, seed=3, report=parts)
    assert gone_on.accuracy == once.accuracy
    assert gone_on.metrics["loss"] == once.metrics["loss"]
    assert parts.reports == whole.reports  # those before the stop once more
    assert [step for step, _, _ in whole.reports] == list(proxy.reported_steps()) == [1, 2, 3, 4]
    assert all(0 <= train <= 1 for _, _, train in whole.reports)
    (first,), (second,) = ((tmp_path / name / "weights").glob(".*.safetensors") for name in ("once", "parts"))
    assert read_weights(str(first)).tensors.keys() == read_weights(str(second)).tensors.keys()
    for name, tensor in read_weights(str(first)).tensors.items():
        assert torch.equal(tensor, read_weights(str(second)).tensors[name]), name


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_is_trained_again(
    damage: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = leave(Proxy(FEW, FOUR, device="cpu", threads=1), tmp_path)
    with pytest.raises(Stopped, match=r"^$"):
        proxy(NET, seed=0, report=Judge(2))
    (file,) = (tmp_path / "checkpoints").glob("*")
    file.write_bytes(file.read_bytes()[:5000] if damage is None else damage)
    judge = Judge()
    assert proxy(NET, seed=0, report=judge).accuracy == judge.reports[-1][1]
    assert [step for step, _, _ in judge.reports] == [1, 2, 3, 4]
    assert "the candidate is trained from the beginning" in caplog.text


@pytest.mark.parametrize(("epochs", "every", "steps"), [(5, 1, (1, 2, 3, 4, 5)), (5, 2, (2, 4, 5)), (3, 9, (3,))])
def test_says_after_which_epochs_it_measures(epochs: int, every: int, steps: tuple[int, ...]) -> None:
    training = replace(SHORT, epochs=epochs, eval_every=every)
    assert Proxy(DIGITS, training, device="cpu").reported_steps() == steps
