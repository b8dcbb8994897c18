"""Training on several processes: the same run as on one, however many there are and whatever ends.

The scenarios are in ``ranks.py``, and run in one process of their own that forks.
"""

import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from cli import ROOT, call
from faults import composed, train
from ranks import ENDS, SHORT_STEPS, STEPS

from ccdiff.data import Batches, Split, augment
from ccdiff.distributed import failures, group
from ccdiff.distributed.group import process_group
from ccdiff.distributed.ranks import adopt_slurm, slice_of
from ccdiff.errors import UserError
from ccdiff.runs.checkpoints import load_checkpoint, open_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics
from ccdiff.runs.record import read_record
from ccdiff.settings import TrainerSettings
from ccdiff.train import job as experiment
from ccdiff.train.assembly import Training
from ccdiff.training.ddp import check_divides, collect_optimizer, load_optimizer
from tests.benchmarks.scaling import Cluster, bucket_seconds, efficiency, formula, simulate


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Run directories of the quick scenarios, and how their processes ended."""
    folder = tmp_path_factory.mktemp("ranks")
    run_scenarios(folder, *(name for name in ENDS if name not in ("hanging", "diverging")))
    return folder


def run_scenarios(folder: Path, *names: str) -> None:
    command = [sys.executable, str(ROOT / "tests" / "ranks.py"), str(folder), *names]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout.splitlines()[-1])
    (folder / "ends.json").write_text(json.dumps(ends))
    leaving = {"leaving": ends["leaving"]} if "leaving" in names else {}
    assert ends == {name: ENDS[name] for name in names} | leaving


def losses(run: Path) -> list[float]:
    rows = read_metrics(Run(run).metrics)
    return [row["train/loss"] for row in rows if "train/loss" in row]


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    checkpoint = load_checkpoint(Run(run).checkpoint(step))
    state = {**checkpoint["denoiser"], **checkpoint["ema"]}
    return {key: value.double() for key, value in state.items()}


def told(folder: Path, scenario: str) -> list[str]:
    return [path.read_text() for path in sorted((folder / scenario).glob("error_*"))]


@pytest.mark.parametrize("scenario", ["two", "four", "changing"])
def test_any_number_of_processes_trains_the_same(folder, scenario):
    one, other = losses(folder / "one"), losses(folder / scenario)
    assert len(one) == len(other) == STEPS
    assert one[-1] < 0.9 * one[0]
    assert other == pytest.approx(one, rel=1e-5)
    expected = weights(folder / "one", STEPS)
    for key, value in weights(folder / scenario, STEPS).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-4, msg=key)


def test_checkpoints_do_not_show_how_many_wrote_them(folder):
    one, two, divided = (
        load_checkpoint(Run(folder / name).checkpoint(4)) for name in ("one", "two", "changing")
    )
    for other in (two, divided):
        assert other.keys() == one.keys()
        assert other["optimizer"]["param_groups"] == one["optimizer"]["param_groups"]
        assert other["optimizer"]["state"].keys() == one["optimizer"]["state"].keys()
        for number, state in one["optimizer"]["state"].items():
            for key, value in state.items():
                found = other["optimizer"]["state"][number][key]
                torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scenario", ["two", "killed", "signalled"])
def test_rank_0_alone_writes(folder, scenario):
    run = folder / scenario
    names = {path.name for path in run.iterdir() if not path.name.startswith(("error", "stopped"))}
    names = {name for name in names if not name.startswith("uncommitted")}
    assert names == {
        *(".lock", "checkpoints", "config.yaml", "metrics.jsonl", "record.json", "samples")
    }
    record = read_record(Run(run))
    assert record.device.startswith("2 x cpu")
    assert "system/rank1/memory_gib" in read_metrics(Run(run).metrics)[0]


@pytest.mark.parametrize("scenario", ["killed", "signalled", "asked"])
def test_what_ended_early_goes_on_as_if_it_had_not(folder, scenario):
    assert losses(folder / scenario) == losses(folder / "short")
    expected = weights(folder / "short", SHORT_STEPS)
    found = weights(folder / scenario, SHORT_STEPS)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ("scenario", "processes", "lost"),
    [("one", 1, 0), ("two", 3, 0), ("four", 10, 0), ("signalled", 3, 0), ("killed", 3, 3)],
)
def test_time_of_processors_is_that_of_all_processes_and_launches(
    folder, scenario, processes, lost
):
    """Each look at the clock of rank r takes 1 + r seconds; a step has two that count."""
    *_, last = (row for row in read_metrics(Run(folder / scenario).metrics) if "train/loss" in row)
    # Of a run that is killed, the rest of the step of its checkpoint is not known.
    assert last["train/cpu_seconds"] == (2 * last["step"] - 1) * processes - lost


def test_networks_draw_differently_in_each_process(folder):
    drawn = [(folder / "short" / f"drawn_{i}").read_text() for i in (0, 1)]
    assert drawn[0] != drawn[1]


def test_a_divided_optimizer_is_loaded_once_and_saved_as_before():
    from torch.distributed.optim import ZeroRedundancyOptimizer

    def made() -> tuple[torch.nn.Parameter, ZeroRedundancyOptimizer]:
        weight = torch.nn.Parameter(torch.ones(3))
        return weight, ZeroRedundancyOptimizer([weight], torch.optim.AdamW)

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        weight, first = made()
        weight.grad = torch.arange(3.0)
        first.step()
        collect_optimizer(first)
        saved = first.state_dict()
        weight, second = made()
        load_optimizer(second, saved)
        assert len(second.state) == 0
        assert torch.equal(second.optim.state[weight]["exp_avg"], saved["state"][0]["exp_avg"])
        collect_optimizer(second)
        again = second.state_dict()["state"][0]
        assert all(torch.equal(again[key], value) for key, value in saved["state"][0].items())
    finally:
        dist.destroy_process_group()


def test_the_optimizer_is_brought_together_only_to_be_saved(folder):
    """Twice in 8 steps, although much else is done after the last."""
    assert (folder / "changing" / "collected").read_text() == "at 3\nat 7\n"


def test_a_signal_to_one_stops_all_after_the_same_step(folder):
    stopped = [(folder / "signalled" / f"stopped_{i}").read_text() for i in (0, 1)]
    # Nobody has left before rank 0 had closed its record.
    expected = "interrupted, received SIGTERM: saved at step 7 of 8"
    assert stopped[0] == stopped[1] == expected


def test_a_signal_to_one_ends_what_rank_0_looks_at(folder):
    stopped = [(folder / "asked" / f"stopped_{i}").read_text() for i in (0, 1)]
    expected = "interrupted, rank 1 received SIGTERM: saved at step 8; still to do there: held-out"
    assert stopped[0] == stopped[1]
    assert stopped[0].startswith(expected)


def test_a_killed_process_ends_all(folder):
    (message,) = told(folder, "killed")
    assert message.startswith("tells LostContact: rank 0 of 2 lost contact with another process")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="shows no threads")
def test_no_thread_of_a_group_outlives_it(folder):
    """One that does can abort the process on its way out, its work done."""
    assert json.loads((folder / "ends.json").read_text())["leaving"] == [[0, 0]]


def test_an_error_of_one_is_told_once_and_recorded(folder):
    main, other = told(folder, "failing")
    assert main == "tells LostContact: rank 1 failed: the disk of this machine is full"
    assert other == "silent UserError: the disk of this machine is full"
    assert "rank 1 failed: the disk" in read_record(Run(folder / "failing")).error


@pytest.mark.slow
def test_a_process_that_hangs_is_waited_for_so_long(tmp_path):
    run_scenarios(tmp_path, "hanging")
    message = told(tmp_path, "hanging")[0]
    assert message.startswith("tells LostContact: rank 0 of 2 waited 20 s for another process")
    assert "trainer.dist_timeout" in message


@pytest.mark.slow
def test_an_error_of_all_is_told_once(tmp_path):
    run_scenarios(tmp_path, "diverging")
    messages = told(tmp_path, "diverging")
    assert [message.split()[0] for message in messages] == ["tells", "silent"]
    assert "It was rolled back 3 times" in messages[0]


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
def test_slices_are_all_of_it_once(world, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(world))
    whole = []
    for number in range(world):
        monkeypatch.setenv("RANK", str(number))
        part = list(range(20))[slice_of(20)]
        assert abs(len(part) - 20 / world) < 1
        whole += part
    assert whole == list(range(20))


@pytest.mark.parametrize("rows", [slice(0, 5), slice(5, 10), slice(3, 4)])
def test_rows_of_a_batch_are_what_the_whole_has_there(rows):
    split = Split(torch.randint(256, (37, 1, 4, 4), dtype=torch.uint8), torch.arange(37))
    whole = Batches(split, batch_size=10, seed=3)
    part = Batches(split, batch_size=10, seed=3, rows=rows)
    for i in (0, 1, 3):  # The last crosses into the next epoch.
        assert torch.equal(part.indices(i), whole.indices(i)[rows])
        assert torch.equal(part.batch(i)[0], whole.batch(i)[0][rows])
    images = whole.batch(0)[0]
    mirrored = augment(images, torch.Generator().manual_seed(1))
    found = augment(images[rows], torch.Generator().manual_seed(1), batch_size=10, rows=rows)
    assert torch.equal(found, mirrored[rows])


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "world", "advice"),
    [(128, 1, 3, "use 126 or 129"), (128, 4, 3, "use 120 or 132"), (2, 1, 4, "use 4")],
)
def test_batches_that_do_not_divide_are_refused(
    batch_size, accumulate, world, advice, monkeypatch
):
    settings = TrainerSettings(batch_size=batch_size, accumulate=accumulate)
    check_divides(settings)
    monkeypatch.setenv("WORLD_SIZE", str(world))
    with pytest.raises(UserError, match=advice):
        check_divides(settings)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu-[03-05,09],login1", "gpu-03"),
        ("gpu7", "gpu7"),
        ("a1,b[2-3]", "a1"),
        ("rack[1,4]-node[2-3]", "rack1-node[2-3]"),
    ],
)
def test_a_slurm_step_knows_its_ranks(nodes, first):
    step = {
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
        "SLURM_JOB_ID": "123456",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": nodes,
    }
    adopt_slurm(step)
    assert (step["RANK"], step["LOCAL_RANK"], step["WORLD_SIZE"]) == ("3", "1", "4")
    assert step["MASTER_ADDR"] == first
    assert 20000 <= int(step["MASTER_PORT"]) < 30000


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"},  # A batch script, or a shell of salloc.
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
        {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "WORLD_SIZE": "8", "RANK": "5"},
    ],
)
def test_outside_of_a_step_of_several_tasks_slurm_says_nothing(environment):
    before = dict(environment)
    adopt_slurm(environment)
    assert environment == before


@pytest.fixture
def machine(monkeypatch) -> list[str]:
    """Two GPUs that are not there, and rank 3 of 4 on them; the groups made and destroyed."""
    calls = []
    for key, value in {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(key, value)
    store = dist.HashStore()
    monkeypatch.setattr(group, "_failures", failures.Failures())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    monkeypatch.setattr(dist, "rendezvous", lambda *args, **kwargs: iter([(store, 3, 4)]))
    monkeypatch.setattr(dist, "init_process_group", lambda kind, **kwargs: calls.append(kind))
    monkeypatch.setattr(dist, "new_group", lambda **kwargs: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: calls.append("destroyed"))
    return calls


def word() -> str:
    return group.failures()._store.get("failed").decode()


def test_a_group_of_gpus_is_left_as_it_is_where_one_fails(machine):
    with process_group("auto", timeout_seconds=1) as device:
        assert device == "cuda:1"
    assert machine == ["cuda:1", "nccl", "destroyed"]
    machine.clear()
    with pytest.raises(UserError), process_group("auto", timeout_seconds=1):
        raise UserError("the disk is full")
    assert machine == ["cuda:1", "nccl"]
    assert word() == "rank 3 failed: the disk is full"


def test_an_unexpected_error_is_left_with_its_traceback(machine):
    with pytest.raises(ZeroDivisionError), process_group("cpu", timeout_seconds=1):
        _ = 1 / 0
    assert machine == ["gloo", "destroyed"]
    assert word().startswith("rank 3 failed: ZeroDivisionError: division by zero\nTraceback")
    assert "_ = 1 / 0" in word()


@pytest.mark.parametrize(("local", "here"), [("0", "3"), ("1", "3"), ("2", None)])
def test_too_few_gpus_are_told_by_every_process_that_can_know(machine, monkeypatch, local, here):
    monkeypatch.setenv("LOCAL_RANK", local)
    if here is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    told = "process 2 of this machine has no GPU: torch sees 2.*--nproc_per_node=2"
    with pytest.raises(UserError, match=told), process_group("auto", timeout_seconds=1):
        pass
    assert machine == []
    assert "has no GPU" in word()


def test_a_single_gpu_is_that_of_a_task_of_slurm_but_not_of_a_process_of_torchrun(
    machine, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    step = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
    step["SLURM_STEP_NODELIST"] = "node1"
    under_torchrun = step | {key: os.environ[key] for key in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    for environment in (under_torchrun, step):
        adopt_slurm(environment)
    for key, value in under_torchrun.items():
        monkeypatch.setenv(key, value)
    with (
        pytest.raises(UserError, match="has no GPU"),
        process_group("auto", timeout_seconds=1),
    ):
        pass
    for key, value in step.items():
        monkeypatch.setenv(key, value)
    with process_group("auto", timeout_seconds=1) as device:
        assert device == "cuda:0"


@pytest.fixture
def second(monkeypatch) -> None:
    """This process is the second of two on a machine, and does not wait for the first to tell."""
    for key, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(group, "_failures", failures.Failures())
    monkeypatch.setattr(failures, "_TELLING_SECONDS", 0.0)


@pytest.mark.parametrize("command", ["curve", "edit task=strip", "export", "inspect", "prepare"])
def test_what_one_process_does_is_refused_to_several(second, monkeypatch, tmp_path, command):
    name, *arguments = command.split()
    silent = call(f"ccdiff.{name}", *arguments, cwd=tmp_path)
    assert (silent.status, silent.printed) == (1, "")
    for key in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(key, "0")
    telling = call(f"ccdiff.{name}", *arguments, cwd=tmp_path)
    assert telling.status == 1
    assert telling.printed.count("works in one process, and was started in 2") == 1


def test_a_run_that_is_not_there_is_told_once(second, monkeypatch, tmp_path):
    silent = call("train.py", "resume=outputs/nothing", cwd=tmp_path)
    assert (silent.status, silent.printed) == (1, "")
    for key in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(key, "0")
    assert "outputs/nothing" in call("train.py", "resume=outputs/nothing", cwd=tmp_path).printed


def test_a_checkpoint_is_let_go_of_before_training(tmp_path, monkeypatch):
    train(composed(), tmp_path / "run", trainer__steps=1)
    seen, left = [], []

    def opened(run: str):
        path, checkpoint = open_checkpoint(run)
        seen.extend(weakref.ref(value) for value in checkpoint["ema"].values())
        return path, checkpoint

    whole = Training.__call__

    def watched(self, *args):
        gc.collect()
        left.extend(ref for ref in seen if ref() is not None)
        return whole(self, *args)

    monkeypatch.setattr(experiment, "open_checkpoint", opened)
    monkeypatch.setattr(Training, "__call__", watched)
    train(composed(), tmp_path / "run", trainer__steps=2)
    assert seen
    assert not left


@pytest.mark.parametrize("processes", [2, 8, 64])
@pytest.mark.parametrize("bandwidth", [1e8, 1e9, 1e10, 1e12])
def test_scaling_on_paper_is_what_a_simulation_finds(processes, bandwidth):
    cluster = Cluster(bandwidth=bandwidth, latency=1e-5)
    for buckets in (1, 5, 12):
        size = {"num_bytes": 3e8, "processes": processes}
        sending = bucket_seconds(cluster, buckets=buckets, **size)
        assert formula(0.2, sending) == pytest.approx(simulate(0.2, sending))
    shares = [efficiency(0.3, cluster, num_bytes=n, processes=processes) for n in (1e9, 1e8, 0)]
    assert 0 < shares[0] < shares[1] < shares[2] < 1
    assert shares[2] == pytest.approx(1, abs=0.01)
