# SPDX-License-Identifier: BSD-2-Clause
"""Run rings of tests, two cases at a time, and count what they say.

A case is an executable file in tests/RING, or a test of meson's in the suite RING. It passes with exit status 0, is
skipped with 77, and fails otherwise. Where it prints `ok - NAME`, `not ok - NAME` or `skip - NAME # reason` (TAP's
spelling of these is understood too), these lines are counted instead of the file.
"""

import argparse
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("SLUICE_BUILD") or ROOT / "build")
LOGS = BUILD / "test-logs"
DEFAULT_TIMEOUT = 300
MODULE_KERNELS = ["6.1", "6.12", "newest"]

# Build directory -> (environment, meson options, groups of tools/deps).
BUILDS = {
    ".": ({}, [], ["build"]),
    "sanitize": ({}, ["-Db_sanitize=address,undefined"], ["build"]),
    "threads": ({}, ["-Dfuzz=true", "-Db_sanitize=thread"], ["build"]),
    "fuzz": ({"CC": "clang"}, ["-Dfuzz=true", "-Db_sanitize=address,undefined"], ["build", "fuzz"]),
}


@dataclass
class Ring:
    about: str
    builds: list = field(default_factory=list)    # of BUILDS, whose meson tests of this suite belong to the ring
    modules: bool = False                         # needs our kernel modules
    needs: list = field(default_factory=list)     # groups of tools/deps
    ci: bool = True


RINGS = {
    "style": Ring("formatting, linters and house rules", ["."], needs=["style"]),
    "unit": Ring("the rules and the parts built on them, natively and under sanitizers",
                 [".", "sanitize", "threads"], needs=["unit"]),
    "conformance": Ring("the specification, statement by statement", ["."]),
    "fuzz": Ring("each fuzzer for a few seconds, starting from its corpus", ["fuzz", "threads"], needs=["fuzz"]),
    "sim": Ring("simulated peers, links and liars, from seeds, natively and under sanitizers",
                [".", "sanitize", "threads"]),
    "e2e": Ring("the userspace programs together, natively and under sanitizers", [".", "sanitize", "threads"]),
    "kapi": Ring("what a program sees of the kernel modules, in VMs", ["."], modules=True, needs=["vm", "modules"]),
    "vm": Ring("stock kernels, our modules and the daemon together, in VMs", ["."], modules=True,
               needs=["vm", "modules"]),
    "bench": Ring("that the benchmarks run; figures are for tests/bench by hand", ["."], modules=True,
                  needs=["bench", "vm", "modules"]),
    "debug": Ring("kernels with KASAN, lockdep and fault injection (long)", ["."], needs=["vm", "uml"], ci=False),
}


@dataclass
class Case:
    ring: str
    name: str
    argv: list
    cwd: Path
    timeout: float
    env: dict
    vm: bool = False
    alone: bool = False                           # compares times
    on_demand: str = ""                           # why it runs only when it is named

    @property
    def log(self):
        return LOGS / self.ring / (self.name.replace("/", "_") + ".log")


@dataclass
class Outcome:
    case: Case
    seconds: float
    passed: int = 0
    failed: list = field(default_factory=list)
    skipped: list = field(default_factory=list)    # "name: reason"
    output: str = ""


class Terminal:
    """One line at a time, from any thread; a line of progress is replaced where that is possible."""

    def __init__(self):
        self.lock = threading.Lock()
        self.progress = ""
        self.live = sys.stdout.isatty()

    def print(self, text):
        with self.lock:
            self._wipe()
            print(text, flush=True)

    def running(self, text):
        with self.lock:
            if self.live:
                self._wipe()
                self.progress = text[:100]
                print(self.progress, end="\r", flush=True)

    def _wipe(self):
        if self.progress:
            print(" " * len(self.progress), end="\r")
            self.progress = ""


TERMINAL = Terminal()


# --- building ----------------------------------------------------------------------------------------------------

def step(what, argv, env=None):
    """Something that must succeed before cases can run; None, or the Outcome of its failure."""
    TERMINAL.running(f"      {what} ...")
    began = time.monotonic()
    case = Case("build", what, argv, ROOT, 0, {})
    done = subprocess.run(argv, cwd=ROOT, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    seconds = time.monotonic() - began
    case.log.parent.mkdir(parents=True, exist_ok=True)
    case.log.write_text(done.stdout)
    if done.returncode == 0:
        TERMINAL.print(f"build {seconds:6.1f} s  {what}")
        return None
    TERMINAL.print(f"FAIL  {seconds:6.1f} s  {what}\n{indent(done.stdout)}")
    return Outcome(case, seconds, failed=[what], output=done.stdout)


def build(name):
    env, options, groups = BUILDS[name]
    directory = BUILD / name
    failure = step(f"packages for {' '.join(groups)}", ["tools/deps", *groups])
    if not failure and not (directory / "build.ninja").exists():
        directory.mkdir(parents=True, exist_ok=True)
        failure = step(f"meson setup {name}", ["meson", "setup", str(directory), *options], env)
    return failure or step(f"meson compile {name}", ["meson", "compile", "-C", str(directory), "-j2"])


def has_meson_tests(ring):
    return (ROOT / "tests" / ring / "meson.build").exists()


def prepare(rings):
    """Build what the rings need; ({ring: why it cannot run}, outcomes of failed builds)."""
    failures, broken = [], {}
    groups = sorted({g for r in rings for g in RINGS[r].needs})
    failure = step(f"packages for {' '.join(groups)}", ["tools/deps", *groups]) if groups else None
    if failure:
        return dict.fromkeys(rings, "its packages could not be installed"), [failure]

    def build_for(name):
        users = [r for r in rings if name in RINGS[r].builds and (name == "." or has_meson_tests(r))]
        failure = build(name) if users else None
        if failure:
            failures.append(failure)
            broken.update(dict.fromkeys(users, "its build failed"))

    def build_modules():
        users = [r for r in rings if RINGS[r].modules]
        failure = step(f"modules for {' '.join(MODULE_KERNELS)}", ["tools/modules", *MODULE_KERNELS]) if users else None
        if failure:
            failures.append(failure)
            broken.update(dict.fromkeys(users, "the modules could not be built"))

    build_for(".")
    with ThreadPoolExecutor() as at_once:    # the modules' kernels are fetched meanwhile
        waited_for = at_once.submit(build_modules)
        for name in BUILDS:
            if name != ".":
                build_for(name)
        waited_for.result()
    return broken, failures


# --- finding cases -----------------------------------------------------------------------------------------------

def header(path, word):
    """The values of `# word: value` among the first lines of a script."""
    with open(path, "rb") as script:
        lines = [script.readline(500).decode(errors="replace") for _ in range(10)]
    return [m[1].strip() for line in lines if (m := re.match(rf"(?:#|//|--)\s*{word}:\s*(.*)", line))]


def script_cases(ring):
    for path in sorted((ROOT / "tests" / ring).glob("*")):
        if not path.is_file() or not os.access(path, os.X_OK) or path.name.endswith((".c", ".h", ".py", ".guest.sh")):
            continue
        timeout = float((header(path, "timeout") or [DEFAULT_TIMEOUT])[0])
        case = Case(ring, path.name, [str(path)], ROOT, timeout, {}, "vm" in RINGS[ring].needs,
                    ring == "bench" or bool(header(path, "alone")))
        case.needs = " ".join(header(path, "needs")).split()
        case.on_demand = " ".join(header(path, "on demand"))
        yield case


def meson_cases(ring):
    for name in RINGS[ring].builds:
        directory = BUILD / name
        if not (directory / "build.ninja").exists() or not has_meson_tests(ring):
            continue
        command = ["meson", "introspect", "--tests", str(directory)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for test in json.loads(done.stdout or "[]"):
            suites = [s.split(":")[-1] for s in test["suite"]]
            if ring not in suites or test["name"].startswith("ring-"):
                continue
            suffix = "" if name == "." else f"@{name}"
            yield Case(ring, test["name"] + suffix, test["cmd"], Path(test["workdir"] or ROOT),
                       max(test["timeout"], DEFAULT_TIMEOUT), test["env"], alone=ring == "bench")


def find_cases(ring):
    return [*meson_cases(ring), *script_cases(ring)]


# --- running one -------------------------------------------------------------------------------------------------

LINES_BEFORE_FAILURE = 20    # shown again ahead of a failed case's output

RESULT = re.compile(r"^\s*(?P<verdict>ok|not ok|skip)(?: \d+)? - (?P<name>.*?)(?:\s+#\s*(?P<note>.*))?$")


def judge(case, status, seconds, output, timed_out):
    outcome = Outcome(case, seconds, output=output)
    for line in output.splitlines():
        match = RESULT.match(line)
        if not match:
            continue
        note = match["note"] or ""
        if match["verdict"] == "skip" or note.upper().startswith("SKIP"):
            reason = re.sub("^skip:?", "", note, flags=re.I).strip()
            outcome.skipped.append(f"{match['name']}: {reason or 'no reason given'}")
        elif match["verdict"] == "ok":
            outcome.passed += 1
        else:
            outcome.failed.append(match["name"])
    counted = outcome.passed or outcome.failed or outcome.skipped
    if timed_out:
        outcome.failed.append(f"no end within {case.timeout:.0f} s")
    elif status == 77 and not outcome.failed:
        if not outcome.skipped:
            last = output.strip().splitlines()[-1:] or ["no reason given"]
            outcome.skipped.append(last[0])
    elif status != 0 and not outcome.failed:
        outcome.failed.append(f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}")
    elif not counted:
        outcome.passed = 1
    return outcome


RUNNING = set()


def stop(number, _frame):
    """Cases are sessions of their own: a signal to the run would leave them behind."""
    for process in list(RUNNING):
        end_session(process)
    os._exit(128 + number)


def run_case(case):
    case.log.parent.mkdir(parents=True, exist_ok=True)
    logs = case.log.with_suffix("")
    logs.mkdir(exist_ok=True)
    env = {**os.environ, "SLUICE_ROOT": str(ROOT), "SLUICE_BUILD": str(BUILD), "SLUICE_LOGS": str(logs),
           "PYTHONPATH": str(ROOT / "tools"), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
           "CRITERION_USE_TAP": "1", "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0",
           "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1", **case.env}
    began = time.monotonic()
    output, timed_out = bytearray(), False
    with open(case.log, "wb") as log:
        # A session of its own, so that a timeout ends what the case has started, too.
        process = subprocess.Popen(case.argv, cwd=case.cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        RUNNING.add(process)
        ended = None
        while True:
            seconds = time.monotonic() - began
            TERMINAL.running(f"run   {seconds:6.1f} s  {case.ring}/{case.name}")
            if select.select([process.stdout], [], [], 0.5)[0]:
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    break
                output += data
                log.write(data)
                log.flush()
            elif process.poll() is not None:
                # It left something behind that holds its output open; do not wait for that for long.
                ended = ended or time.monotonic()
                if time.monotonic() - ended > 2:
                    break
            if seconds > case.timeout:
                timed_out = True
                break
        try:
            process.wait(5 if not timed_out else 0.1)
        except subprocess.TimeoutExpired:
            timed_out = True
        end_session(process)
        RUNNING.discard(process)
    return judge(case, process.returncode, time.monotonic() - began, output.decode(errors="replace"), timed_out)


def end_session(process):
    for number, patience in ((signal.SIGTERM, 3), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


# --- reporting ---------------------------------------------------------------------------------------------------

def indent(text):
    return "\n".join("    | " + line for line in text.rstrip().splitlines())


def said_before_failing(output):
    """Each failure with the lines that led to it: what a reader of a long output wants first."""
    since, blocks = [], []
    for line in output.splitlines():
        since.append(line)
        match = RESULT.match(line)
        if match:
            if match["verdict"] == "not ok":
                blocks += since[-LINES_BEFORE_FAILURE:]
            since = []
    return blocks


def report(outcome):
    case = outcome.case
    verdict = "FAIL " if outcome.failed else "pass " if outcome.passed else "skip "
    counts = f" ({outcome.passed} passed)" if outcome.passed > 1 else ""
    lines = [f"{verdict} {outcome.seconds:6.1f} s  {case.ring}/{case.name}{counts}"]
    if outcome.failed:
        lines += [f"      failed: {name}" for name in outcome.failed]
        if why := said_before_failing(outcome.output):
            lines += [indent("\n".join(why)), "      all of it:"]
        lines += [indent("\n".join(outcome.output.splitlines()[-200:])), f"      log: {case.log}"]
    lines += [f"      skipped: {skip}" for skip in outcome.skipped]
    TERMINAL.print("\n".join(lines))


def run_all(cases, jobs):
    shared = [c for c in cases if not c.alone]
    # Long ones first, so that none is left alone at the end.
    with_vm = deque(sorted((c for c in shared if c.vm), key=lambda case: -case.timeout))
    without = deque(c for c in shared if not c.vm)
    outcomes = []

    def take(queue):
        try:
            return queue.popleft()
        except IndexError:
            return None

    def one(case):
        outcome = run_case(case)
        report(outcome)
        outcomes.append(outcome)

    def lane(number):
        """Cases with and without VMs side by side: a guest that waits for its test leaves processors idle."""
        first, second = (without, with_vm) if number % 2 else (with_vm, without)
        for queue in (first, second):
            while case := take(queue):
                one(case)

    with ThreadPoolExecutor(jobs) as lanes:
        list(lanes.map(lane, range(jobs)))
    for case in cases:
        if case.alone:
            one(case)
    return outcomes


def needs_of(cases):
    return sorted({need for case in cases for need in getattr(case, "needs", [])})


def parse():
    parser = argparse.ArgumentParser(prog="tests/run", description="Run rings of tests; by default, those of CI.")
    parser.add_argument("what", nargs="*", metavar="RING[/CASE]",
                        help="for example: unit, vm, vm/boot-kernels; what follows -- is handed to named cases")
    parser.add_argument("--list", action="store_true", help="list the rings and their cases")
    parser.add_argument("--no-build", action="store_true", help="neither build nor install anything")
    parser.add_argument("-j", dest="jobs", type=int, default=2, help="cases at a time (default: 2)")
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:at])
    args.words = words[at + 1:]
    if args.words and not any("/" in what for what in args.what):
        parser.error("words behind -- are for cases, and none is named")
    for what in args.what:
        if what.split("/")[0] not in RINGS:
            parser.error(f"no ring '{what.split('/')[0]}'; there are: {', '.join(RINGS)}")
    return args


def list_rings():
    for name, ring in RINGS.items():
        print(f"{name:12} {ring.about}{'' if ring.ci else ' [not in CI]'}")
        for case in find_cases(name):
            print(f"    {name}/{case.name}")


def select_cases(rings, wanted):
    cases = [c for r in rings for c in find_cases(r)]
    if any("/" in w for w in wanted):
        cases = [c for c in cases if c.ring in wanted or f"{c.ring}/{c.name}" in wanted]
    return cases


def main():
    args = parse()
    if args.list:
        list_rings()
        return 0
    wanted = args.what or [n for n, r in RINGS.items() if r.ci]
    rings = list(dict.fromkeys(w.split("/")[0] for w in wanted))
    broken, outcomes = ({}, []) if args.no_build else prepare(rings)
    cases = select_cases([r for r in rings if r not in broken], wanted)
    for what in wanted:
        if "/" in what and what.split("/")[0] not in broken and what not in [f"{c.ring}/{c.name}" for c in cases]:
            sys.exit(f"tests/run: no case '{what}'; see tests/run --list")
    if not args.no_build and needs_of(cases):
        failure = step(f"packages for {' '.join(needs_of(cases))}", ["tools/deps", *needs_of(cases)])
        outcomes += [failure] if failure else []
    for ring, reason in broken.items():
        TERMINAL.print(f"FAIL            {ring}: {reason}")
    began = time.monotonic()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:    # nohup
            signal.signal(number, stop)
    for case in cases:
        case.argv += args.words if f"{case.ring}/{case.name}" in wanted else []
    named = [c for c in cases if f"{c.ring}/{c.name}" in wanted or not c.on_demand]
    outcomes += [Outcome(c, 0, skipped=[c.on_demand]) for c in cases if c not in named]
    outcomes += run_all(named, args.jobs)

    failed = [f"{o.case.ring}/{o.case.name}: {name}" for o in outcomes for name in o.failed]
    skipped = [f"{o.case.ring}/{o.case.name}: {skip}" for o in outcomes for skip in o.skipped]
    print(f"\n{time.monotonic() - began:.0f} s")
    for line in skipped:
        print(f"skipped: {line}")
    for line in failed:
        print(f"failed: {line}")
    print(f"{sum(o.passed for o in outcomes)} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
