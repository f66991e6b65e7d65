# SPDX-License-Identifier: BSD-2-Clause
"""What the demo runs on: a directory, our daemon, a guest with our driver, and services on both sides.

Every process is started in a session of its own and ended by that number, so that what socat forks ends with it.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from report import Wrong
from sluicevm import ROOT, VM, Failure, wait_for

GUEST_CID = 42
BUILD = Path(os.environ.get("SLUICE_BUILD") or ROOT / "build")
VSOCKD = BUILD / "userspace/daemon/vsockd"
VCAT = BUILD / "tools/vcat/vcat"
BENCH = BUILD / "tests/bench/bench-flow"
SPACE_MIB = 300         # files of 64 MiB twice, and what the guest boots from
LONGEST_TMPDIR = 50     # Unix sockets are put below, and their paths have 107 bytes


def end_session(process):
    """End a process that leads a session, and all in it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            continue
        if number == signal.SIGTERM and not session_left(process.pid):
            return


def session_left(leader):
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def make_directory():
    """A directory for sockets, files and logs, where there is room and where paths are short."""
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > LONGEST_TMPDIR:
        parent = Path("/tmp")
    try:
        free = shutil.disk_usage(parent).free >> 20
        if free < SPACE_MIB:
            raise Failure(f"{parent} has {free} MiB left, and the demo needs {SPACE_MIB}; make room, or set TMPDIR to "
                          "a directory with more")
        return Path(tempfile.mkdtemp(prefix="sluice-demo-", dir=parent))
    except OSError as error:
        raise Failure(f"no temporary directory in {parent}: {error}; set TMPDIR to one that can be written") from None


class HostService:
    """socat listening for guests at the hybrid path of a port; ONE_WAY: it reads, once."""

    def __init__(self, stage, port, target, one_way=False):
        self.stage, self.path = stage, stage.listen_path(port)
        self.log = stage.logs / f"host-socat-{port}.log"
        listen = f"UNIX-LISTEN:{self.path}" + ("" if one_way else ",fork")
        argv = ["socat", "-d", "-d", "-t", "60", *(["-u", "-b", "65536"] if one_way else []), listen, target]
        self.process = stage.start(argv, self.log)

    def wait_log(self, text):
        def there():
            return text in self.log.read_text(errors="replace") or self.process.poll() is not None
        wait_for(there, 20, f"host socat ({self.log}): '{text}'")
        if text not in self.log.read_text(errors="replace"):
            raise Wrong("the host's socat ended", self.log.read_text(errors="replace").splitlines()[-5:])

    def __enter__(self):
        self.wait_log("listening on")
        return self

    def __exit__(self, *_):
        self.stage.end(self.process)
        Path(self.path).unlink(missing_ok=True)


class GuestService:
    """A program in the background of the guest; it is there when its log holds the word."""

    def __init__(self, stage, name, command, word="listening on"):
        self.stage, self.log = stage, f"/tmp/{name}.log"
        # The log is emptied first: what a service before this one said must not be taken for its word.
        self.start = (f": >{self.log}; ( exec {command} ) </dev/null >>{self.log} 2>&1 & pid=$!; n=0; "
                      f"until grep -q '{word}' {self.log}; do n=$((n + 1)); "
                      f"[ $n -lt 600 ] && kill -0 $pid || {{ cat {self.log}; exit 1; }}; usleep 20000; done; echo $pid")

    def __enter__(self):
        self.pid = int(self.stage.vm.check(self.start).split()[-1])
        return self

    def __exit__(self, *_):
        if self.stage.vm_runs():
            self.stage.vm.run(f"kill {self.pid} 2>/dev/null; n=0; "
                              f"while grep -q '^State:.[^Z]' /proc/{self.pid}/status 2>/dev/null && [ $n -lt 200 ]; "
                              "do n=$((n + 1)); usleep 20000; done")


class Stage:
    def __init__(self, logs):
        self.dir = make_directory()
        self.own_logs = not logs
        self.logs = Path(logs).absolute() if logs else self.dir / "logs"
        self.hybrid = str(self.dir / "vm")
        self.device = self.dir / "device"
        self.vm = self.vsockd = None
        self.processes = []
        self.logs.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(self.dir)    # what others leave there goes with it

    # processes of this machine

    def start(self, argv, log, **kw):
        with open(log, "wb") as out:
            kw = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, **kw}
            process = subprocess.Popen([str(arg) for arg in argv], start_new_session=True, **kw)
        self.processes.append(process)
        return process

    def end(self, process):
        end_session(process)
        if process in self.processes:
            self.processes.remove(process)

    def host(self, argv, text="", timeout=30):
        """(exit status, output, errors) of a program with TEXT as its input."""
        process = self.start(argv, os.devnull, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, errors = process.communicate(text.encode(), timeout)
        except subprocess.TimeoutExpired:
            raise Wrong(f"no end within {timeout} s: {' '.join(map(str, argv))[:60]}") from None
        finally:
            self.end(process)
        return process.returncode, out.decode(errors="replace"), errors.decode(errors="replace")

    # the guest

    def listen_path(self, port):
        return f"{self.hybrid}_{port}"

    def start_vsockd(self):
        argv = [VSOCKD, "--guest-cid", GUEST_CID, "--socket", self.device, "--uds-path", self.hybrid]
        self.vsockd = self.start(argv, self.logs / "vsockd.log")
        wait_for(lambda: self.device.exists() or self.vsockd.poll() is not None, 10, "vsockd")
        if self.vsockd.poll() is not None:
            raise Failure(f"vsockd ended at once:\n{(self.logs / 'vsockd.log').read_text()}")

    def make_vm(self, kernel, accel, append=""):
        programs = ["socat", str(BENCH)] + ([str(VCAT)] if VCAT.exists() else [])
        self.vm = VM(kernel=kernel, driver="ours", mem=768, programs=programs, vsock=f"vhost-user:{self.device}",
                     accel=accel, log_dir=self.logs, name="guest", append=append)
        return self.vm

    def vm_runs(self):
        return bool(self.vm and self.vm.process and self.vm.process.poll() is None)

    def stop_vm(self):
        vm, self.vm = self.vm, None
        vm.stop()

    def stop_vsockd(self):
        """End it as a user would, and return its last words."""
        self.vsockd.terminate()
        self.vsockd.wait(10)
        self.end(self.vsockd)
        return (self.logs / "vsockd.log").read_text(errors="replace")

    def close(self, keep_logs):
        """End everything; True if logs are left."""
        if self.vm:
            self.vm.kill()
        for process in list(self.processes):
            self.end(process)
        if keep_logs and self.own_logs:
            for path in self.dir.iterdir():
                if path != self.logs:
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
        return keep_logs or not self.own_logs


def run_step(stage, report, name, argv):
    """A program that prepares something; its last line of output is shown while it runs. Raises Failure with the end
    of its output."""
    log = stage.logs / f"{name.split()[0]}.log"
    process = stage.start(argv, log, cwd=ROOT)
    began = time.monotonic()
    while True:
        try:
            process.wait(0.3)
            break
        except subprocess.TimeoutExpired:
            last = log.read_text(errors="replace").strip().splitlines()[-1:] or [""]
            report.progress(f"  ...  {time.monotonic() - began:6.0f} s  {name}: {last[0]}")
    stage.end(process)
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise Failure(f"'{' '.join(map(str, argv))}' failed\n{tail}")
