# SPDX-License-Identifier: BSD-2-Clause
"""Our driver beside the in-tree one: the same guest, the same boot, the same programs, in turn A B A B.

The server runs in the guest and the client on the host, so that one clock, the host's, times everything. The windows
are the defaults of both ends: 256 KiB that the guest grants (af_vsock's default), 256 KiB that vsockd grants.
"""

import json
import statistics

from report import Wrong
from stage import BENCH, GuestService

PORT = 5900
WINDOWS = "256 KiB each way"
WORK = [("put", "host to guest", 64), ("put", "host to guest", 4096), ("put", "host to guest", 65536),
        ("get", "guest to host", 64), ("get", "guest to host", 4096), ("get", "guest to host", 65536),
        ("ping", "round trip", 1)]


def switch(stage, driver):
    """Change the guest's driver; connections that have just closed may hold the old one for a moment."""
    stage.vm.wait_until(f"vsock-driver {driver} >/tmp/switch.log 2>&1", 40)


def measure(stage, op, size, ms):
    argv = [BENCH, op, f"vsock-mux:{stage.hybrid}:{PORT}", size, ms]
    status, out, errors = stage.host(argv, timeout=60)
    if status:
        raise Wrong(f"bench-flow {op} {size}: exit status {status}", errors.splitlines())
    answer = json.loads(out)
    return answer["p50_us"] if op == "ping" else answer["bytes_per_second"] / 1e6


def visit(stage, report, driver, ms, turn):
    """One figure for each piece of work."""
    switch(stage, driver)
    figures = []
    with GuestService(stage, "bench", f"bench-flow serve vsock:any:{PORT}", word="listening"):
        for op, direction, size in WORK:
            report.progress(f"  ...           {turn}, {driver} driver: {direction}, {size} bytes")
            figures.append(measure(stage, op, size, ms))
    return figures


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def spread(s):
    digits = 2 if s["median"] < 10 else 1 if s["median"] < 100 else 0
    if s["min"] == s["max"]:
        return f"{s['median']:.{digits}f}"
    return f"{s['median']:.{digits}f} ({s['min']:.{digits}f}-{s['max']:.{digits}f})"


def size_name(size):
    return f"{size >> 10} KiB" if size >= 1024 else f"{size} B"


def show(report, stock, ours):
    """The table, from lists of visits."""
    report.say(f"  {'':38} {'in-tree driver':>24} {'our driver':>24}   ours / in-tree")
    for number, (op, direction, size) in enumerate(WORK):
        a, b = (summary([visit[number] for visit in visits]) for visits in (stock, ours))
        unit = "us" if op == "ping" else "MB/s"
        ratio = b["median"] / a["median"]
        name = f"{direction}, {size_name(size)}{'' if op == 'ping' else ' writes'}"
        remark = "  (less is better)" if op == "ping" else ""
        report.say(f"  {name:33} {unit:4} {spread(a):>24} {spread(b):>24}   {ratio:6.2f}{remark}")
        report.speed.append({"work": direction, "bytes": size, "unit": unit, "stock": a, "ours": b, "ratio": ratio,
                             "windows": WINDOWS})


def compare(stage, report, pairs, ms):
    """All of it; the last visit leaves our driver loaded."""
    stock, ours = [], []
    for pair in range(1, pairs + 1):
        turn = f"pair {pair} of {pairs}"
        stock.append(visit(stage, report, "stock", ms, turn))
        ours.append(visit(stage, report, "ours", ms, turn))
    return stock, ours
