"""What README and docs/ name exists, and what exists is named."""

import re

from cli import ROOT
from hydra import compose, initialize_config_dir

from ccdiff.config import schema
from ccdiff.config.build import build_denoiser, build_objective, instantiate
from ccdiff.training.checks import check_noise
from tests.documentation.pages import PAGES, blocks
from tests.documentation.trials import CALLS, COMMANDS, EXTENDING

CONF = ROOT / "conf"


def test_every_block_is_of_a_known_kind():
    assert {block.language for block in blocks()} == {"bash", "python", "yaml", "text"}
    titled = [b for b in blocks() if b.language in ("python", "yaml") and b.title]
    assert {b.page for b in titled} == {EXTENDING}
    fences = sum(len(re.findall("^```", path.read_text(), re.MULTILINE)) for path in PAGES)
    assert fences == 2 * len(blocks()), "a fence is written in another way and was not read"


def test_groups_names_every_option_and_no_other():
    rows = [
        line
        for page in ("docs/groups.md",)
        for line in (ROOT / page).read_text().splitlines()
        if line.startswith("| `")
    ]
    folders = {folder for folder in CONF.rglob("*") if list(folder.glob("*.yaml"))}
    for folder in folders - {CONF / "wandb"}:
        group = folder.relative_to(CONF).as_posix()
        row = next((row for row in rows if f"`{group}`" in row.split("|")[1]), None)
        assert row is not None, f"docs/groups.md lacks {group}"
        named = set(re.findall(r"`([\w]+)`", row.split("|")[3]))
        assert named == {path.stem for path in folder.glob("*.yaml")}, group


def test_what_is_said_to_go_together_is_not_warned_of(caplog):
    together = (ROOT / "docs/groups.md").read_text().partition("belong together")[2]
    first = together.partition("```bash\n")[2].splitlines()[0]
    line = next(c.line for c in COMMANDS if c.page == "docs/groups.md" and c.text == first)
    examples = [c for c in CALLS if c.page == "docs/groups.md" and c.line >= line][:3]
    assert len(examples) == 3
    for command in examples:
        schema.register()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", list(CALLS[command].arguments))
        check_noise(build_denoiser(cfg), build_objective(cfg), instantiate(cfg.sampler))
        assert caplog.text == "", command.text


def test_readme_is_short_and_its_links_lead_somewhere():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.encode()) <= 9000
    links = re.findall(r"\]\(([^)#]+)", readme)
    assert len(links) > 10
    assert not [link for link in links if not (ROOT / link).exists()]
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert pages - {"docs/index.md"} <= set(links), "a page that README does not lead to"


def test_the_map_of_rooms_is_complete():
    text = (ROOT / "docs/developing.md").read_text().partition("## The house")[2]
    named = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", text, re.M))))
    modules = {p.stem for p in (ROOT / "ccdiff").iterdir() if p.suffix == ".py" or p.is_dir()}
    assert named == modules - {"__init__", "__main__", "__pycache__"}


def test_pages_name_no_host():
    for path in [*PAGES, ROOT / "mkdocs.yml", ROOT / "CHANGELOG.md", ROOT / "CITATION.cff"]:
        assert not re.search(r"https?://|www\.", path.read_text()), path


def test_findings_point_at_code_that_is_there_and_each_is_listed():
    page = (ROOT / "findings/README.md").read_text()
    named = set(re.findall(r"`((?:ccdiff|docs)/[\w/.]+)`", page))
    assert len(named) > 5
    assert not [path for path in named if not (ROOT / path).exists()]
    listed = set(re.findall(r"\]\((\w+\.sh)\)", page))
    assert listed == {path.name for path in (ROOT / "findings").glob("*.sh")}
