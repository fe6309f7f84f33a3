"""Mistakes that users make: exit status 2 and one message that names the rule, the value and the choices."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from hydra.utils import get_object

from effnas.cli import main
from effnas.commandline.commands import COMMANDS
from effnas.evaluate.identity.moved import find_moved
from effnas.search.storage import open_study

GRID = "grid-alpha-beta-gamma --baseline efficientnet_b0"
#: What is typed, split at spaces, and fragments of the message, in order; FOLDER is ``--config-dir`` with a few files.
MISTAKES: list[tuple[str, list[str]]] = [
    # -- the command -----------------------------------------------------------------------------------
    ("", ["a command is needed: search, grid-alpha-beta-gamma, train, scale, predict, evaluate"]),
    ("serch", ["unknown 'serch'. Did you mean 'search'?", "search, grid-alpha-beta-gamma, train, scale, predict"]),
    ("train --help training=moden", ["training: unknown 'moden'. Did you mean 'modern'? Choose one of: finetune, "]),
    ("search --space tyni --help", ["space: unknown 'tyni'.", "Choose one of: accel_nasbench, "]),
    ("--phi 3 scale", ["the command comes first, then --phi"]),
    ("-sc install=tcsh", ["install=SHELL", "bash, zsh, fish"]),
    # -- flags and overrides ---------------------------------------------------------------------------
    ("scale 3", ["'3' is not an option", "--flag VALUE or key=VALUE", "--help"]),
    ("scale phi", ["'phi' has no value", "--phi VALUE or phi=VALUE"]),
    ("scale --phi", ["--phi needs a value", "phi=VALUE"]),
    ("scale --phi --json", ["--phi needs a value"]),
    ("scale --jsn", ["unknown '--jsn'. Did you mean '--json'?"]),
    (
        "scale --target-mac 4e8",
        ["unknown '--target-mac'. Did you mean '--target-macs' or ", "For all of them see --help"],
    ),
    ("scale +phii=3", ["unknown '+phii'. Did you mean 'phi'?"]),
    ("scale phi=[1,2", ["'phi=[1,2' cannot be read"]),
    ("scale phi=${size}", ["phi", "interpolation", "'size' not found"]),
    ("scale --phi three", ["phi must be a number, got 'three'"]),
    ("scale --phi 1,2", ["phi takes one value, got '1,2'", "add -m"]),
    ("scale phi=range(1,3)", ["phi=range(1,3)", "--multirun"]),
    ("scale phi=1 explain=maybe", ["explain must be true or false, got 'maybe'"]),
    ("search seed=0,1", ["seed takes one value, got '0,1'", "add -m"]),
    ("search --algorithm random,tpe", ["algorithm takes one value", "add -m"]),
    ("search data.pth=images", ["option: unknown 'data.pth'. Did you mean 'data.path'", "see --help"]),
    ("search hydra.run.dri=out", ["unknown 'hydra.run.dri'. Did you mean 'hydra.run.dir'?"]),
    # -- groups and keys -------------------------------------------------------------------------------
    ("search pruner=0.5", ["pruner: unknown '0.5'. Choose one of: curve, hyperband, median, mo_asha, none"]),
    ("search pruner=true", ["pruner: unknown 'true'"]),
    ("search pruner=[1,1]", ["pruner takes the name of one choice: curve, hyperband, median, mo_asha, none"]),
    ("search pruner={a:1}", ["pruner takes the name of one choice", "its options are pruner.KEY"]),
    ("search space=5", ["space: unknown '5'. Choose one of: accel_nasbench, lite0_sub, mnasnet"]),
    ("search space=null", ["space cannot be null; choose one of: accel_nasbench"]),
    ("search space=../search", ["space: unknown '../search'"]),
    ("search FOLDER space=list", ["list.yaml: a configuration is a mapping of settings, KEY: VALUE, got a list"]),
    ("search FOLDER space=bare", ["space: names no class", "_target_"]),
    ("search FOLDER space=deep", ["deep.yaml: not a configuration: nested too deeply"]),
    ("search FOLDER --config-name null_group", ["space is missing: give it with space=VALUE"]),
    ("search -m space=tiny,magic", ["space: unknown 'magic'"]),
    ("search hydra=null", ["hydra: Hydra's settings are given one by one, like hydra.run.dir=DIR"]),
    ("search ~hydra", ["~hydra: Hydra's settings are given one by one"]),
    ("search hydra.job.env_set=[1]", ["a list cannot take the place of a mapping"]),
    ("search hydra.verbose=5", ["the configuration cannot be composed"]),
    ("search ~data=[]", ["~data: data is an option of the command and stays; give it a value, data=VALUE"]),
    ("search ~json", ["~json: json is an option of the command and stays"]),
    ("search ~trials", ["~trials: trials is an option of the command and stays"]),
    ("train ~seed", ["~seed: seed is an option of the command and stays"]),
    ("search threads.=1", ["'threads.' is not an option"]),
    ("search space..a=1", ["'space..a' is not an option"]),
    ("scale --baseline timm:none.txt --phi 1", ["architecture: no such file: none.txt"]),
    ("export weights=5", ["weights: no such file: 5"]),
    ("cam weights=5", ["weights: must be a file's path, got 5"]),
    ("transfer data=5", ["data is set entry by entry: +data.NAME.KEY=VALUE"]),
    ("search --max-macs 5M", ["unknown '--max-macs'. Did you mean '--objective.max-macs'"]),
    ("train --trails 3", ["unknown '--trails'. Did you mean '--threads'? For all of them see --help"]),
    ("train seed=abc", ["seed must be a whole number, got 'abc'"]),
    ("train training.epochs=ten", ["training.epochs must be a whole number, got 'ten'"]),
    (f"search timeout={'9' * 400}", ["timeout must be a number, got 9999", "..."]),
    (f"scale --phi {'9' * 5000}", ["phi must be a finite number, got inf"]),
    (f"scale --family 0..{'9' * 5000}", ["family must be a range like 0..7"]),
    (f"scale coefficients={'[' * 3000} phi=1", ["coefficients: more than 100 brackets in a value"]),
    (f"scale --config-name {'x' * 300}", ["--config-name: unknown 'xxx"]),
    (f"scale --config-dir {'x' * 300}", ["--config-dir: no such folder: xxx"]),
    (f"search space={'x' * 300}", ["space: unknown 'xxx"]),
    ("scale --phi 1 -o", ["-o needs a folder: -o DIR"]),
    ("scale --phi 1 --output=", ["--output needs a folder: --output=DIR"]),
    ("scale --phi 1 -o a hydra.run.dir=b", ["-o and hydra.run.dir are the same: give one of them"]),
    # -- an option of a choice that is not made -----------------------------------------------------------
    ("search executor.cpus=2", ["unknown 'executor.cpus': executor=local has no such option; executor=ray has it"]),
    (f"{GRID} --executor.gpus 1", ["unknown 'executor.gpus': executor=local has no such option; executor=ray has it"]),
    (
        "rank executor=local executor.address=auto",
        ["unknown 'executor.address': executor=local has no such option; executor=ray"],
    ),
    (
        "search algorithm=random algorithm.population=4",
        ["algorithm=random has no such option; algorithm=evolution has"],
    ),
    (
        "search algorithm=random algorithm.kappa=4",
        ["algorithm=random has no options, and no other algorithm has"],
    ),
    ("search pruner.n_min_trials=1", ["pruner=none has no such option; pruner=median has it"]),
    (
        "search tracker.project=x",
        ["tracker=none has no such option; tracker=mlflow, tracker=trackio, tracker=wandb have"],
    ),
    ("search evaluator.repeats=x", ["evaluator=proxy has no such option; evaluator=tabular has it"]),
    ("search objective=accuracy objective.w=-1", ["objective=accuracy has no such option; objective=reward has it"]),
    (
        "search -m executor=local,ray executor.cpus=2",
        ["executor as it is chosen has no options; choose another one with executor=NAME"],
    ),
    # -- Hydra's own settings ----------------------------------------------------------------------------
    ("scale hydra/nope=x", ["Hydra's groups: unknown 'hydra/nope'", "hydra/launcher, hydra/sweeper"]),
    (
        "scale hydra.launcher=joblib",
        ["hydra.launcher is chosen as a group: hydra/launcher=NAME; its settings are hydra"],
    ),
    ("scale hydra.sweep=x", ["hydra.sweep is set entry by entry, like hydra.sweep.dir=VALUE, got 'x'"]),
    ("scale -m hydra.sweeper.params.phi=1 phi=1", ["hydra.sweeper.params is read from configuration files"]),
    (
        "scale -m hydra.sweeper.max_batch_size=0 phi=1",
        ["max_batch_size (jobs at a time; null: all) must be at least 1"],
    ),
    ("search evaluator.data.limit=3", ["option: evaluator.data is ${data}: write data.limit=VALUE"]),
    (
        "search evaluator=supernet evaluator.training.epochs=3",
        ["evaluator.training is ${training}: write training.epochs"],
    ),
    ("scale -m hydra.launcher.n_jobs=2 phi=1", ["hydra.launcher as it is chosen has no options; choose another one"]),
    ("scale -m hydra.sweep.subdir=x phi=1,2", ["all 2 jobs would have the same folder", "'${hydra.job.num}'"]),
    ("scale -m hydra.mode=RUN phi=1", ["only one of --run, --multirun at a time"]),
    ("scale --config-name grid --phi 1", ["this configuration is of another command, effnas grid"]),
    # -- sweeps ----------------------------------------------------------------------------------------
    ("scale -m phi=range(0,1e9)", ["the sweep has 1,000,000,000 jobs; at most 10,000 are run at once"]),
    ("scale -m phi=range(0,9) depth_rounding=glob(*)", ["the sweep has no jobs"]),
    ("scale -m phi=range(0,9,0)", ["phi: a range needs a start, a stop and a step that is not 0"]),
    ("scale -m phi=interval(0,1)", ["phi: an interval has no end of values"]),
    # -- Hydra's own flags -----------------------------------------------------------------------------
    ("scale --config-dir nowhere", ["--config-dir: no such folder: nowhere"]),
    ("scale --config-dir", ["--config-dir needs a value"]),
    ("scale --config-name scal", ["--config-name: unknown 'scal'. Did you mean 'scale'?", "grid, ", "scale, search"]),
    ("scale --cfg jobs", ["--cfg: unknown 'jobs'", "job, hydra, all"]),
    ("scale --cfg job --multirun", ["only one of", "--multirun and --cfg"]),
    ("scale --resolve", ["--resolve belongs to --cfg"]),
    ("scale --package nothing", ["--package belongs to --cfg"]),
    ("scale --cfg job --package nothing", ["'nothing' not found"]),
    ("scale --config-name --phi 1", ["--config-name: unknown '--phi'"]),
    ("scale --phi 1 hydra.run.dir=FOLDER/broken.yaml", ["broken.yaml", "exists"]),
    # -- configurations of one's own -------------------------------------------------------------------
    ("search FOLDER space=nowhere", ["space: unknown 'nowhere'", "broken", "mobile_cifar", "tiny"]),
    ("search FOLDER space=broken", ["broken.yaml", "not valid YAML", "line 3"]),
    ("search FOLDER data=lost", ["cannot import 'lost_module.Data'", "PYTHONPATH"]),
    ("search FOLDER data=strange", ["ImageData has no argument 'shape'", "it takes: source, path"]),
    ("search +data.colour=red", ["ImageData has no argument 'colour'", "it takes: source, path"]),
    ("search FOLDER --config-name open", ["space.width is missing", "space.width=VALUE"]),
    # -- effnas search ---------------------------------------------------------------------------------
    ("search --trials many", ["trials must be a whole number, got 'many'"]),
    ("search --trials 0", ["trials must be between 1 and 100000000, got 0"]),
    ("search --workers 0", ["workers must be", "got 0"]),
    ("search --timeout -1", ["timeout", "got -1"]),
    ("search --space tini", ["space: unknown 'tini'. Did you mean 'tiny'?", "accel_nasbench, lite0_sub, mnasnet"]),
    ("search --algorithm evolve", ["algorithm: unknown 'evolve'", "evolution", "predictor, random"]),
    ("search --pruner hyperbnd", ["Did you mean 'hyperband'?"]),
    ("search algorithm=evolution algorithm.population=ten", ["population must be a whole number, got 'ten'"]),
    ("search objective.w=1", ["w must be in", "got 1"]),
    ("search objective.max_macs=1k", ["no network of the space tiny", "1,000", "the nearest"]),
    ("search data=cifar10", ["data.path"]),
    ("search data=folder data.path=nowhere", ["data.path: no such file or folder: ", "nowhere"]),
    ("search data.holdout=2", ["data.holdout must be in (0, 1), got 2"]),
    ("search training.optimizer=sdg", ["optimizer: unknown 'sdg'. Did you mean 'sgd'?", "rmsprop, adamw"]),
    ("search evaluator.device=tpu", ["device", "'tpu'", "cpu"]),
    ("search --seed -1", ["seed must be between 0 and 4294967295, got -1"]),
    ("search --storage nonsense", ["storage nonsense: cannot be opened as an Optuna storage"]),
    ("search --objective rewrad", ["Did you mean 'reward'?", "accuracy, pareto, reward"]),
    ("search objective.metric=flops", ["metric: unknown 'flops'", "macs, params, activations, peak_memory, latency"]),
    ("search objective.target=lots", ["target must be", "'lots'"]),
    ("search objective=pareto objective.metrics=[accuracy,flops]", ["metrics: unknown 'flops'", "accuracy, macs"]),
    ("search objective=pareto objective.metrics=[macs,macs]", ["metrics must differ, got macs, macs"]),
    ("search objective=accuracy objective.max_params=10", ["tiny meets params ≤ 10", "nearest found has params"]),
    ("search objective.max_latency=-1", ["max_latency must be seconds above 0", "got -1"]),
    ("search algorithm=evolution algorithm.tournament=50", ["tournament must be between 1 and 20, got 50"]),
    (
        "search algorithm=random algorithm.prior=efficientnet_b0",
        ["unknown 'algorithm.prior': algorithm=random has no such option", "algorithm=predictor have it"],
    ),
    (
        "search algorithm.prior=efficientnet_b0",
        ["outside the space tiny: it has 7 stages, and the space's networks have 3"],
    ),
    ("search algorithm=nsga2 algorithm.population_size=1", ["algorithm: `population_size` must be greater than"]),
    ("search FOLDER space=one", ["space one: nothing to decide"]),
    ("search hydra.run.dir=FOLDER/used", ["used: holds another search (", "Continue it", "-o DIR"]),
    ("search hydra.run.dir=FOLDER/damaged", ["study.journal: line 1 is not a record of a study: ", "damaged"]),
    # -- effnas grid-alpha-beta-gamma ------------------------------------------------------------------
    ("grid-alpha-beta-gamma", ["outputs/search/baseline.yaml"]),
    ("grid-alpha-beta-gamma --baseline resnet51", ["'resnet51'", "Did you mean 'resnet", "efficientnet_b0"]),
    (f"{GRID} --tolerance 0.001 --step 0.2", ["within 0.001 of 2; the nearest, (", ": use a larger tolerance"]),
    (f"{GRID} --tolerance -1", ["tolerance must be in [0, inf], got -1"]),
    (f"{GRID} --step 0", ["step must be in (0, 1], got 0"]),
    (f"{GRID} --step 0.0001", ["combinations; at most 1,000,000 are allowed: use a larger step"]),
    (f"{GRID} --step 1e-9", ["makes more than 1,000,000 combinations; at most 1,000,000 are allowed"]),
    (f"{GRID} --step 1e-300 --ratio solved", ["makes more than 1,000,000 combinations; at most 20,000 are allowed"]),
    (f"{GRID} alpha=[0.5,1.2]", ["alpha: lowest value must be in [1, 10], got 0.5"]),
    (f"{GRID} beta=[1.2,1.1]", ["beta must be a range from low to high, got [1.2, 1.1]"]),
    (f"{GRID} gamma=1.15", ["gamma must be a range of two numbers such as [1.0, 1.4], got 1.15"]),
    (f"{GRID} --seeds 0", ["seeds must be between 1 and 100, got 0"]),
    (f"{GRID} --workers 0", ["workers must be", "got 0"]),
    (f"{GRID} --trials 5", ["option: unknown '--trials'. For all of them see --help"]),
    (f"{GRID} --data cifra10", ["data: unknown 'cifra10'. Did you mean 'cifar10'?"]),
    # -- effnas scale ----------------------------------------------------------------------------------
    ("scale", ["nothing to make", "phi=3", "preset=b3"]),
    ("scale --phi 1 --preset b1", ["phi and preset exclude each other"]),
    ("scale --preset b9", ["preset: unknown 'b9'", "b0, b1"]),
    ("scale --baseline resnet51 --phi 1", ["'resnet51'", "Did you mean 'resnet", "efficientnet_b0"]),
    ("scale --baseline FOLDER/broken.yaml --phi 1", ["broken.yaml"]),
    ("scale --coefficients 0.9,1.2,1.2 --phi 1", ["coefficient alpha must be in [1, 10], got 0.9"]),
    ("scale --coefficients 3,3,3 --phi 1", ["coefficients 3, 3, 3: alpha·beta²·gamma² is 243", "at most 4"]),
    ("scale --baseline resnet18 --rule resolution --phi -9", ["the resolution would be", "must be between 32"]),
    ("scale --target-macs 1K", ["target macs 1,000: out of reach; the smallest network, phi = -10, has macs"]),
    ("scale --baseline resnet18 --target-params 1", ["target params 1: out of reach; the smallest network"]),
    ("scale --coefficients 1,2 --phi 1", ["coefficients", "1,2"]),
    ("scale --family 3..1", ["family must be a range like 0..7", "'3..1'"]),
    ("scale --target-macs lots", ["target_macs must be", "400M", "'lots'"]),
    ("scale --target-params 5", ["params"]),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Configurations of one's own, all of them wrong."""
    mine = tmp_path / "mine"
    for group in ("space", "data", "used", "damaged"):
        (mine / group).mkdir(parents=True)
    broken = "_target_: effnas.space.space.SearchSpace\nname: [tiny\n"
    (mine / "broken.yaml").write_text(broken)
    (mine / "space" / "broken.yaml").write_text(broken)
    (mine / "space" / "list.yaml").write_text("- 1\n- 2\n")
    (mine / "space" / "bare.yaml").write_text("name: mine\n")
    (mine / "space" / "deep.yaml").write_text(f"name: {'[' * 20_000}\n")
    (mine / "null_group.yaml").write_text("defaults:\n  - search\n  - override space: null\n  - _self_\n")
    (mine / "data" / "lost.yaml").write_text("_target_: lost_module.Data\n")
    (mine / "data" / "strange.yaml").write_text("_target_: effnas.evaluate.data.ImageData\nsource: digits\nshape: 3\n")
    (mine / "space" / "one.yaml").write_text(
        "_target_: effnas.space.space.SearchSpace\nname: one\nstages: [{block: conv, channels: 8}]\n"
    )
    (mine / "damaged" / "study.journal").write_text("a file of mine\n")
    study = open_study(None, "search", mine / "used", ["maximize"], {"space": "another"})
    study.tell(study.ask(), 0.5)
    (mine / "open.yaml").write_text("defaults:\n  - search\n  - _self_\nspace:\n  stem: ${space.width}\n  width: ???\n")
    return mine


@pytest.mark.parametrize(("typed", "fragments"), MISTAKES, ids=[typed or "(nothing)" for typed, _ in MISTAKES])
def test_mistake(
    typed: str,
    fragments: list[str],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = []
    for word in typed.split():
        words += ["--config-dir", str(folder)] if word == "FOLDER" else [word.replace("FOLDER", str(folder))]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    command = f"effnas {words[0]}" if words and words[0] in COMMANDS else "effnas"
    assert captured.err.startswith(f"{command}: error: ")
    assert captured.err.count("error: ") == 1
    assert "Traceback" not in captured.err
    position = 0
    for fragment in fragments:
        assert fragment in captured.err[position:], captured.err
        position = captured.err.index(fragment, position) + len(fragment)


@pytest.mark.parametrize(
    ("group", "old"),
    [
        ("algorithm", "effnas.search.evolution.Evolution"),
        ("algorithm", "effnas.search.infeasible.CMAES"),
        ("algorithm", "effnas.search.infeasible.GP"),
        ("algorithm", "effnas.search.infeasible.NSGA2"),
        ("algorithm", "effnas.search.infeasible.NSGA3"),
        ("algorithm", "effnas.search.local.LocalSearch"),
        ("algorithm", "effnas.search.nni.NNITPE"),
        ("algorithm", "effnas.search.nni.NNIEvolution"),
        ("algorithm", "effnas.search.nni.NNIRegularizedEvolution"),
        ("algorithm", "effnas.search.ordinal.Ordinal"),
        ("algorithm", "effnas.search.predictor.Predictor"),
        ("algorithm", "effnas.search.reinforce.Reinforce"),
        ("training", "effnas.evaluate.recipe.Training"),
    ],
)
def test_a_class_that_has_moved(
    group: str, old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / group).mkdir()
    (tmp_path / group / "mine.yaml").write_text(f"_target_: {old}\n")
    monkeypatch.chdir(tmp_path)
    assert main(["search", "--config-dir", str(tmp_path), f"{group}=mine"]) == 2
    new = find_moved(old)
    assert new is not None
    assert new.endswith(f".{old.rpartition('.')[2]}")
    where = "evaluator.training" if group == "training" else group
    found = capsys.readouterr().err
    assert found == f"effnas search: error: {where}: _target_: {old} is now {new}\n"
    assert callable(get_object(new))


def test_old_paths_of_builders() -> None:
    for name in ("convnet", "googlenet", "mobilenet_v3", "resnet", "shufflenet_v2", "squeezenet"):
        new = find_moved(f"effnas.space.{name}.anything")
        assert new == f"effnas.space.builders.{name}.anything"
        import_module(new.rpartition(".")[0])
    assert find_moved("effnas.evaluate.data.ImageData") is None  # where it was
    assert callable(get_object("effnas.evaluate.data.ImageData"))


def test_a_class_of_ones_own_that_refuses_its_settings(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_objective.py").write_text(
        "from effnas.space.errors import UserError\n"
        "class Mine:\n"
        "    def __init__(self, weight=1):\n"
        "        raise UserError(f'weight must be below 1, got {weight}')\n"
        "class Broken:\n"
        "    def __init__(self):\n"
        "        raise TypeError('a bug of mine')\n"
    )
    (folder / "objective").mkdir()
    (folder / "objective" / "mine.yaml").write_text("_target_: my_objective.Mine\nweight: 2\n")
    (folder / "objective" / "buggy.yaml").write_text("_target_: my_objective.Broken\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["search", "--config-dir", str(folder), "--objective", "mine"]) == 2
    assert capsys.readouterr().err == "effnas search: error: weight must be below 1, got 2\n"
    assert main(["search", "--config-dir", str(folder), "--objective", "buggy"]) == 1
    assert "TypeError: a bug of mine" in capsys.readouterr().err
