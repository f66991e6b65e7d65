# SPDX-License-Identifier: BSD-2-Clause
"""What the VM tests have on the host: vsockd, services that guests reach, and clients that reach guests.

Every VM of a test that has this ends with a verdict on what our driver recorded in it.
"""

import base64
import contextlib
import gzip
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from sluicevm import ROOT, TRACE_FILE, VM, Failure, wait_for

BUILD = Path(os.environ.get("SLUICE_BUILD") or ROOT / "build")
LOGS = Path(os.environ.get("SLUICE_LOGS") or tempfile.mkdtemp(prefix="sluice-logs-"))
LOGS.mkdir(parents=True, exist_ok=True)
VSOCKD = BUILD / "userspace/daemon/vsockd"
BENCH_GUEST = BUILD / "tests/bench/bench-guest"
CONNECT_TIMEOUT_MS = 60000    # vsockd's own is 2 s, in which a busy machine's emulated guest may not get to answer
FAILED = []


class Wrong(Failure):
    """The guest did something else than it should."""


def need(good, message):
    if not good:
        raise Wrong(message)


def check(good, name, detail=""):
    if not good:
        FAILED.append(name)
        print(detail)
    print(f"{'ok' if good else 'not ok'} - {name}", flush=True)
    return bool(good)


def note(text):
    print(f"# {text}", flush=True)


@contextlib.contextmanager
def checked(name):
    """A check that may raise; it passes if it does not."""
    began = time.monotonic()
    try:
        yield
    except (Failure, AssertionError, OSError) as error:
        check(False, name, f"{type(error).__name__}: {error}")
    else:
        check(True, name)
    seconds = time.monotonic() - began
    if seconds > 20:
        note(f"that took {seconds:.0f} s")


def replay(vm):
    """Each step that a connection took in this guest is the one that the rules make of the step before."""
    name = f"{vm.name}: the trace, replayed, has no difference and no gap"
    vm.run("vst-trace save", 300)
    if vm.run(f"[ -e {TRACE_FILE} ]")[0]:
        if vm.run("grep -q 1 /sys/kernel/tracing/events/vst/vst_step/enable")[0] == 0:
            check(False, name, "nothing was recorded")
        elif vm.run("[ -d /sys/module/vst_common ] && [ ! -d /sys/kernel/tracing/events/vst ]")[0] == 0:
            print(f"skip - {name} # the kernel has no trace events", flush=True)
        return
    trace = LOGS / f"{vm.name}.trace"
    trace.write_bytes(gzip.decompress(base64.b64decode(vm.check(f"gzip -c {TRACE_FILE} | base64", 300))))
    done = subprocess.run([BUILD / "tests/vm/replay-trace", trace], capture_output=True, text=True, check=False)
    check(done.returncode == 0, name, f"{trace}:\n{done.stdout}{done.stderr}")
    note(f"{vm.name}: {done.stdout.strip()}")


VM.at_end.append(replay)


class Host:
    """vsockd and a directory for its sockets."""

    def __init__(self, name, *options):
        self.dir = Path(tempfile.mkdtemp(prefix="sluice-vm-", dir="/tmp"))
        self.device, self.hybrid = self.dir / "device", self.dir / "host"
        self.name, self.options, self.process, self.generation = name, options, None, 0
        self.services = []

    @property
    def log(self):
        return LOGS / f"{self.name}.vsockd{self.generation or ''}.log"

    def start(self):
        argv = [VSOCKD, "--guest-cid", "3", "--socket", self.device, "--uds-path", self.hybrid,
                "--connect-timeout", CONNECT_TIMEOUT_MS, *self.options]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: "front-end at" in self.log.read_text() or not self.alive(), 10, "vsockd")
        if not self.alive():
            raise Failure(f"vsockd ended at once:\n{self.log.read_text()}")
        return self

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """SIGKILL; what it leaves behind stays."""
        self.process.kill()
        self.process.wait()
        self.generation += 1

    def plug(self, vm):
        """A chardev to the vsockd that runs now, in place of the old one, and the device behind it."""
        vm.qmp.command("chardev-remove", id="vsock-char")
        address = {"type": "unix", "data": {"path": str(self.device)}}
        vm.qmp.command("chardev-add", id="vsock-char",
                       backend={"type": "socket", "data": {"addr": address, "server": False}})
        vm.plug_vsock()

    def dial(self, port, timeout=30, kind=socket.SOCK_STREAM):
        """A connection to a port of the guest, or ConnectionError."""
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.settimeout(timeout)
        seqpacket = kind == socket.SOCK_SEQPACKET
        try:
            sock.connect(f"{self.hybrid}_seqpacket" if seqpacket else str(self.hybrid))
            sock.sendall(b"CONNECT %d\n" % port)
            line = b""
            while not line.endswith(b"\n"):
                piece = sock.recv(100 if seqpacket else 1)
                if not piece:
                    raise ConnectionError("refused")
                line += piece
        except BaseException:
            sock.close()
            raise
        return sock

    def dial_patiently(self, port, timeout=30):
        """dial() until the guest listens."""
        def attempt():
            with contextlib.suppress(ConnectionError):
                return self.dial(port)
        return wait_for(attempt, timeout, f"somebody at port {port} of the guest")

    def datagrams(self, port):
        """A datagram socket at a port of the host."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(f"{self.hybrid}_dgram_{port}")
        sock.settimeout(30)
        return sock

    def serve(self, port, function, backlog=512, kind=socket.SOCK_STREAM):
        service = Service(f"{self.hybrid}_{port}", function, backlog, kind)
        self.services.append(service)
        return service

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        for service in self.services:
            service.close()
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


@contextlib.contextmanager
def bench_guest(host):
    """bench-guest as the programs of the host; the guest's end is a program of the VM."""
    with subprocess.Popen([BENCH_GUEST, "host", host.hybrid], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            need(process.stdout.readline() == "listening\n", "bench-guest does not serve the host's end")
            yield
        finally:
            process.terminate()


class Service:
    """Calls FUNCTION with each connection, in a thread of its own; without one, nobody accepts."""

    def __init__(self, path, function, backlog, kind):
        self.listener = socket.socket(socket.AF_UNIX, kind)
        self.listener.bind(path)
        self.listener.listen(backlog)
        self.function, self.open = function, set()
        if function:
            threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                self.open.add(sock)
                threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, sock):
        with sock, contextlib.suppress(OSError):
            self.function(sock)
        self.open.discard(sock)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.drop()

    def drop(self):
        """End every connection."""
        for sock in list(self.open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class Prog:
    """vsock-prog in the guest, started by WITHIN; see there for its commands."""

    def __init__(self, vm, name, within=""):
        self.vm, self.name = vm, name
        self.pid = int(vm.check(f"{within} vsock-prog {name}"))

    def __call__(self, *words):
        return self.vm.check(f"vsock-prog {self.name} {' '.join(str(w) for w in words)}").strip()

    def must(self, *words, want="ok"):
        answer = self(*words)
        need(answer == want or answer.split()[0] == want, f"{' '.join(map(str, words))}: {answer}, not {want}")
        return answer

    @contextlib.contextmanager
    def patience(self, ms):
        """Connections that it opens meanwhile wait so long for their peers."""
        self.must("patience", 0, ms)
        yield
        self.must("patience", 0)


def read_all(sock):
    parts = []
    while data := sock.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def finish():
    sys.stdout.flush()
    return 1 if FAILED else 0
