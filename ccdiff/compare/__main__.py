"""Runs side by side: ``python -m ccdiff.compare multirun/<day>/<time>``, or several runs."""

from ccdiff.launch.entry import plain

__all__ = ["main"]

main = plain(
    "compare",
    about="One page (compare.html) and one table (compare.csv) on several runs: what differs, "
    "what it did, over seeds; learning curves; what it cost to get there; samples side by side.",
    job="ccdiff.compare.job:compare_runs",
    takes="FOLDER ... [key=value ...]",
    examples=(
        ("multirun/<day>/<time>", "a sweep"),
        ("runs/a runs/b", "runs or sweeps, as many as you like"),
        ("multirun/<day>/<time> by=cpu_seconds reach=label_agreement_classifier:0.9,0.95", ""),
        ("runs/a runs/b 'reach=heldout/eps_mse<0.3' reach=fd_classifier_to_heldout:5", ""),
    ),
    keys=(
        ("by=images", "what a cost is counted in: images, seconds, cpu_seconds or flops"),
        (
            "reach=null",
            "a figure and values of it, what is to be reached: its cost is printed too",
        ),
        ("out=null", "a folder to write to; none is that of the sweep, or compare/ for several"),
    ),
)

if __name__ == "__main__":
    main()
