"""A W&B workspace that compares runs: ``python -m ccdiff.dashboard``, once per project."""

import argparse
from typing import Any

from ccdiff.errors import UserError
from ccdiff.launch.entry import plain
from ccdiff.system.typed import as_typed

__all__ = ["main", "make_dashboard", "workspace"]

_AXES = ("schedule", "prediction", "weighting", "optimizer/lr", "conditioning/drop", "seed")


def workspace(entity: str, project: str) -> Any:
    """The workspace, not yet saved: figures over all settings, curves by group, samples by run.

    Arguments:
        entity: User or team.
        project: Where the runs are.

    Raises:
        UserError: Where the extra ``dashboard`` is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise UserError(
            "dashboards need wandb-workspaces: uv sync --extra dashboard, or "
            "pip install wandb-workspaces"
        ) from error

    def curve(key: str, x: str, title: str) -> Any:
        return panels.LinePlot(title=f"{key} {title}", x=x, y=[key], log_y=True)

    columns = [panels.ParallelCoordinatesPlotColumn(panels.Config(axis)) for axis in _AXES]
    result = panels.SummaryMetric("heldout/eps_mse")
    columns.append(panels.ParallelCoordinatesPlotColumn(result, log=True))
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name="ccdiff: compare runs",
        sections=[
            workspaces.Section(
                name="Which won",
                is_open=True,
                panels=[
                    panels.ParallelCoordinatesPlot(title="All settings", columns=columns),
                    panels.ParameterImportancePlot(with_respect_to="heldout/eps_mse"),
                    panels.BarPlot(title="heldout/eps_mse", metrics=["heldout/eps_mse"]),
                    panels.RunComparer(diff_only="split"),
                ],
            ),
            workspaces.Section(
                name="Learning",
                is_open=True,
                panels=[
                    curve("heldout/eps_mse", "train/images_seen", "by images seen"),
                    curve("heldout/eps_mse", "RelativeTime(Wall)", "by time"),
                    curve("train/loss", "train/images_seen", "by images seen"),
                    panels.LinePlot(title="images/s", y=["train/images_per_second"]),
                    panels.LinePlot(title="share of the device's peak", y=["train/mfu"]),
                ],
            ),
            workspaces.Section(
                name="Samples from the same noise",
                is_open=True,
                panels=[
                    panels.MediaBrowser(
                        title=key,
                        media_keys=[key],
                        mode="grid",
                        grid_x_axis="step",
                        grid_y_axis="run",
                    )
                    for key in ("samples/ema", "samples/raw", "samples/denoising")
                ],
            ),
        ],
        runset_settings=workspaces.RunsetSettings(
            groupby=[workspaces.Metric("Group")],
            order=[workspaces.Ordering(workspaces.Summary("heldout/eps_mse"), ascending=True)],
        ),
    )


def make_dashboard(arguments: list[str]) -> None:
    """Saves the workspace and prints its address.

    Arguments:
        arguments: Of the command line.

    Raises:
        UserError: Where the user is not logged in, or W&B refuses.
    """
    parser = argparse.ArgumentParser(prog=as_typed("dashboard"), add_help=False)
    parser.add_argument("--project", default="ccdiff")
    parser.add_argument("--entity")
    options = parser.parse_args(arguments)
    import wandb

    try:
        logged_in = wandb.login(prompt=False)
    except wandb.errors.Error as error:
        raise UserError(f"W&B does not take the key that it knows: {error}") from error
    if not logged_in:
        raise UserError(
            "you are not logged in to W&B, so there is nowhere to make a dashboard: run "
            "wandb login; without W&B, python -m ccdiff.compare makes a page of the same figures"
        )
    entity = options.entity or str(wandb.Api().default_entity)
    try:
        print(workspace(entity, options.project).save().url)
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise UserError(f"W&B did not take the dashboard: {error}") from error


main = plain(
    "dashboard",
    about="Makes a W&B workspace that compares the runs of a project. Needs the extra dashboard.",
    job="ccdiff.dashboard:make_dashboard",
    takes="[flags]",
    examples=(("", "of the project ccdiff"), ("--project faces --entity my-team", "")),
    keys=(
        ("--project ccdiff", "that of tracker.project"),
        ("--entity NAME", "user or team; by default your own"),
    ),
)

if __name__ == "__main__":
    main()
