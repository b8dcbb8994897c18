"""``torchrun train.py``, as a user starts it: one machine, two, restarts, and what is refused."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli import ROOT, TINY

from ccdiff.runs.checkpoints import load_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics
from ccdiff.runs.record import FINISHED, read_record

pytestmark = pytest.mark.slow

TORCHRUN = str(Path(sys.executable).parent / "torchrun")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"}
ARGUMENTS = (*TINY, "tracker=none", "trainer.precision=fp32", "hydra.run.dir=run")
LONG = (
    *("trainer.steps=200", "trainer.heldout_every=200", "trainer.sample_every=200"),
    *("trainer.checkpoint_every=5", "trainer.log_every=1", "resume=auto"),
)


def start(cwd: Path, *arguments: str, flags: tuple[str, ...] = ("--standalone",)):
    command = [TORCHRUN, *flags, "--nproc_per_node=2", str(ROOT / "train.py"), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, **pipes)


def torchrun(cwd: Path, *arguments: str, flags: tuple[str, ...] = ("--standalone",)):
    process = start(cwd, *arguments, flags=flags)
    printed = process.communicate()[0]
    return process.returncode, printed


def one_process(cwd: Path, *arguments: str) -> None:
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, check=True)


def losses(run: Path) -> list[float]:
    rows = read_metrics(Run(run).metrics)
    return [row["train/loss"] for row in rows if "train/loss" in row]


def await_checkpoint(process: subprocess.Popen, run: Path) -> None:
    while not Run(run).checkpoints():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def child_of(process: subprocess.Popen, *, number: int) -> int:
    """The process of a local rank."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == process.pid and b"LOCAL_RANK=%d" % number in environment:
            return int(folder.name)
    raise AssertionError(f"torchrun has no child of local rank {number}")


def test_one_machine(tmp_path):
    status, printed = torchrun(tmp_path, *ARGUMENTS, "tracker=wandb")
    assert status == 0, printed
    assert printed.count("step 6/6") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    assert len(list((tmp_path / "run/wandb").glob("offline-run-*"))) == 1
    one_process(tmp_path, *ARGUMENTS, "hydra.run.dir=one")
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("trainer.steps=abc",), "could not be converted to Integer"),
        (("trainer.batch_size=15",), "use 14 or 16"),
        (("conditioning=multihot",), "conditioning=onehot"),
        (("-m", "seed=0,1"), "a sweep is started by one process"),
        (("sweep=learning_rate",), "a sweep is started by one process"),
        (("trainer.device=cuda:1",), "must be auto, cpu or cuda"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_bad_input_is_told_once(tmp_path, arguments, told):
    arguments = [*(a for a in ARGUMENTS if a.split("=")[0] not in str(arguments)), *arguments]
    status, printed = torchrun(tmp_path, *sorted(arguments, key=lambda a: a != "-m"))
    assert status != 0
    assert printed.count(told) == 1, printed
    assert printed.count("Traceback") == 1  # Of torchrun, which always ends in one.


@pytest.mark.parametrize("number", [0, 1])
def test_torchrun_restarts_what_was_killed(tmp_path, number):
    flags = ("--standalone", "--max-restarts=1")
    process = start(tmp_path, *ARGUMENTS, *LONG, flags=flags)
    await_checkpoint(process, tmp_path / "run")
    os.kill(child_of(process, number=number), signal.SIGKILL)
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    assert "going on from step" in printed
    record = read_record(Run(tmp_path / "run"))
    assert record.status == FINISHED
    assert len(record.sessions) == 2
    status, printed = torchrun(tmp_path, *ARGUMENTS, *LONG, "hydra.run.dir=whole")
    assert status == 0, printed
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_sigterm_to_torchrun_saves(tmp_path):
    process = start(tmp_path, *ARGUMENTS, *LONG)
    await_checkpoint(process, tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    printed = process.communicate()[0]
    assert process.returncode != 0
    assert printed.count("received SIGTERM: saved at step") == 1, printed
    record = read_record(Run(tmp_path / "run"))
    assert record.status == "interrupted"
    assert load_checkpoint(Run(tmp_path / "run").latest_checkpoint())["step"] == record.step


def test_two_machines_meet(tmp_path):
    """Two agents of torchrun, which share nothing but a port; each with a folder of its own."""
    import socket

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = ("--nnodes=2", "--rdzv_backend=c10d", f"--rdzv_endpoint=localhost:{port}")
    nodes = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        nodes.append(start(tmp_path / name, *ARGUMENTS, flags=flags))
    printed = [node.communicate()[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], printed
    (run,) = tmp_path.glob("*/run")
    assert read_record(Run(run)).device.startswith("4 x cpu")
    one_process(tmp_path, *ARGUMENTS)
    assert losses(run) == pytest.approx(losses(tmp_path / "run"), rel=1e-5)


def network(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def namespaces():
    """Two network namespaces joined by a cable: as near to two machines as one comes."""
    names = [f"ccdiff{os.getpid()}{end}" for end in "ab"]
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("takes root and the command ip")
    try:
        for name in names:
            network("netns", "add", name)
        ends = ("type", "veth", "peer", "name", "veth0", "netns", names[1])
        network("link", "add", "veth0", "netns", names[0], *ends)
        for i, name in enumerate(names, start=1):
            network("-n", name, "addr", "add", f"10.77.0.{i}/24", "dev", "veth0")
            for device in ("veth0", "lo"):
                network("-n", name, "link", "set", device, "up")
        yield names
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the kernel allows no namespaces: {error.stderr.decode().strip()}")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_two_network_namespaces_meet(tmp_path, namespaces):
    flags = ["--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d", "--rdzv_id=1"]
    nodes = []
    for i, name in enumerate(namespaces, start=1):
        (tmp_path / name).mkdir()
        # By itself torchrun knows its host by the name of the machine, which both share here.
        command = [
            *("ip", "netns", "exec", name, TORCHRUN, *flags, "--rdzv_endpoint=10.77.0.1:29500"),
            *(f"--local_addr=10.77.0.{i}", f"--rdzv_conf=is_host={i == 1}"),
            *(str(ROOT / "train.py"), *ARGUMENTS),
        ]
        nodes.append(
            subprocess.Popen(
                command,
                cwd=tmp_path / name,
                env={**ENVIRONMENT, "GLOO_SOCKET_IFNAME": "veth0"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    printed = [node.communicate()[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], printed
    (run,) = tmp_path.glob("*/run")
    assert read_record(Run(run)).device.startswith("2 x cpu")


def test_a_machine_that_never_comes_is_named(tmp_path):
    """As SLURM starts it: no agent waits, the process does."""
    step = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    command = [sys.executable, str(ROOT / "train.py"), *ARGUMENTS, "trainer.dist_timeout=5"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**ENVIRONMENT, **step, **place},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "rank 0 of 2 waited 5 s" in done.stdout
    assert "trainer.dist_timeout" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
