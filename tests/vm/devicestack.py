# SPDX-License-Identifier: BSD-2-Clause
"""A guest whose device is hostile-device: packets in and out one by one, and the programs that they are for."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import traceback
import zlib
from pathlib import Path

from hoststack import BUILD, FAILED, LOGS, Prog, Wrong, need
from sluicevm import LEAKS, VM, Failure, wait_for

KERNELS = ("6.1", "6.12", "newest")
DEFAULT = ("6.1", "6.12")
CID = 42
REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST = range(1, 8)
NAMES = {REQUEST: "request", RESPONSE: "response", RST: "rst", SHUTDOWN: "shutdown", RW: "rw",
         CREDIT_UPDATE: "credit_update", CREDIT_REQUEST: "credit_request"}
STREAM, SEQPACKET, DGRAM = 1, 2, 3
ANY_PORT = 0xffffffff
EOM, EOR = 1, 2                # flags of an RW packet
F_SEQPACKET = 1 << 1
EMPTY_RECORDS = 1024           # VSP_EMPTY_RECORDS_MAX
ECHO_PORT = 7
WINDOW = 256 << 10    # of a socket, by default
REPLIES = 256         # VSP_REPLIES_DEFAULT
PERIOD = 65536        # of a stream's bytes; no packet is longer
STREAM_BYTES = bytes((i ^ (i >> 8) * 31) & 255 for i in range(PERIOD)) * 2


class Device:
    """hostile-device; see there for its commands."""

    def __init__(self, path):
        self.process = subprocess.Popen([BUILD / "tests/vm/hostile-device", path, str(CID)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)
        wait_for(lambda: os.path.exists(path), 10, "the device's socket")

    def command(self, line):
        self.process.stdin.write(line + "\n")
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise Failure("hostile-device has ended")
        return answer

    def ask(self, name, fields):
        return self.command(" ".join([name] + [f"{k}={int(v)}" for k, v in fields.items()]))

    def send(self, **fields):
        answer = self.ask("send", fields)
        need(answer == "ok", f"send {fields}: {answer}")

    def expect(self, **fields):
        answer = self.ask("expect", fields)
        need(answer.startswith("pkt "), f"no packet {fields} from the guest: {answer}")
        return {k: int(v) for k, v in (word.split("=") for word in answer.split()[1:])}

    def count(self, **fields):
        return int(self.ask("count", fields).split()[1])

    def stat(self):
        return {k: int(v) for k, v in (word.split("=") for word in self.command("stat").split()[1:])}

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


class Flow:
    """A connection between a socket of the program and the test, which plays the host."""

    def __init__(self, bench, slot, guest_port, host_port, kind=STREAM):
        self.bench, self.slot, self.guest, self.host, self.kind = bench, slot, guest_port, host_port, kind
        self.sent = self.fwd_cnt = 0

    def send(self, op, **fields):
        self.bench.dev.send(**{"op": op, "src": self.host, "dst": self.guest, "type": self.kind,
                               "fwd_cnt": self.fwd_cnt, **fields})

    def data(self, n, **fields):
        """Bytes that continue the stream, up to 60000 in a packet."""
        while n:
            piece = min(n, 60000)
            self.send(RW, bytes=piece, at=self.sent, **fields)
            self.sent += piece
            n -= piece

    def expect(self, op, **fields):
        return self.bench.dev.expect(op=op, src=self.guest, dst=self.host, type=self.kind, **fields)

    def take(self, n):
        """Receive N bytes from the guest and acknowledge them in what is sent from now on."""
        while n > 0:
            got = self.expect(RW)["len"]
            self.fwd_cnt += got
            n -= got
        need(n == 0, f"the guest sent {-n} bytes too many")

    def take_right(self, n):
        """The same, and they are those that continue what was taken."""
        end = self.fwd_cnt + n
        while self.fwd_cnt < end:
            packet, at = self.expect(RW), self.fwd_cnt % PERIOD
            right = zlib.crc32(STREAM_BYTES[at:at + packet["len"]])
            need(packet["crc"] == right, f"other bytes than those from {self.fwd_cnt} on: {packet}")
            self.fwd_cnt += packet["len"]
        need(self.fwd_cnt == end, f"the guest sent {self.fwd_cnt - end} bytes too many")

    def works(self):
        """Data passes in both directions, and nothing is lost or changed."""
        self.data(100)
        self.bench.victim.must("recv", self.slot, 100)
        self.bench.victim.must("send", self.slot, 50)
        self.take(50)
        self.send(CREDIT_UPDATE)

    def died(self, error, rst=True):
        """The socket reports ERROR, and the guest has said so to the peer."""
        got = self.bench.victim("error", self.slot)
        need(got == error, f"the program sees {got}, not {error}")
        if rst:
            packet = self.expect(RST)
            need(packet["len"] == 0, f"odd reset {packet}")
        self.bench.victim.must("close", self.slot)

    def finish(self):
        """The program closes, the host agrees."""
        self.bench.victim.must("close", self.slot)
        need(self.expect(SHUTDOWN)["flags"] == 3, "close() announces less than both directions")
        self.send(RST)


class Bench:
    """One guest, its device, the victim and the bystander."""

    def __init__(self, vm, dev, kernel, features):
        self.vm, self.dev, self.kernel, self.features = vm, dev, kernel, features
        self.port, self.slot, self.probes = 5000, 0, 0
        self.driver = "/sys/bus/virtio/drivers/vmw_vsock_virtio_transport/virtio*"
        self.begin()

    def begin(self):
        self.victim = Prog(self.vm, "victim")
        self.bystander = Prog(self.vm, "bystander")
        self.bystander.must("connect", 0, 2, ECHO_PORT)
        self.bystander.must("connected", 0)

    def bystander_lives(self):
        self.bystander.must("ping", 0, 1500, 3)

    def next_port(self):
        self.port += 10
        return self.port

    def next_slot(self):
        self.slot = (self.slot + 1) % 900
        return self.slot

    # Counters

    def counters(self, group="vsock_rejects"):
        output = self.vm.check(f"cd {self.driver}/{group} && grep . *")
        return {name: int(value) for name, value in (line.split(":") for line in output.split())}

    @contextlib.contextmanager
    def rejects(self, **want):
        """Inside, exactly these reasons are counted, so many times."""
        before, probes = self.counters(), self.probes

        def moved():
            after = self.counters()
            after["no_flow"] -= self.probes - probes
            return {name: after[name] - before[name] for name in after if after[name] != before[name]}

        yield
        try:
            wait_for(lambda: moved() == want, 10, "counters")
        except Failure:
            raise Wrong(f"refused {moved()}, but should have been {want}") from None

    def live(self, name):
        return int(self.vm.check(f"cat /sys/module/vst_common/parameters/live_{name}"))

    def memory_kib(self):
        """Memory in use that nobody can take back; 0 where that says nothing, as KASAN holds much that was freed."""
        if not self.vm.run(f"[ -e {LEAKS} ]")[0]:
            return 0
        text = self.vm.check("cat /proc/meminfo")
        value = {k: int(v) for k, v in re.findall(r"^(\w+): +(\d+)", text, re.M)}
        return value["MemTotal"] - value["MemFree"] - value["Cached"] - value["Buffers"]

    def heard(self):
        """The guest has handled all that it was sent before: it answers a packet that comes after."""
        port = self.next_port()
        self.probes += 1
        self.dev.send(op=CREDIT_REQUEST, src=port, dst=port)
        self.dev.expect(op=RST, src=port, dst=port)

    def silent(self, **fields):
        """The guest sends no such packet, also for what it was sent just now."""
        self.heard()
        n = self.dev.count(**fields)
        need(n == 0, f"the guest sent {n} packets {fields}: {n and self.dev.expect(**fields)}")

    # Connections

    def make(self, kind):
        """The type of the sockets that the victim makes from now on."""
        self.victim.must("type", 0, {STREAM: "stream", SEQPACKET: "seqpacket", DGRAM: "dgram"}[kind])

    def connecting(self, window=0, kind=STREAM):
        """A socket whose request has arrived and was not answered."""
        slot, port = self.next_slot(), self.next_port()
        self.make(kind)
        guest = int(self.victim.must("connect", slot, 2, port, 0xffffffff, window).split()[1])
        request = self.dev.expect(op=REQUEST, dst=port)
        need(request["src"] == guest and request["src_cid"] == CID and request["dst_cid"] == 2, f"odd {request}")
        need(request["buf_alloc"] == (window or WINDOW), f"odd window {request}")
        return Flow(self, slot, guest, port, kind)

    def connected(self, window=0, kind=STREAM, **response):
        flow = self.connecting(window, kind)
        flow.send(RESPONSE, **response)
        self.victim.must("connected", flow.slot)
        return flow

    def listening(self, backlog=8, kind=STREAM):
        slot, port = self.next_slot(), self.next_port()
        self.make(kind)
        self.victim.must("listen", slot, port, backlog)
        return slot, port

    def accepted(self, listener, guest_port, host_port, kind=STREAM):
        flow = Flow(self, self.next_slot(), guest_port, host_port, kind)
        flow.send(REQUEST)
        flow.expect(RESPONSE)
        got = self.victim.must("accept", listener, flow.slot)
        need(got == f"ok {host_port}", f"accepted {got}, not {host_port}")
        return flow


def replug(b):
    b.vm.unplug_vsock()
    for prog in (b.victim, b.bystander):
        prog.vm.run(f"vsock-prog {prog.name} quit")
    wait_for(lambda: b.live("links") == 0, 20, "the device's memory to be freed")
    need(b.live("flows") == 0 and b.live("pkts") == 0 and b.live("segs") == 0, "something is left after an unplug")
    b.dev.command("hold off")
    b.dev.command("cancel")
    b.dev.command("clear")
    b.vm.plug_vsock()
    b.vm.wait_until(f"[ -d {b.driver}/vsock ]")
    wait_for(lambda: b.dev.stat()["live"], 20, "the device to run again")
    b.begin()


# --- all of it ------------------------------------------------------------------------------------------------------

def report(kernel, name, good, detail=""):
    if not good:
        FAILED.append(name)
        print(detail, flush=True)
    print(f"{'ok' if good else 'not ok'} - {kernel}: {name}", flush=True)


def run_line(b, kernel, name, function):
    skipped = None
    try:
        skipped = function(b)
        b.bystander_lives()
        b.silent(op=RST)
        b.dev.command("clear")
        problems = b.vm.problems()
        need(not problems, "the kernel complains: " + "; ".join(problems[:3]))
    except Wrong as error:
        report(kernel, name, False, f"{error}\n{traceback.format_exc(limit=-2)}")
        b.dev.command("hold off")
        b.dev.command("cancel")
        b.dev.command("clear")
        return
    if skipped:
        print(f"skip - {kernel}: {name} # {skipped}", flush=True)
    else:
        report(kernel, name, True)


def everything_goes(b, kernel):
    for prog in (b.victim, b.bystander):
        b.vm.run(f"vsock-prog {prog.name} quit")
    for what in ("flows", "pkts", "segs"):
        try:
            wait_for(lambda name=what: b.live(name) == 0, 30, what)
            report(kernel, f"no {what} are left when everything is closed", True)
        except Failure:
            report(kernel, f"no {what} are left when everything is closed", False, f"{b.live(what)} {what}")
    status, output = b.vm.run("vsock-driver none")
    report(kernel, "the modules can be removed", status == 0, output)


def run_kernel(title, kernel, lines, only, features=0, programs=(), **options):
    path = os.path.join(tempfile.mkdtemp(prefix="sluice-hostile-"), "vu.sock")
    dev = Device(path)
    try:
        dev.command(f"echo {ECHO_PORT}")
        dev.command(f"offer {features}")
        with VM(kernel=kernel, driver="ours", vsock=f"vhost-user:{path}", log_dir=LOGS,
                name=f"{title}-{Path(kernel).name}", programs=[BUILD / "tests/vm/vsock-prog", *programs],
                **options) as vm:
            b = Bench(vm, dev, kernel, features)
            for name, function in lines:
                if not only or function.__name__ in only:
                    run_line(b, kernel, name, function)
            everything_goes(b, kernel)
        report(kernel, "the kernel has nothing to complain about", True)
    except Failure as failure:
        report(kernel, "the guest survives", False, str(failure))
    finally:
        dev.close()


def run_lines(title, lines, words, **options):
    """
    Every line on the DEFAULT kernels, or those that are named; the exit status. A kernel may be a directory.
    part=N/M: of all lines each Mth, beginning with the Nth.
    """
    for word in [word for word in words if word.startswith("part=")]:
        first, step = (int(n) for n in word[5:].split("/"))
        lines = lines[first - 1::step]
        words = [other for other in words if other != word]
    kernels = [word for word in words if word in KERNELS or "/" in word]
    only = [word for word in words if word not in kernels]
    if unknown := set(only) - {function.__name__ for _, function in lines}:
        sys.exit(f"neither a kernel nor a line: {' '.join(unknown)}")
    for kernel in kernels or DEFAULT:
        run_kernel(title, kernel, lines, only, **options)
    return 1 if FAILED else 0
