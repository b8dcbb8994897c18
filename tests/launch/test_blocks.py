"""Sweeps in blocks: which jobs they are, and a small one from the command line."""

from pathlib import Path

import pytest
import yaml
from cli import ROOT, TINY, call, rarely, succeed
from omegaconf import OmegaConf

import ccdiff.train.job
from ccdiff.config.options import compose, options
from ccdiff.errors import UserError
from ccdiff.launch.blocks import in_recipe, jobs, probes
from ccdiff.runs.folder import Run
from ccdiff.runs.record import FINISHED, read_record

BLOCKS = [
    {"schedule": "cosine,linear", "prediction": "noise,clean"},
    {"schedule": "flow"},
    {"optimizer": "adam", "optimizer.lr": "1e-3,2e-4"},
]


@pytest.fixture(scope="module")
def recipe():
    return in_recipe(compose("train", with_hydra=True))


def test_the_recipe_is_trained_once_and_each_seed_runs_through_all_blocks(recipe):
    found = jobs(BLOCKS, seeds="0,1", arguments=["trainer.steps=7"], recipe=recipe)
    assert all(job[0] == "trainer.steps=7" for job in found)
    ended = [job[1:] for job in found]
    # cosine and noise are the defaults.
    assert ended[:4] == [
        ["seed=0"],
        ["prediction=clean", "seed=0"],
        ["schedule=linear", "seed=0"],
        ["schedule=linear", "prediction=clean", "seed=0"],
    ]
    half = len(ended) // 2
    assert [job[:-1] for job in ended[:half]] == [job[:-1] for job in ended[half:]]
    assert {job[-1] for job in ended[half:]} == {"seed=1"}


def test_a_new_option_is_given_its_values_even_where_the_recipe_has_the_same(recipe):
    found = jobs(BLOCKS[2:], seeds="0", arguments=[], recipe=recipe)
    # 1e-3 is that of the default adamw, and adam has another.
    assert [job[:2] for job in found] == [
        ["optimizer=adam", "optimizer.lr=0.001"],
        ["optimizer=adam", "optimizer.lr=0.0002"],
    ]


def test_what_is_asked_for_is_not_varied_by_blocks(recipe):
    found = jobs(BLOCKS, seeds="0,1", arguments=["seed=5", "schedule=flow,linear"], recipe=recipe)
    assert all("seed=5" in job for job in found)
    schedules = [[o for o in job if o.startswith("schedule=")] for job in found]
    assert {one for (one,) in schedules} == {"schedule=flow", "schedule=linear"}
    assert len({tuple(job) for job in found}) == len(found) == 2 * (2 + 2)


def test_a_range_of_a_search_is_refused(recipe):
    with pytest.raises(UserError, match="takes values"):
        jobs([{"optimizer.lr": "interval(0,1)"}], seeds="0", arguments=[], recipe=recipe)


def test_few_jobs_have_each_value_of_each_block():
    for sweep, most in (("study", 12), ("study_emoji", 12)):
        sweeper = compose("train", [f"sweep={sweep}"], with_hydra=True).hydra.sweeper
        blocks = OmegaConf.to_container(sweeper.blocks)
        given = {"seeds": sweeper.seeds, "arguments": ["trainer.steps=7", "data.flip=no,yes"]}
        few = probes(blocks, **given)
        assert len(few) <= most
        assert all(job[0] == "trainer.steps=7" for job in few)
        keys = [[o.partition("=")[0] for o in job] for job in few]
        assert all(len(names) == len(set(names)) for names in keys)
        every = jobs(blocks, **given, recipe=lambda key, value: False)
        assert {o for job in few for o in job} == {o for job in every for o in job}
        # Values of an option's keys are looked at with that option, and no other.
        assert not [job for job in few if "optimizer=muon" in job and "optimizer.lr" in str(job)]


@pytest.mark.parametrize(
    ("sweeper", "told"),
    [
        ("blocks=[{schedule: 'cosine,linaer'}]", "did you mean linear?"),
        ("blocks=[{schedule: flow},{data.flip: 'no,si'}]", "data.flip=si: data.flip must be true"),
        ("blocks=[{optimizer: adam,optimizer.lr: '1e-3,fast'}]", "optimizer.lr=fast"),
        ("blocks=[{seed: '0,99999999999999999999'}]", "1 of 5 jobs tried would be refused"),
        ("blocks=3", "must be a list of keys with their values"),
        ("blocks=[{schedule: 'cosine,('}]", "values that cannot be read"),
    ],
)
def test_nothing_is_trained_where_a_block_has_a_value_that_is_refused(
    tmp_path, monkeypatch, sweeper, told
):
    monkeypatch.setattr(ccdiff.train.job, "run_experiment", lambda *_: pytest.fail("trained"))
    arguments = ("sweep=study", "hydra.sweep.dir=sweep", f"hydra.sweeper.{sweeper}")
    done = call("train.py", *arguments, cwd=tmp_path)
    assert done.status == 1
    assert told in done.printed
    assert "Traceback" not in done.printed
    assert not (tmp_path / "sweep").exists()


def test_blocks_run_from_the_command_line_and_go_on(tmp_path):
    arguments = (
        *("sweep=study", "data=digits", "hydra.sweep.dir=sweep", *TINY, *rarely(1)),
        *(
            "model.patch=1",
            "trainer.warmup=0",
            "trainer.cooldown=0",
            "trainer.samples_per_label=1",
        ),
        *("sampler.steps=1", "hydra.sweeper.seeds=4"),
        "hydra.sweeper.blocks=[{schedule: 'cosine,linear'}]",
    )
    succeed("train.py", *arguments, cwd=tmp_path)
    runs = [Run(tmp_path / "sweep" / name) for name in ("seed-4", "schedule-linear+seed-4")]
    assert all(read_record(run).status == FINISHED for run in runs)
    assert [OmegaConf.load(run.config).seed for run in runs] == [4, 4]
    again = succeed("train.py", *arguments, cwd=tmp_path)
    assert again.printed.count("finished earlier") == len(runs)


@pytest.mark.parametrize("sweep", ["study", "study_emoji"])
def test_what_the_study_varies_is_there(sweep):
    """Only what no option brings along is composed, since hundreds of jobs take minutes."""
    base = compose("train", [f"sweep={sweep}"])
    blocks = OmegaConf.to_container(
        compose("train", [f"sweep={sweep}"], with_hydra=True).hydra.sweeper.blocks
    )
    assert blocks
    for block in blocks:
        groups = {key: values.split(",") for key, values in block.items() if options(key)}
        for group, chosen in groups.items():
            assert set(chosen) <= set(options(group)), group
        for key in block.keys() - groups.keys():
            group = key.partition(".")[0]
            if OmegaConf.select(base, key) is None or group in groups:
                for option in groups[group]:
                    stated = _keys(ROOT / f"conf/{group}/{option}.yaml")
                    assert key.partition(".")[2] in stated, (key, option)


def _keys(file: Path) -> set[str]:
    """The keys of an option, with those of the options that it begins with."""
    content = yaml.safe_load(file.read_text())
    bases = [name for name in content.get("defaults", ()) if isinstance(name, str)]
    inherited = [_keys(file.with_name(f"{name}.yaml")) for name in bases if name != "_self_"]
    return set(content).union(*inherited)
