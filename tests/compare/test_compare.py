"""The page and the table that compare runs, made from folders written by hand."""

import csv
import json
import math
import re
import shutil
import statistics
from html.parser import HTMLParser
from pathlib import Path

import pytest
from cli import call, succeed
from omegaconf import OmegaConf
from PIL import Image
from scipy import stats

from ccdiff.compare.cost import reaches, step_of, usual_thresholds
from ccdiff.compare.page import page
from ccdiff.compare.read import Curve, find_runs, read_job
from ccdiff.compare.standing import standing
from ccdiff.compare.table import MAIN, compare, direction
from ccdiff.errors import UserError
from ccdiff.metrics.over_seeds import difference
from ccdiff.runs.folder import Run
from ccdiff.runs.log import RunLog
from ccdiff.runs.record import FAILED, FINISHED, Record, Session, read_record
from ccdiff.runs.tracker import NoSession

LINEAR = {"_target_": "ccdiff.diffusion.schedules.Linear", "num_steps": 1000}
COSINE = {"_target_": "ccdiff.diffusion.schedules.Cosine", "max_log_snr": 10}


def make_run(
    folder: Path,
    *,
    schedule: str = "cosine",
    lr: float = 1e-3,
    seed: int = 0,
    error: float = 0.5,
    status: str = FINISHED,
    record: bool = True,
) -> Path:
    """A run directory as training leaves it; its error falls to ``error`` at step 40."""
    folder.mkdir(parents=True)
    run = Run(folder)
    config = {
        "schedule": LINEAR if schedule == "linear" else COSINE,
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": lr, "eps": lr * 1e-5},
        "trainer": {"batch_size": 10},
        "tracker": {"name": folder.name},
        "seed": seed,
    }
    OmegaConf.save(config, run.config)
    log = RunLog(run.metrics, NoSession())
    for step in (20, 40):
        log.metrics({"train/loss": 2 / step, "train/seconds": step / 10}, step=step)
        log.metrics({MAIN: error * 40 / step}, step=step)
        run.samples.mkdir(exist_ok=True)
        Image.new("L", (32, 32), color=step + seed).save(run.samples / f"ema_{step:08d}.png")
    if record:
        overrides = [f"schedule={schedule}", f"optimizer.lr={lr}", f"seed={seed}"]
        session = Session(overrides, "2026-01-01T00:00:00+00:00")
        kept = Record("", {"schedule": schedule}, seeds={}, status=status, sessions=[session])
        kept.error = "MemoryError: </script><b>" if status == FAILED else None
        kept.write(run)
    return folder


@pytest.fixture
def sweep(tmp_path) -> Path:
    """Two schedules, two rates, three seeds; one run failed. The last rate with linear is best."""
    for i, schedule in enumerate(("cosine", "linear")):
        for j, lr in enumerate((1e-3, 2e-3)):
            for seed in range(3):
                failed = (i, j, seed) == (0, 0, 2)
                make_run(
                    tmp_path / f"sweep/{schedule}-{lr}-{seed}",
                    schedule=schedule,
                    lr=lr,
                    seed=seed,
                    error=0.5 - 0.1 * i - 0.05 * j + 0.01 * seed,
                    status=FAILED if failed else FINISHED,
                )
    return tmp_path / "sweep"


def comparison_of(folder: Path):
    return compare([read_job(run) for run in find_runs([folder])])


def test_only_what_differs_and_was_chosen_is_shown(sweep):
    # The schedule's own keys and AdamW's eps differ too, but go with what was chosen.
    assert comparison_of(sweep).axes == ["schedule", "optimizer.lr"]


def test_the_held_out_error_is_doubted_where_predictions_differ(sweep):
    comparison = comparison_of(sweep)
    assert "careful" not in standing(comparison, MAIN).text
    for setting in comparison.settings:
        setting.values["prediction"] = setting.values.pop("schedule")
    comparison.axes[0] = "prediction"
    assert "careful: an error on the noise" in standing(comparison, MAIN).text


def test_runs_without_a_record_are_compared_by_their_classes(tmp_path):
    for seed in (0, 1):
        for schedule in ("cosine", "linear"):
            name = f"sweep/{schedule}{seed}"
            make_run(tmp_path / name, schedule=schedule, seed=seed, record=False)
    comparison = comparison_of(tmp_path / "sweep")
    assert comparison.axes == ["schedule"]
    assert [s.values["schedule"] for s in comparison.settings] == ["cosine", "linear"]
    assert [len(s.jobs) for s in comparison.settings] == [2, 2]


def test_an_export_is_no_run(tmp_path):
    run = make_run(tmp_path / "run")
    exported = tmp_path / "exported"
    exported.mkdir()
    shutil.copy(run / "config.yaml", exported)
    with pytest.raises(UserError, match="exported holds no run"):
        find_runs([exported])


def test_settings_have_mean_and_deviation_over_seeds(sweep):
    comparison = comparison_of(sweep)
    best = standing(comparison, MAIN).lead
    assert best.values == {"schedule": "linear", "optimizer.lr": 0.002}
    errors = [0.35, 0.36, 0.37]
    mean, sd, n = best.spread(MAIN)
    assert (mean, n) == (pytest.approx(statistics.mean(errors)), 3)
    assert sd == pytest.approx(statistics.stdev(errors))
    # A failed run has no say, although it logged figures.
    assert comparison.settings[0].spread(MAIN).n == 2


def test_more_is_better_for_agreement(tmp_path):
    for name, agreement in (("a", 0.2), ("b", 0.9)):
        path = make_run(tmp_path / "sweep" / name, lr=agreement)
        RunLog(path / "metrics.jsonl", NoSession(), step=99).metrics(
            {"evaluate/label_agreement": agreement, "broken": math.nan}, step=40
        )
    comparison = comparison_of(tmp_path / "sweep")
    assert standing(comparison, "evaluate/label_agreement").lead.values == {"optimizer.lr": 0.9}
    assert "broken" not in comparison.metrics


def test_table_has_settings_and_runs(sweep):
    done = succeed("ccdiff.compare", str(sweep), cwd=sweep)
    assert "best heldout/eps_mse: 0.3600 by schedule=linear optimizer.lr=0.002" in done.printed
    assert "no result: cosine-0.001-2" in done.printed
    table = list(csv.DictReader((sweep / "compare.csv").read_text().splitlines()))
    assert [line["row"] for line in table] == ["mean"] * 4 + ["run"] * 12
    assert float(table[3][MAIN]) == pytest.approx(0.36)
    assert float(table[3][f"{MAIN}_sd"]) == pytest.approx(0.01)
    failed = next(line for line in table if line["status"] == FAILED)
    assert failed["seed"] == "2"
    assert failed[MAIN] == ""


def test_runs_may_be_named_one_by_one(sweep, tmp_path):
    runs = [str(sweep / "cosine-0.001-0"), str(sweep / "linear-0.001-1")]
    succeed("ccdiff.compare", *runs, "--out", "there", cwd=tmp_path)
    assert (tmp_path / "there/compare.html").exists()
    with pytest.raises(UserError, match="holds no run"):
        find_runs([tmp_path / "nowhere"])
    assert call("ccdiff.compare", "nowhere", cwd=tmp_path).status == 1
    (tmp_path / "file").touch()
    refused = call("ccdiff.compare", *runs, "--out", "file/in", cwd=tmp_path)
    assert refused.printed == (
        "error: the folder file/in cannot be made (Not a directory): pass another as out"
    )


def test_a_run_is_one_run_whatever_its_folder_holds(tmp_path):
    run = make_run(tmp_path / "one")
    for made in (".hydra", "edited", "export"):
        make_run(run / made)
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 0")
    assert [found.path for found in find_runs([run])] == [run]
    assert [found.path for found in find_runs([tmp_path])] == [run]


def test_runs_of_a_sweep_come_by_number(tmp_path):
    names = ["data.limit-25", "data.limit-50", "data.limit-100"]
    for name in reversed(names):
        make_run(tmp_path / name)
    assert [found.path.name for found in find_runs([tmp_path])] == names


def test_runs_on_other_data_are_not_compared_in_silence(tmp_path):
    for name, size, root in (("a", 8, "x"), ("b", 8, "y"), ("c", 16, "x")):
        config = Run(make_run(tmp_path / name)).config
        data = {"_target_": "ccdiff.data.Folder", "image_size": size, "root": root}
        OmegaConf.save({**OmegaConf.load(config), "data": data}, config)
    moved = succeed("ccdiff.compare", "a", "b", cwd=tmp_path)
    assert "do not compare" not in moved.printed
    assert "heldout/eps_mse: " in moved.printed
    done = succeed("ccdiff.compare", "a", "c", cwd=tmp_path)
    assert "other images are held out (data.image_size), so errors do not compare" in done.printed
    assert "heldout/eps_mse: " not in done.printed
    assert "so errors do not compare" in (tmp_path / "compare/compare.html").read_text()


def test_what_is_no_number_does_not_break_the_page(tmp_path):
    for name in ("a", "b"):
        log = RunLog(Run(make_run(tmp_path / "sweep" / name)).metrics, NoSession(), step=40)
        log.metrics({"evaluate/fd": math.nan if name == "a" else 0.5}, step=40)
    text = page(comparison_of(tmp_path / "sweep"), title="x")
    assert '"evaluate/fd"' in text
    assert "NaN" not in text.partition('id="data"')[2].partition("</script>")[0]


class Strict(HTMLParser):
    """Notes what is left open, and every address."""

    VOID = frozenset({"meta", "input", "img", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for key, value in attrs if key in ("src", "href", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_whole_and_needs_no_network(sweep):
    text = page(comparison_of(sweep), title="<i>&</i></script>")
    parsed = Strict(text)
    assert parsed.open == []
    assert parsed.addresses == []
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text)
    content = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    data = json.loads(content[1])
    assert data["title"] == "<i>&</i></script>"
    assert data["steps"] == [20, 40]
    curve = data["jobs"][0]["curves"][MAIN]
    assert [point[:2] for point in curve] == [[200, 2.0], [400, 4.0]]


def test_a_page_of_many_runs_has_room_for_all(tmp_path, monkeypatch):
    for i in range(12):
        path = make_run(tmp_path / f"sweep/{i}", lr=1e-3 * (i + 1))
        log = RunLog(Run(path).metrics, NoSession(), step=40)
        for step in range(41, 241):
            log.metrics({MAIN: 1 / step}, step=step)
        for step in range(41, 51):
            noise = Image.effect_noise((300, 300), 100)
            noise.save(path / f"samples/ema_{step:08d}.png")
    monkeypatch.setattr("ccdiff.compare.page._ALL_POINTS", 12 * 2 * 30)
    monkeypatch.setattr("ccdiff.compare.page._PICTURES_BYTES", 240_000)
    text = page(comparison_of(tmp_path / "sweep"), title="many")
    content = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    data = json.loads(content[1])
    for job in data["jobs"]:
        points = job["curves"][MAIN]
        assert len(points) == 30
        assert (points[0][0], points[-1][0]) == (200, 2400), "both ends stay"
    assert data["steps"] == [20, 50], "the last always stays"
    assert sum(len(uri) for job in data["jobs"] for uri in job["grids"].values()) < 240_000
    assert all("50" in job["grids"] for job in data["jobs"])


def test_only_a_stated_direction_ranks():
    assert direction("evaluate/label_gain_wrong_label") == "higher"
    assert direction("evaluate/label_certainty") == "higher"
    assert direction("evaluate/fd_my_own_net_to_train") == "lower"
    assert direction("evaluate/inception_score") == "higher"
    assert direction(MAIN) == "lower"
    for neither in ("evaluate/density_classifier_to_train", "evaluate/spread_ratio_classifier"):
        assert direction(neither) is None
    for unknown in ("mine/accuracy", "train/grad_norm", "train/loss", "evaluate/novelty", "fdx"):
        assert direction(unknown) is None


def agreements(folder: Path, **by_setting: list[float]):
    """Runs with these agreements, by the number of their seed."""
    for i, (name, values) in enumerate(by_setting.items()):
        for seed, value in enumerate(values):
            path = make_run(folder / f"{name}-{seed}", lr=float(i + 1), seed=seed)
            RunLog(path / "metrics.jsonl", NoSession(), step=99).metrics(
                {"evaluate/label_agreement": value}, step=40
            )
    return standing(comparison_of(folder), "evaluate/label_agreement")


def test_a_winner_is_named_only_where_seeds_tell(tmp_path):
    tied = agreements(tmp_path / "tied", a=[0.9498, 0.9504], b=[0.9508, 0.9502])
    assert (tied.lead.values["optimizer.lr"], len(tied.tied)) == (2, 1)
    assert tied.text.startswith("highest evaluate/label_agreement: 0.9505 by optimizer.lr=2, ")
    assert "do not tell apart from optimizer.lr=1" in tied.text
    # Seed by seed, although the seeds differ among each other by more than the settings do.
    paired = agreements(tmp_path / "paired", a=[0.90, 0.92, 0.94], b=[0.911, 0.929, 0.951])
    assert not paired.tied
    assert paired.text.startswith("best evaluate/label_agreement: 0.9303 by optimizer.lr=2; +0.01")
    # Of one other it would be told apart; the best of five owes more to luck.
    near, far = {"a": [0.53, 0.54, 0.55], "b": [0.5, 0.5, 0.5]}, [0.10, 0.11, 0.10]
    assert not agreements(tmp_path / "two", **near).tied
    five = agreements(tmp_path / "five", **near, c=far, d=far, e=far)
    assert [setting.values["optimizer.lr"] for setting in five.tied] == [2]
    # Nothing that differs is shown as 0.
    small = agreements(tmp_path / "small", a=[2e-5, 3e-5, 4e-5], b=[6e-5, 7e-5, 8e-5])
    assert "7e-05 by optimizer.lr=2; +4e-05 (+4e-05 to +4e-05" in small.text
    # Of one setting, or where all others failed, there is nothing to be the best of.
    assert agreements(tmp_path / "alone", a=[0.9, 0.8]) is None
    # One seed tells nothing, whatever the difference.
    single = agreements(tmp_path / "single", a=[0.1], b=[0.9])
    assert len(single.tied) == 1
    assert "one seed each tells nothing" in single.text


def test_differences_over_seeds_are_those_of_the_books():
    a = {"0": 27.5, "1": 21.0, "2": 19.0, "3": 23.6, "4": 17.0, "5": 17.9}
    b = {"0": 27.1, "1": 22.0, "2": 20.8, "3": 23.4, "4": 23.4, "5": 23.5}
    paired = difference(a, b)
    reference = stats.ttest_rel(list(a.values()), list(b.values())).confidence_interval(0.95)
    assert (paired.low, paired.high, paired.seeds) == (*map(pytest.approx, reference), 6)
    other = {f"other {key}": value for key, value in b.items()}
    welch = difference(a, other)
    reference = stats.ttest_ind(list(a.values()), list(b.values()), equal_var=False)
    assert (welch.low, welch.high) == tuple(
        map(pytest.approx, reference.confidence_interval(0.95))
    )
    assert welch.seeds is None
    ten = difference(a, b, among=10)
    reference = stats.ttest_rel(list(a.values()), list(b.values())).confidence_interval(0.995)
    assert (ten.low, ten.high) == tuple(map(pytest.approx, reference))
    assert difference(a, {"0": 1.0}) is None
    assert difference({"0": 1.0, "1": 2.0}, {"0": 0.5, "1": 1.5}).sure
    assert not difference({"0": 1.0, "1": 2.0}, {"0": 1.0, "1": 2.0}).sure


def looked_at(folder: Path, *, lr: float, seed: int, agreements: list[float]) -> None:
    """A run of 10 images a step, with an agreement every 100 steps, and costs beside it."""
    path = make_run(folder / f"{lr}-{seed}", lr=lr, seed=seed)
    record = read_record(Run(path))
    record.flops_per_image = 5
    record.write(Run(path))
    (path / "metrics.jsonl").unlink()
    log = RunLog(path / "metrics.jsonl", NoSession())
    for i, value in enumerate(agreements, start=1):
        clocks = {"train/seconds": 7.0 * i, "train/cpu_seconds": 13.0 * i}
        log.metrics(clocks, step=100 * i)
        log.metrics({"evaluate/label_agreement_classifier": value}, step=100 * i)


@pytest.fixture
def raced(tmp_path) -> Path:
    """One setting gets to 0.8 with both seeds, and the other with one of two."""
    folder = tmp_path / "raced"
    looked_at(folder, lr=1.0, seed=0, agreements=[0.2, 0.6, 1.0])
    looked_at(folder, lr=1.0, seed=1, agreements=[0.4, 0.9, 0.5])
    looked_at(folder, lr=2.0, seed=0, agreements=[0.9, 0.9, 0.9])
    looked_at(folder, lr=2.0, seed=1, agreements=[0.1, 0.2, 0.3])
    return folder


AGREEMENT = "evaluate/label_agreement_classifier"


@pytest.mark.parametrize(
    ("by", "per_step"), [("images", 10), ("seconds", 0.07), ("cpu_seconds", 0.13), ("flops", 50)]
)
def test_the_cost_of_a_figure_is_where_its_curve_first_is_as_good(raced, by, per_step):
    first, second = reaches(comparison_of(raced), AGREEMENT, [0.8, 0.99], by)
    # Between two looks by a straight line: 0.6 to 1.0, and 0.4 to 0.9.
    steps = [250.0, 180.0]
    assert first[0].costs == pytest.approx([s * per_step for s in steps])
    assert first[0].spread.mean == pytest.approx(statistics.mean(steps) * per_step)
    assert first[0].spread.sd == pytest.approx(statistics.stdev(steps) * per_step)
    # It was as good at the first look, and the other run of the setting never was.
    assert second[0].costs == [pytest.approx(100 * per_step), None]
    assert second[0].spread is None
    assert (first[1].reached, second[1].reached) == (1, 0)


def test_lower_figures_are_reached_from_above():
    curve = Curve()
    for step, value in ((10, 3.0), (20, 1.0)):
        curve.add(step, value)
    assert step_of(curve, 2.0, higher=False) == 15.0
    assert step_of(curve, 3.5, higher=False) == 10.0
    assert step_of(curve, 0.5, higher=False) is None


def test_usual_thresholds_are_what_all_reach_what_half_do_and_what_the_best_does(sweep):
    """Of a figure that is better low; none of them harder to reach than a run has shown."""
    levels = usual_thresholds(comparison_of(sweep), MAIN)
    assert levels == pytest.approx([0.51, 0.42, 0.35], abs=0.0011)
    assert levels[-1] >= 0.35 - 1e-9


def test_costs_are_told_and_shown(raced):
    done = call(
        "ccdiff.compare", "raced", "by=cpu_seconds", "reach=label_agreement_classifier:0.8",
        cwd=raced.parent,
    ).printed  # fmt: skip
    assert "optimizer.lr=1: 27.9 ± 6.4" in done
    assert "CPU seconds of training" in done
    assert "optimizer.lr=2: reached by 1 of 2 runs" in done
    text = (raced / "compare.html").read_text()
    assert '"thresholds": [0.8]' in text
    assert usual_thresholds(comparison_of(raced), AGREEMENT) == [0.3, 0.9, 1.0]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("by=dollars", "by=dollars is no cost"),
        ("reach=x", "is no figure with thresholds"),
        ("reach=fd_x:a", "is no figure with thresholds"),
        ("reach=mine/x:1", "which way of mine/x is better"),
        # A sign against the way that is better would be another question than the one answered.
        ("reach=label_agreement_classifier<0.5", "the higher it is"),
        ("reach=label_agreement_classifier:95", "95 % is 0.95"),
        (
            "reach=label_agreement_clasifier:0.5",
            "did you mean evaluate/label_agreement_classifier",
        ),
        ("reech=fd_classifier:3", "did you mean reach=?"),
        ("run=latest", "folders are given without a key"),
    ],
)
def test_costs_that_cannot_be_taken_are_told(raced, wrong, told):
    done = call("ccdiff.compare", str(raced), wrong, cwd=raced.parent)
    assert done.status == 1
    assert told in done.printed
    assert not (raced / "compare.html").exists()


def test_a_figure_that_no_run_has_looked_at_is_told(raced):
    done = succeed("ccdiff.compare", str(raced), "reach=fd_classifier:3", cwd=raced.parent)
    assert "reach=evaluate/fd_classifier: no run has logged it; there are: " in done.printed
    assert "reached by" not in done.printed
    assert (raced / "compare.html").exists()


def test_a_run_of_which_nobody_knows_leaves_no_mean_either(raced):
    """It failed before it got there, or its folder does not tell: the others are what survived."""
    looked_at(raced, lr=1.0, seed=2, agreements=[0.3, 0.4])
    looked_at(raced, lr=1.0, seed=3, agreements=[0.2, 0.9])
    for seed in (2, 3):
        run = Run(raced / f"1.0-{seed}")
        record = read_record(run)
        record.status = FAILED
        record.write(run)
    (first, *_), *_ = reaches(comparison_of(raced), AGREEMENT, [0.8], "images")
    # What got there before it failed has its cost.
    assert (first.reached, first.runs, first.unknown, first.spread) == (3, 4, 1, None)
    untold = Run(raced / "2.0-0")
    record = read_record(untold)
    record.flops_per_image = None
    record.write(untold)
    _, (second, *_) = reaches(comparison_of(raced), AGREEMENT, [0.1], "flops")
    assert (second.reached, second.runs, second.unknown, second.spread) == (1, 2, 1, None)
    goal = ("reach=label_agreement_classifier:0.8", "reach=label_agreement_classifier>=0.3,0.8")
    done = call("ccdiff.compare", "raced", *goal, "out=here", cwd=raced.parent).printed
    told = "optimizer.lr=1: reached by 3 of 4 runs, and of 1 it is not known"
    assert done.count(told) == 1
    assert "label_agreement_classifier >= 0.3: optimizer.lr=2:" in done
    assert (raced.parent / "here/compare.html").exists()


def test_what_has_no_direction_has_no_best(tmp_path):
    for name, value in (("a", 0.2), ("b", 0.9)):
        path = make_run(tmp_path / "sweep" / name, lr=value)
        RunLog(path / "metrics.jsonl", NoSession(), step=99).metrics(
            {"mine/accuracy": value}, step=40
        )
    comparison = comparison_of(tmp_path / "sweep")
    assert "mine/accuracy" in comparison.metrics
    assert standing(comparison, "mine/accuracy") is None
    stated = (
        '{"key": "mine/accuracy", "better": null, "lead": null, "tied": [], "standing": null, '
    )
    assert f'{stated}"cost": null}}' in page(comparison, title="x")


@pytest.mark.parametrize("by", ["images", "flops"])
def test_numbers_too_large_to_add_up_are_no_figures(raced, by):
    """In a log, a config and a record of a stranger: the page is whole all the same."""
    for seed in (0, 1):
        run = Run(raced / f"2.0-{seed}")
        RunLog(run.metrics, NoSession(), step=300).metrics({AGREEMENT: 1.7e308}, step=400)
        record = read_record(run)
        record.flops_per_image = 10**400
        record.write(run)
        run.config.write_text(run.config.read_text().replace("size: 10", f"size: {10**400}"))
    comparison = comparison_of(raced)
    assert comparison.settings[1].spread(AGREEMENT).mean == pytest.approx(0.6)
    costs = reaches(comparison, AGREEMENT, [0.2], by)[1][0]
    assert costs.unknown == (2 if by == "flops" else 0)
    text = page(comparison, title="large", by=by)
    content = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    json.loads(content[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


DAMAGED = {
    "config.yaml": [
        b"",
        b"a: [",
        b"\xff\xfe",
        b"- 1\n",
        b"seed: ${oc.env:HOME}\n",
        b"a: &x 1\nb: *x\n",
    ],
    "metrics.jsonl": [b"", b"\x00" * 50, b"[]\n", b'{"step": 1}\n'],
    "record.json": [b"", b"{", b"[]", b"null"],
    "samples/ema_00000040.png": [b"", b"no picture"],
}


@pytest.mark.parametrize(
    ("file", "content"), [(f, c) for f, contents in DAMAGED.items() for c in contents]
)
def test_a_damaged_run_does_not_keep_the_others_from_being_compared(file, content, tmp_path):
    for i in range(3):
        make_run(tmp_path / f"sweep/{i}", lr=1e-3 * (i + 1), error=0.1 * (i + 1))
    (tmp_path / "sweep/0" / file).write_bytes(content)
    done = succeed("ccdiff.compare", "sweep", cwd=tmp_path)
    assert "Traceback" not in done.printed
    assert "heldout/eps_mse: " in done.printed
    table = list(csv.DictReader((tmp_path / "sweep/compare.csv").read_text().splitlines()))
    assert {"1", "2"} <= {line["folder"] for line in table}
    if file == "config.yaml":
        assert "left out: 0:" in done.printed
    if file == "metrics.jsonl":
        assert "no result: 0: no figures" in done.printed


def test_a_run_without_its_log_is_told(tmp_path):
    path = make_run(tmp_path / "one")
    (path / "metrics.jsonl").unlink()
    done = succeed("ccdiff.compare", "one", cwd=tmp_path)
    assert "no result: one: no figures: its metrics.jsonl is missing or empty" in done.printed


def test_text_of_runs_acts_neither_on_the_terminal_nor_in_a_spreadsheet(tmp_path):
    for name in ("a", "b"):
        path = make_run(tmp_path / name)
        acting = {"_target_": "ccdiff.data.Folder", "table": f"=cmd|x\x1b[2J{name}"}
        OmegaConf.save({**OmegaConf.load(Run(path).config), "data": acting}, Run(path).config)
        kept = json.loads((path / "record.json").read_text())
        (path / "record.json").write_text(json.dumps({**kept, "status": "\x1b]0;x\x07"}))
    done = succeed("ccdiff.compare", "a", "b", cwd=tmp_path)
    assert "\x1b" not in done.printed
    text = (tmp_path / "compare/compare.csv").read_text()
    assert "\x1b" not in text
    cells = [cell for line in csv.reader(text.splitlines()) for cell in line]
    assert any(cell.startswith("'=cmd") for cell in cells)


def test_large_grids_become_small(tmp_path):
    path = make_run(tmp_path / "sweep/a")
    noise = Image.effect_noise((900, 900), 100)
    noise.save(path / "samples/ema_00000040.png")
    text = page(comparison_of(tmp_path / "sweep"), title="")
    assert "data:image/jpeg" in text
    assert len(text) < (path / "samples/ema_00000040.png").stat().st_size


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-software-rasterizer", "--no-zygote")


@pytest.fixture(scope="module")
def browser():
    """A headless browser: ``uv run --with playwright pytest tests/compare`` has one."""
    playwright = pytest.importorskip("playwright.sync_api")
    installed = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as control:
        try:
            found = control.chromium.launch(executable_path=installed, args=[*FLAGS])
        except playwright.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens a comparison from its file; fails on an error of the script or a look outside."""
    faults: list[str] = []

    def note(address: str) -> None:
        if not address.startswith(("file:", "data:")):
            faults.append(address)

    def opened(folder: Path):
        path = tmp_path / "page.html"
        path.write_text(page(comparison_of(folder), title="sweep"))
        tab = browser.new_page()
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on(
            "request",
            lambda r: None if r.url.startswith(("file:", "data:")) else faults.append(r.url),
        )
        tab.goto(path.as_uri())
        return tab

    yield opened
    assert faults == []


def test_a_browser_shows_everything(sweep, open_page):
    tab = open_page(sweep)
    assert tab.locator("#settings tbody tr").count() == 4
    assert "0.3600 ± 0.0100" in tab.locator("#settings td.best").first.text_content()
    assert tab.locator("#settings tbody tr").first.text_content().startswith("linear0.002")
    assert tab.locator("#map rect").count() == 5
    assert tab.locator("#map rect.best").count() == 1
    assert tab.locator("#curves path.curve").count() == 12
    assert tab.locator("#runs b").count() == 0
    best = tab.locator("figure.best figcaption")
    assert best.count() == 1
    assert best.text_content().startswith("schedule=linear optimizer.lr=0.002")


def test_a_browser_follows_slider_and_choices(sweep, open_page):
    tab = open_page(sweep)
    pictures = tab.locator("#grids img")
    last = [pictures.nth(i).get_attribute("src") for i in range(pictures.count())]
    assert tab.locator("#step-value").text_content() == "40"
    tab.locator("#step").fill("0")
    assert tab.locator("#step-value").text_content() == "20"
    first = [pictures.nth(i).get_attribute("src") for i in range(pictures.count())]
    assert len(first) == len(last) == 4
    assert not set(first) & set(last)
    tab.locator("#seed").select_option("2")
    other = {pictures.nth(i).get_attribute("src") for i in range(pictures.count())}
    assert other
    assert not set(first) & other
    tab.get_by_text("by time of training").click()
    assert "seconds of training" in tab.locator("#curves").text_content()
    assert MAIN in tab.locator("#lead").text_content()
    tab.locator("#metric").select_option("train/loss")
    assert tab.locator("#lead").text_content().endswith("1 without a result. ")
    assert "train/loss" in tab.locator("#curves").text_content()
    tab.get_by_role("button", name="optimizer.lr", exact=True).click()
    assert tab.locator("#settings tbody tr").first.text_content().startswith("cosine0.001")


def test_a_browser_says_who_leads_what_it_cost_and_shows_what_ended_early(raced, open_page):
    """As stop_at ends runs: each at a step of its own, whose picture stays."""
    late = Image.new("L", (32, 32), color=7)
    late.save(raced / "1.0-0/samples/ema_00000300.png")
    failed = Run(raced / "2.0-1")
    record = read_record(failed)
    record.status = FAILED
    record.write(failed)
    tab = open_page(raced)
    tab.locator("#metric").select_option(AGREEMENT)
    assert (
        "Highest evaluate/label_agreement_classifier: 0.9" in tab.locator("#lead").text_content()
    )
    captions = tab.locator("#grids figcaption")
    assert "its last, at step 40" not in captions.nth(0).text_content()
    assert "its last, at step 40" in captions.nth(1).text_content()
    assert tab.locator("#grids img").count() == 2
    rows = tab.locator("#cost tbody tr")
    assert re.search("[0-9] ± [0-9.]+", rows.nth(0).text_content())
    assert "by 1 of 2, 1 not known" in rows.nth(1).text_content()
    assert tab.evaluate("[0, 0.031234, 512.4, 12800, 4.73e15].map((v) => amount(v))") == [
        *("0", "0.0312", "512", "12.8 k", "4.73e15")
    ]


def test_a_browser_draws_many_axes_as_lines(tmp_path, open_page):
    for i in range(12):
        lr = 10 ** (-4 + i / 6)
        schedule = "linear" if i % 3 else "cosine"
        make_run(tmp_path / f"sweep/{i}", schedule=schedule, lr=lr, error=0.3 + 0.01 * i)
    tab = open_page(tmp_path / "sweep")
    assert tab.locator("#map rect").count() == 0
    assert tab.locator("#map path.curve").count() == 12
    assert "0.0001" in tab.locator("#map").text_content()


def test_a_browser_shows_one_axis_as_a_mean_for_each_setting(tmp_path, open_page):
    """Lines between two columns would say nothing."""
    for i, lr in enumerate((1e-3, 1e-3, 1e-2)):
        make_run(tmp_path / f"sweep/{i}", schedule="cosine", lr=lr, error=0.3 + 0.01 * i, seed=i)
    tab = open_page(tmp_path / "sweep")
    assert tab.locator("#map path.curve").count() == 0
    assert tab.locator("#map circle.dot").count() == 2, "the means"
    assert tab.locator("#map circle").count() == 5, "and the runs"
    assert "optimizer.lr=0.001" in tab.locator("#map").text_content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_whole_curves_in_colours_of_the_scheme(sweep, open_page, scheme):
    tab = open_page(sweep)
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    for where in ("#curves", "#map"):
        box = tab.locator(f"{where} svg").first.bounding_box()
        assert box["x"] >= 0
        assert where == "#map" or box["x"] + box["width"] <= 390
    strokes = tab.evaluate(
        "[...document.querySelectorAll('#curves .curve')].map((c) => getComputedStyle(c).stroke)"
    )
    assert ("rgb(0, 114, 178)" in strokes) == (scheme == "light")


def test_a_drawing_is_kept_as_a_file_that_stands_alone(sweep, open_page):
    tab = open_page(sweep)
    with tab.expect_download() as saved:
        tab.locator("#curves .save").click()
    drawing = saved.value.path().read_text()
    assert saved.value.suggested_filename == "curves.svg"
    assert drawing.startswith("<svg")
    assert "var(" not in drawing.replace("stroke:var(", ""), "colours are written out"
    assert "rgb(0, 114, 178)" in drawing
