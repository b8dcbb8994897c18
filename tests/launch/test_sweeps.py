"""Sweeps: names of jobs, failures among them, and taking a sweep up again."""

import gc
import json
import logging
import math
import re
import signal
import weakref
from pathlib import Path

import pytest
import torch
import yaml
from cli import ROOT, TINY, call, succeed, wandb_ids, wandb_sessions
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import ccdiff.train.assembly
import ccdiff.train.job
from ccdiff.config.build import plain
from ccdiff.config.differences import WITHOUT_EFFECT, any_of, config_hash, difference, flat
from ccdiff.launch import checking
from ccdiff.launch.sweeps import _fixed_keys, job_name, keep_going
from ccdiff.runs.checkpoints import load_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.runs.record import read_record
from ccdiff.system import device
from tests.config.test_configs import composed
from tests.train.test_train import rows

SWEEP = ("-m", "seed=0,1,2", "schedule=linear", "hydra.sweep.dir=sweep", *TINY)
OVERRIDES = [
    "seed=0",
    "schedule=linear,seed=0",
    "optimizer.lr=1e-3,trainer.steps=5",
    "model.channels=[8,16],seed=1",
    "model.channels=[8],seed=1",
    "data.root=/tmp/a b/../c",
    "data.root=/tmp/a_b/../c",
    "labels='x;rm -rf $HOME'",
    "conditioning.drop=-0.5",
    ",".join(f"group_{i}.some_key={i}" for i in range(60)),
    ",".join(f"group_{i}.some_key={i + 1}" for i in range(60)),
    "",
]


@pytest.mark.parametrize("overrides", OVERRIDES)
def test_job_names_need_no_quotes_anywhere(overrides):
    name = job_name(overrides)
    assert re.fullmatch(r"\w[\w.+-]*", name)
    assert len(name) < 140
    (parsed,) = OverridesParser.create().parse_overrides([f"run=multirun/day/{name}"])
    assert not parsed.is_sweep_override()
    assert parsed.value() == f"multirun/day/{name}"


def test_job_names_tell_jobs_apart():
    assert len({job_name(overrides) for overrides in OVERRIDES}) == len(OVERRIDES)
    assert job_name("schedule=linear,seed=0") == "schedule-linear+seed-0"


def test_a_key_that_is_given_twice_names_jobs_if_it_is_varied_once():
    overrides = ["model.channels=[8,16]", "seed=0", "model.channels=[8,16],[8,8]"]
    assert _fixed_keys(overrides) == ["seed"]


def test_keys_without_effect_exist_and_leave_the_hash():
    cfg = plain(composed("data=folder", "data.root=x"))
    keys = {*flat(cfg), *flat(plain(composed("data=cifar10")))}
    for key in WITHOUT_EFFECT:
        assert any(any_of(other, [key]) for other in keys), key
    other = plain(
        composed("data=folder", "data.root=y", "trainer.steps=7", "tracker=none", "resume=z")
    )
    assert config_hash(cfg) == config_hash(other)
    assert difference(cfg, other) == {}


@pytest.mark.parametrize("override", ["seed=1", "optimizer.lr=1e-5", "schedule=linear"])
def test_what_decides_the_result_is_in_the_hash(override):
    cfg, other = plain(composed()), plain(composed(override))
    assert config_hash(cfg) != config_hash(other)
    assert any(override.split("=")[0] in key for key in difference(cfg, other))


def jobs(folder: Path) -> dict[int, Path]:
    return {seed: folder / f"seed-{seed}" for seed in range(3)}


def weights(job: Path) -> dict[str, torch.Tensor]:
    checkpoint = load_checkpoint(Run(job).latest_checkpoint())
    return {f"{s}.{k}": v for s in ("denoiser", "ema") for k, v in checkpoint[s].items()}


def stamps(job: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in job.rglob("*.pt")}


class Failing:
    """Training that runs out of memory half-way where the seed is 1."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.train = ccdiff.train.assembly.train
        self.left_over: weakref.ref | None = None
        self.freed: list[bool] = []

    def __call__(self, update, *, hooks, **settings):
        if self.left_over is not None:
            self.freed.append(self.left_over() is None)

        seed = update.seed  # All that the hook may hold.

        def fail(state):
            if seed == 1 and state.step == 4:
                raise self.error

        if seed == 1:
            self.left_over = weakref.ref(update.state.denoiser)
        fail.every, fail.name = 1, "failing"
        self.train(update, hooks=[*hooks, fail], **settings)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Three jobs of which the second fails, what was printed, and whether it was freed."""
    folder = tmp_path_factory.mktemp("sweep")
    failing = Failing(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ccdiff.train.assembly, "train", failing)
        patch.setenv("SOME_TOKEN", "hush-hush-4711")
        done = call("train.py", *SWEEP, cwd=folder)
    failing.error = None
    return folder, done, failing


@pytest.fixture(scope="module")
def again(sweep):
    """The same sweep, launched once more by the same command, and the stamps of before."""
    folder = sweep[0]
    before = {seed: stamps(job) for seed, job in jobs(folder / "sweep").items()}
    return succeed("train.py", *SWEEP, cwd=folder), before


def test_a_failing_job_does_not_stop_the_others(sweep):
    folder, done, failing = sweep
    assert done.status == 1
    records = {seed: read_record(Run(job)) for seed, job in jobs(folder / "sweep").items()}
    assert [records[seed].status for seed in range(3)] == ["finished", "failed", "finished"]
    assert "out of memory" in records[1].error
    assert records[1].step == 4
    assert failing.freed == [True]


def test_summary_and_log_tell_what_happened(sweep):
    folder, done, _ = sweep
    assert "2 of 3 jobs finished" in done.printed
    assert re.search(r"seed-1 +failed: OutOfMemoryError: CUDA out of memory", done.printed)
    assert f"resume={folder / 'sweep'}" in done.printed or "resume=sweep" in done.printed
    job_log = (folder / "sweep/seed-1/train.log").read_text()
    assert "CUDA out of memory" in job_log
    assert "trainer.batch_size" in job_log  # What takes less memory is named, and no traceback.
    assert "Traceback" not in job_log
    assert "memory" not in (folder / "sweep/seed-0/train.log").read_text()


def test_a_job_that_ends_before_it_has_a_record_counts(tmp_path):
    varied = ("-m", "trainer.accumulate=3,5", "hydra.sweep.dir=sweep", "tracker=none")
    done = call("train.py", *varied, *TINY, cwd=tmp_path)
    assert done.status == 1
    assert "0 of 2 jobs finished" in done.printed
    assert re.search(r"\n  trainer.accumulate-3  refused: .*trainer.accumulate=3", done.printed)
    assert "Traceback" not in done.printed
    compared = call("ccdiff.compare", "sweep", cwd=tmp_path)
    assert compared.printed.count("no result: trainer.accumulate-") == 2


@pytest.mark.parametrize(
    ("varied", "told"),
    [
        # Hydra finds it only where the batch with it begins.
        (("seed=0,six", "hydra.sweeper.max_batch_size=1"), "seed: Value 'six'"),
        (("schedule=linear,linaer",), "did you mean linear?"),
        # What a class takes, no composing finds.
        (("data.flip=no,perhaps", "seed=0,1"), "data.flip=perhaps seed=0: data.flip must be true"),
        (("seed=0,99999999999999999999",), "1 of 2 jobs tried would be refused"),
        # Of many jobs each value once.
        (("seed=range(0,9)", "data.flip=no,si"), "2 of 4 jobs tried would be refused"),
    ],
    ids=lambda part: part[0] if isinstance(part, tuple) else "",
)
def test_nothing_is_trained_where_a_later_job_would_be_refused(
    tmp_path, monkeypatch, varied, told
):
    monkeypatch.setattr(ccdiff.train.job, "run_experiment", lambda *_: pytest.fail("trained"))
    monkeypatch.setattr(checking, "_MOST_JOBS", 4)
    arguments = ("-m", *varied, "hydra.sweep.dir=sweep", *TINY)
    done = call("train.py", *arguments, cwd=tmp_path)
    assert done.status == 1
    assert told in done.printed
    assert "Traceback" not in done.printed
    assert not (tmp_path / "sweep").exists()


def test_of_a_sweep_each_value_is_looked_at():
    few = [["a=1", "a=2"], ["b=1"], ["c=1", "c=2"]]
    assert len(checking._jobs(few)) == 4
    many = [[f"{key}={i}" for i in range(9)] for key in "abc"]
    jobs = checking._jobs(many)
    assert len(jobs) == 1 + 3 * 8
    assert {value for job in jobs for value in job} == {value for few in many for value in few}
    parser = OverridesParser.create()
    for text, ends in (("interval(1,8)", ["lr=1.0", "lr=8.0"]), ("choice(1,2)", ["lr=1", "lr=2"])):
        (override,) = parser.parse_overrides([f"lr={text}"])
        assert checking._values(override) == ends


@pytest.mark.parametrize(("result", "counted"), [(0.5, 0.5), (math.nan, math.inf)])
def test_a_search_is_never_told_a_result_that_is_no_number(result, counted):
    assert keep_going(lambda cfg: result)(OmegaConf.create()) == counted


def test_wandb_has_the_group_the_state_and_the_flat_config_of_each_job(sweep):
    folder, _, _ = sweep
    codes, ids = {}, set()
    for seed, job in jobs(folder / "sweep").items():
        (records,) = wandb_sessions(job)
        (start,) = [record["run"] for record in records if "run" in record]
        ids.add(start["run_id"])
        assert start["run_group"].endswith("sweep")
        assert start["job_type"] == "train"
        assert {"schedule=linear", f"seed={seed}"} <= set(start["tags"])
        (end,) = [record["exit"] for record in records if "exit" in record]
        codes[seed] = end.get("exit_code", 0)
        text = json.dumps(records)
        assert "samples/ema" in text
        assert "optimizer/lr" in text
        assert '\\"linear\\"' in text or '"linear"' in text
    assert codes == {0: 0, 1: 1, 2: 0}
    assert len(ids) == 3


def test_the_same_command_trains_only_what_is_left(sweep, again):
    folder, _, _ = sweep
    done, before = again
    assert "3 of 3 jobs finished" in done.printed
    for seed in (0, 2):
        assert stamps(jobs(folder / "sweep")[seed]) == before[seed]
    record = read_record(Run(folder / "sweep/seed-1"))
    assert [(s.from_step, s.to_step) for s in record.sessions] == [(0, 4), (3, 6)]
    steps = [(row["step"], sorted(row)[1]) for row in rows(folder / "sweep/seed-1")]
    assert len(steps) == len(set(steps)) == len(rows(folder / "sweep/seed-0"))
    assert set(wandb_ids(folder / "sweep/seed-1")) == {record.tracker_id}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A sweep that was stopped within its second job, then taken up by its folder."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ccdiff.train.assembly, "train", Failing(KeyboardInterrupt()))
        assert call("train.py", *SWEEP, cwd=folder).status == 128 + signal.SIGINT
    states = [read_record(Run(job)) for job in jobs(folder / "sweep").values()]
    done = succeed("train.py", "-m", "resume=sweep", "tracker=none", cwd=folder)
    return folder, [state and state.status for state in states], done


def test_a_resumed_sweep_equals_an_uninterrupted_one(interrupted, sweep, again):
    folder, states, done = interrupted
    assert states == ["finished", "interrupted", None]
    assert "3 of 3 jobs finished" in done.printed
    for seed in range(3):
        whole, parts = (weights(jobs(f / "sweep")[seed]) for f in (sweep[0], folder))
        assert all(torch.equal(parts[key], value) for key, value in whole.items()), seed
    assert not list((folder / "sweep/seed-2").glob("wandb"))


def test_a_run_of_another_config_is_left_alone(sweep, again):
    folder, _, _ = sweep
    before = stamps(folder / "sweep")
    changed = [key for key in SWEEP if "batch_size" not in key]
    done = call("train.py", *changed, "trainer.batch_size=8", cwd=folder)
    assert done.status == 1
    assert "trainer.batch_size=8 (there 16)" in done.printed
    assert "0 of 3 jobs finished" in done.printed
    assert stamps(folder / "sweep") == before
    done = succeed("train.py", "resume=sweep", cwd=folder)
    assert "3 of 3 jobs finished" in done.printed


def test_a_record_repeats_a_run_and_holds_no_secret(sweep, again):
    folder, _, _ = sweep
    record = read_record(Run(folder / "sweep/seed-2"))
    assert record.command.startswith("python train.py ")
    assert "seed=2" in record.command
    assert record.seeds == {"seed": 2, "grids": 0}
    assert record.images_seen == 6 * 16
    assert torch.__version__.startswith(record.packages["torch"])
    assert record.choices["schedule"] == "linear"
    assert record.device.startswith("cpu")
    assert "hush-hush" not in (folder / "sweep/seed-2/record.json").read_text()


def test_grids_of_all_seeds_start_from_the_same_noise(tmp_path):
    # A network that returns zero until it has learned, and never learns, leaves the noise alone.
    still = ("optimizer.lr=1e-30", "optimizer.weight_decay=0", "tracker=none")
    tiny = [key for key in TINY if "trainer.steps" not in key]
    arguments = ("-m", "seed=0,1", "hydra.sweep.dir=sweep", *tiny, "trainer.steps=1", *still)
    succeed("train.py", *arguments, cwd=tmp_path)
    first, second = (
        (tmp_path / f"sweep/seed-{seed}/samples/grid.png").read_bytes() for seed in (0, 1)
    )
    assert first == second


class Waited(Exception):
    pass


def test_each_job_has_a_gpu_of_its_own(monkeypatch, tmp_path):
    def wait(seconds: float) -> None:
        raise Waited

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(device.time, "sleep", wait)
    with device.own_gpu("auto") as first:
        with device.own_gpu("auto") as second:
            assert {first, second} == {"cuda:0", "cuda:1"}
            with pytest.raises(Waited), device.own_gpu("auto"):
                pass
            with device.own_gpu("cuda:1") as chosen:
                assert chosen == "cuda:1"
        with device.own_gpu("auto") as again:
            assert again == second
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with device.own_gpu("auto") as only:
        assert only == "auto"


SWEEP_FILES = sorted((ROOT / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEP_FILES, ids=lambda path: path.stem)
def test_wandb_sweeps_drive_hydra(path):
    sweep = yaml.safe_load(path.read_text())
    assert sweep["command"][-1] == "${args_no_hyphens}"
    assert sweep["metric"] == {"name": "heldout/eps_mse", "goal": "minimize"}
    for key, parameter in sweep["parameters"].items():
        values = parameter.get("values") or [parameter["min"], parameter["max"]]
        for value in values:
            # As an agent renders it.
            composed(f"{key}={value}")


SWEEPS = sorted((ROOT / "conf/sweep").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_value_of_a_ready_sweep_composes(path):
    if path.stem.startswith("study"):
        pytest.skip("has tests of its own in test_blocks.py")
    if path.stem == "search":
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    params = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["params"]
    for key, values in params.items():
        (override,) = OverridesParser.create().parse_overrides([f"{key}={values}"])
        assert override.is_sweep_override()
        if override.is_discrete_sweep():
            for value in override.sweep_string_iterator():
                composed(f"sweep={path.stem}", f"{key}={value}")


def test_no_handler_or_garbage_keeps_a_failed_job(sweep):
    gc.collect()
    assert sweep[2].left_over() is None
    assert not [h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
