"""What many GPUs would gain, on paper: ``python -m tests.benchmarks.scaling --step-seconds 0.35``.

The gradient is averaged by a ring all-reduce, in which each of ``n`` processes sends and receives
``2 (n - 1) / n`` times its bytes (Patarasuk & Yuan, Bandwidth Optimal All-reduce Algorithms for
Clusters of Workstations, 2009). The backward pass has the gradients of a bucket ready one after
the other, and each is sent while the next is computed; the links carry one at a time. With ``k``
equal buckets, ready at even intervals over the backward pass of ``B`` seconds, each of which takes
``c`` seconds on the links, the last is through after

    max(B + c, B / k + k c)

seconds: either the links keep up and only the last bucket is waited for, or they never rest after
the first. ``simulate`` plays the same event by event, and a test holds one against the other.
"""

import argparse
from dataclasses import dataclass

BACKWARD_SHARE = 2 / 3
"""Of a step: the backward pass takes twice the operations of the forward pass."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Links between processes.

    Arguments:
        bandwidth: Bytes per second that a process sends, in the slowest link of the ring.
        latency: Seconds of one hop.
    """

    bandwidth: float
    latency: float

    def all_reduce(self, num_bytes: float, processes: int) -> float:
        """Seconds of a ring all-reduce."""
        hops = 2 * (processes - 1)
        return hops * (self.latency + num_bytes / processes / self.bandwidth)


def bucket_seconds(
    cluster: Cluster, *, num_bytes: float, processes: int, buckets: int
) -> list[float]:
    """What each of equal buckets takes on the links."""
    return [cluster.all_reduce(num_bytes / buckets, processes)] * buckets


def formula(backward: float, sending: list[float]) -> float:
    """Seconds from the start of the backward pass until all gradients are averaged."""
    buckets, each = len(sending), sending[0]
    return max(backward + each, backward / buckets + buckets * each)


def simulate(backward: float, sending: list[float]) -> float:
    """The same, bucket by bucket: ready, waiting for the link, sent."""
    free = 0.0
    for i, seconds in enumerate(sending, start=1):
        ready = backward * i / len(sending)
        free = max(free, ready) + seconds
    return free


def efficiency(step: float, cluster: Cluster, *, num_bytes: float, processes: int) -> float:
    """Speed with so many processes as a share of as many times the speed of one.

    Arguments:
        step: Seconds of a step of one process, with its share of the batch.
        cluster: The links.
        num_bytes: Of the gradients.
        processes: How many.
    """
    backward = BACKWARD_SHARE * step
    # DistributedDataParallel sends 25 MiB at a time.
    buckets = max(1, round(num_bytes / (25 << 20)))
    sending = bucket_seconds(cluster, num_bytes=num_bytes, processes=processes, buckets=buckets)
    return step / (step - backward + simulate(backward, sending))


def count_parameters(model: str) -> int:
    """Trainable numbers of a model of the suite at 256 px, counted without memory for them."""
    import torch

    from ccdiff.config.build import build_denoiser
    from tests.benchmarks.kit import count
    from tests.benchmarks.ours import composed

    with torch.device("meta"):
        return count(build_denoiser(composed("data=celebahq", f"model={model}")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="unet_large")
    parser.add_argument("--step-seconds", type=float, required=True, help="of one GPU, its share")
    parser.add_argument("--per-gpu", type=int, default=32, help="images of its share")
    parser.add_argument("--gbytes", type=float, nargs="+", default=[450, 50, 12.5], help="GB/s")
    parser.add_argument("--latency-us", type=float, default=10.0)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 16, 32, 64])
    args = parser.parse_args()
    parameters = count_parameters(args.model)
    num_bytes = 4 * parameters
    print(f"{args.model}: {parameters / 1e6:.1f} million parameters, {num_bytes / 1e6:.0f} MB of")
    print(f"gradients a step; {args.step_seconds} s for {args.per_gpu} images on one GPU")
    print("GPUs  global batch  " + "  ".join(f"{g:g} GB/s: images/s" for g in args.gbytes))
    for processes in args.gpus:
        cells = []
        for gbytes in args.gbytes:
            cluster = Cluster(bandwidth=gbytes * 1e9, latency=args.latency_us * 1e-6)
            share = efficiency(
                args.step_seconds, cluster, num_bytes=num_bytes, processes=processes
            )
            rate = share * processes * args.per_gpu / args.step_seconds
            cells.append(f"{rate:11.0f} ({100 * share:3.0f} %)")
        print(f"{processes:4}  {processes * args.per_gpu:12}  " + "  ".join(cells))


if __name__ == "__main__":
    main()
