#!/usr/bin/env python3
"""Times the workloads in PyTorch on the CPU and prints one JSON line for each.

`bench_torch.py [--threads N] [--runs N] [--workload NAME ...]`: workloads take turns, so that what else the machine
does meets all of them alike. `cpu_ms` is the processor time of all its threads, which other programs disturb least.
"""

import argparse
import json
import statistics
import time

from workloads import WORKLOADS, Workload, prepare


def timed(workload: Workload) -> tuple[float, float]:
    """Milliseconds of one run: by the clock, and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    workload.network(*workload.inputs.values())
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workload", action="append", choices=WORKLOADS, metavar="NAME")
    options = parser.parse_args()
    prepare(options.threads)
    workloads = {name: WORKLOADS[name]() for name in options.workload or WORKLOADS}
    times = {name: [] for name in workloads}
    for workload in workloads.values():
        timed(workload)  # the first run also allocates
    for _ in range(options.runs):
        for name, workload in workloads.items():
            times[name].append(timed(workload))
    for name, runs in times.items():
        wall, cpu = zip(*runs)
        row = {
            "workload": name,
            "implementation": "pytorch",
            "place": "native",
            "threads": options.threads,
            "median_ms": round(statistics.median(wall), 1),
            "spread_ms": round(max(wall) - min(wall), 1),
            "cpu_ms": round(statistics.median(cpu), 1),
            "runs": options.runs,
        }
        print(json.dumps(row))


if __name__ == "__main__":
    main()
