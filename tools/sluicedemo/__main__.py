# SPDX-License-Identifier: BSD-2-Clause
"""See a guest with our driver talk to this machine through our daemon, with programs that know nothing of either.

    tools/demo                    all of it, a row per check; exit status 0 only if every row is right
    tools/demo --quick            without the repetitions of the measurement
    tools/demo --shell            a guest to play in, with what to type on both sides

What is missing is installed (Debian packages), fetched (a kernel, into ~/.cache/sluice) and built (in build/); the
machine's own kernel and its own vsock device are left alone.
"""

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import checks
import sluicevm
import speed
from report import Report, in_words
from sluicevm import ROOT, Failure, best_accelerator
from stage import BENCH, BUILD, VCAT, VSOCKD, Stage, run_step

KERNELS = ("6.1", "6.12", "newest")
PAIRS, MEASURE_MS = 3, 500
QUICK_PAIRS, QUICK_MS = 1, 150
SHELL_HELP = """
A guest with our driver comes up in this terminal. PATH is {path}

  from the host to the guest
    guest$ socat VSOCK-LISTEN:5000,fork EXEC:cat
    host$  (echo CONNECT 5000; cat) | socat - UNIX-CONNECT:{path}
{vcat_host}
  from the guest to the host (CID 2)
    host$  socat UNIX-LISTEN:{path}_7000,fork EXEC:date
    guest$ socat - VSOCK-CONNECT:2:7000
{vcat_guest}
  in the guest, vsock-driver stock|ours changes the driver, and dmesg has the kernel log; 'exit' ends it all.
  vsockd's log: {log}
"""


class Stop(Exception):
    """A step without which nothing else can be done has failed."""


def parse():
    parser = argparse.ArgumentParser(prog="tools/demo", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", default="6.1", choices=KERNELS, help="of the guest (default: 6.1)")
    parser.add_argument("--quick", action="store_true", help="measure once and briefly")
    parser.add_argument("--shell", action="store_true", help="a guest to play in, instead of the checks")
    parser.add_argument("--json", action="store_true", help="a JSON document on stdout; rows go to stderr")
    parser.add_argument("--logs", metavar="DIR", help="put the logs there, and keep them")
    parser.add_argument("--keep", action="store_true", help="keep the logs even if all is well")
    parser.add_argument("--accel", default="auto", choices=["auto", "tcg", "kvm"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.shell and (args.json or not sys.stdin.isatty()):
        parser.error("--shell needs a terminal")
    return args


# --- getting ready -----------------------------------------------------------------------------------------------

@contextmanager
def needed(report, name, hint):
    """A row without which the rest makes no sense."""
    with report.row(name) as row:
        yield row
    if report.rows[-1].verdict == "FAIL":
        raise Stop(hint)


@contextmanager
def build_lock():
    """ninja does not expect a second one in the same directory."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / ".demo.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def must_write(directory, variable):
    """Say now what would come as a traceback or as a compiler's complaint later."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        good = os.access(directory, os.W_OK | os.X_OK)
    except OSError:
        good = False
    if not good:
        raise Failure(f"{directory} cannot be written; set {variable} to a directory that can")


def build(stage, report):
    if not (BUILD / "build.ninja").exists():
        run_step(stage, report, "meson", ["meson", "setup", BUILD, ROOT])
    targets = [VSOCKD, BENCH] + ([VCAT] if (ROOT / "tools/vcat/meson.build").exists() else [])
    run_step(stage, report, "ninja", ["ninja", "-C", BUILD, *[t.relative_to(BUILD) for t in targets]])
    return "vsockd, " + ("vcat, " if VCAT.exists() else "") + "bench-flow"


def prepare(stage, report, args):
    report.section("Getting ready")
    must_write(sluicevm.cache_dir(), "XDG_CACHE_HOME")
    must_write(BUILD, "SLUICE_BUILD")
    with needed(report, f"kernel {args.kernel} from Debian's archive",
                "look at the message above; the kernel comes from the mirrors in /etc/apt") as row:
        run_step(stage, report, "kernel", [ROOT / "tools/kernel", "fetch", args.kernel, "--headers"])
        row.result = sluicevm.find_kernel(args.kernel).release
    with needed(report, "our programs",
                "see the compiler's message; if build/ is not yours, set SLUICE_BUILD to another directory") as row:
        with build_lock():
            row.result = build(stage, report)
    with needed(report, "our kernel modules", f"try: V=1 tools/modules {args.kernel}") as row:
        run_step(stage, report, "modules", [ROOT / "tools/modules", args.kernel])
        row.result = ", ".join(path.name for path in sluicevm.our_modules(sluicevm.find_kernel(args.kernel)))
    with needed(report, "how to run a guest", "try: tools/vm --run true") as row:
        accel = best_accelerator() if args.accel == "auto" else args.accel
        row.result = "KVM" if accel == "kvm" else "TCG: QEMU emulates, because KVM cannot be used here"
    return accel


def boot(stage, report, args, accel):
    with needed(report, "guest up, our driver on our vsockd", "look at the guest's console and vsockd's log") as row:
        stage.start_vsockd()
        vm = stage.make_vm(args.kernel, accel)
        vm.start()
        release, modules = vm.check("uname -r; grep -c ^vst_common /proc/modules").split()
        if modules != "1":
            raise Failure("the guest runs without our driver")
        row.result = f"Linux {release}, {vm.cpus} CPUs, {vm.mem} MiB"
    report.facts.update(kernel=release, accelerator=accel)


# --- the acts ----------------------------------------------------------------------------------------------------

def run_checks(stage, report, title, rows):
    report.section(title)
    for name, check in rows:
        if stage.vsockd.poll() is not None and check is not checks.daemon_log:
            raise Stop("vsockd has ended; look at its log")
        if not stage.vm_runs() and check is not checks.daemon_log:
            raise Stop("the guest has died; look at its console")
        with report.row(name) as row:
            result = check(stage)
            row.result, row.lines = result if isinstance(result, tuple) else (result, [])


def run_speed(stage, report, args, accel):
    pairs, ms = (QUICK_PAIRS, QUICK_MS) if args.quick else (PAIRS, MEASURE_MS)
    report.section("Speed beside the in-tree driver, in the same boot")
    how = f"{pairs} pairs in turn, {ms} ms each: median (min-max)" if pairs > 1 else f"once, {ms} ms each"
    report.say(f"  {how}. One connection, plain calls, windows of {speed.WINDOWS}.")
    if accel == "tcg":
        report.say("  The guest is emulated (TCG): absolute figures say nothing, ratios a little.")
    with report.row("measured") as row:
        stock, ours = speed.compare(stage, report, pairs, ms)
        speed.show(report, stock, ours)
        row.result = f"{len(stock) + len(ours)} changes of driver, {2 * pairs * len(speed.WORK)} figures"


def play(stage, report, args, accel):
    stage.start_vsockd()
    vcat = VCAT.exists()
    report.say(SHELL_HELP.format(path=stage.hybrid, log=stage.logs / "vsockd.log",
                                 vcat_host=f"    host$  {VCAT} vsock-mux:{stage.hybrid}:5000" * vcat,
                                 vcat_guest="    guest$ vcat vsock:2:7000" * vcat))
    stage.make_vm(args.kernel, accel, append="quiet").shell()


def perform(stage, report, args):
    report.say("Sluice: our guest driver and our vsockd carry programs that know nothing of them")
    accel = prepare(stage, report, args)
    if args.shell:
        play(stage, report, args, accel)
        return
    boot(stage, report, args, accel)
    run_checks(stage, report, "Unmodified programs", checks.PROGRAMS)
    run_checks(stage, report, "When it goes wrong: what the user sees", checks.FAILURES)
    run_speed(stage, report, args, accel)
    run_checks(stage, report, "In the end", checks.ENDING)


# --- ending ------------------------------------------------------------------------------------------------------

def conclude(report, trouble, logs, seconds):
    failed = report.failed()
    ok = sum(row.verdict == "ok" for row in report.rows)
    skipped = [row for row in report.rows if row.verdict == "skip"]
    report.say()
    for row in skipped:
        report.say(f"skipped: {row.name}: {row.result}")
    for row in failed:
        report.say(f"failed: {row.name}: {row.result}")
    if trouble:
        report.say(f"tools/demo: {trouble}")
    elif failed:
        report.say("what to try: once more, if it was a timeout and this machine is busy; by hand: tools/demo --shell")
    if logs:
        report.say(f"logs (guest.console.log, vsockd.log and others): {logs}")
    report.say(f"{ok} right, {len(failed)} wrong, {len(skipped)} skipped in {seconds:.0f} s")


def interrupted(*_):
    raise KeyboardInterrupt


def hold_signals():
    """What ends must not be interrupted; it does not take long."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def main():
    args = parse()
    report, began, trouble, status, stage = Report(args.json), time.monotonic(), "", 1, None
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        stage = Stage(args.logs)
        perform(stage, report, args)
        status = 1 if report.failed() else 0
    except Stop as stop:
        trouble = f"{report.rows[-1].name} failed; {stop}"
    except KeyboardInterrupt:
        status = 130
    except (Failure, OSError, subprocess.SubprocessError) as failure:
        trouble = in_words(failure)
    finally:
        hold_signals()
        left = stage.close(args.keep or status == 1) if stage else False
    if status == 130:
        report.say("\ntools/demo: interrupted; all that it had started is ended")
    elif not args.shell or status:
        conclude(report, trouble, stage.logs if left else None, time.monotonic() - began)
    if args.json:
        report.document(status)
    return status


sys.exit(main())
