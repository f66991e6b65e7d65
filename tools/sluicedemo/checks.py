# SPDX-License-Identifier: BSD-2-Clause
"""The checks: unmodified programs on both sides of our driver and our daemon.

Each is a function of the stage that returns its result, or a pair of the result and lines to show below it, and raises
Wrong when it came out differently. Ports from 5000 are the guest's, ports from 7000 the host's.
"""

import contextlib
import hashlib
import os
import queue
import re
import signal
import socket
import threading
import time

from report import Skip, Wrong
from stage import VCAT, GuestService, HostService
from sluicevm import wait_for

CONNECTIONS = 200
EACH_BYTES = 16 << 10
FILE_MIB = 64
NOWHERE = 9              # a port on which nobody listens
UNKNOWN_CID = 77
# One socat for both ends of the handshake: what follows the CONNECT line is payload.
BY_HAND = '{ printf "CONNECT %s\\n" "$1"; cat "$2"; } | socat -b 65536 -t "$4" - "UNIX-CONNECT:$3"'


def expect(good, what, lines=()):
    if not good:
        raise Wrong(what, lines if isinstance(lines, (list, tuple)) else str(lines).splitlines()[-12:])


def by_hand(stage, port, text="", source="/dev/stdin", wait=30, timeout=60):
    """Dial a port of the guest with the host's socat: (status, output after the OK line or None, errors)."""
    status, out, errors = stage.host(["sh", "-c", BY_HAND, "sh", port, source, stage.hybrid, wait], text, timeout)
    match = re.match(r"OK \d+\n", out)
    return status, out[match.end():] if match else None, errors


def guest_errors(stage, name):
    """The last complaints of a service in the guest."""
    return without_stamp(stage.vm.run(f"grep ' [EW] ' /tmp/{name}.log | tail -5")[1])


def without_stamp(text):
    """socat's message without date and process number."""
    return [re.sub(r"^\d{4}/\S+ \S+ (socat)\[\d+\]", r"\1:", line) for line in text.splitlines()]


# --- unmodified programs -----------------------------------------------------------------------------------------

def guest_asks_host(stage):
    with HostService(stage, 7001, "SYSTEM:read line; echo host heard $line"):
        out = stage.vm.check("echo hello from the guest | socat -t10 - VSOCK-CONNECT:2:7001 2>&1")
    expect(out == "host heard hello from the guest\n", "another answer", out)
    return f'"{out.strip()}"'


def host_asks_guest(stage):
    with GuestService(stage, "hello", "socat -d -d VSOCK-LISTEN:5001,fork 'SYSTEM:read line; echo guest heard $line'"):
        status, out, errors = by_hand(stage, 5001, "hello from the host\n")
    expect(status == 0 and out == "guest heard hello from the host\n", "another answer", f"{out}\n{errors}")
    return f'"{out.strip()}"'


def host_vcat(stage):
    need_vcat()
    with GuestService(stage, "vcat", "socat -d -d VSOCK-LISTEN:5002,fork 'SYSTEM:read line; echo heard $line'"):
        status, out, errors = stage.host([VCAT, f"vsock-mux:{stage.hybrid}:5002"], "hello from vcat\n")
    expect(status == 0 and out == "heard hello from vcat\n", f"exit status {status}", f"{out}\n{errors}")
    return f'"{out.strip()}"'


def guest_vcat(stage):
    need_vcat()
    with HostService(stage, 7002, "SYSTEM:read line; echo heard $line"):
        status, out = stage.vm.run("echo hello from vcat | vcat vsock:2:7002 2>&1")
    expect(status == 0 and out == "heard hello from vcat\n", f"exit status {status}", out)
    return f'"{out.strip()}"'


def need_vcat():
    if not VCAT.exists():
        raise Skip("vcat is not built")


# --- files -------------------------------------------------------------------------------------------------------

def file_hash(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same_file(want, got, seconds):
    expect(want == got, "the hashes differ", [f"sent     {want}", f"received {got}"])
    return f"sha256 {want[:8]}..{want[-8:]} on both sides, {FILE_MIB / seconds:.0f} MiB/s"


def file_to_host(stage):
    vm, path = stage.vm, stage.dir / "from-guest"
    with HostService(stage, 7100, f"CREATE:{path}", one_way=True) as service:
        vm.check(f"dd if=/dev/urandom of=/tmp/file bs=1M count={FILE_MIB} 2>/dev/null", 120)
        began = time.monotonic()
        vm.check("socat -u -b 65536 OPEN:/tmp/file VSOCK-CONNECT:2:7100", 120)
        service.process.wait(60)
        seconds = time.monotonic() - began
        want = vm.check("sha256sum </tmp/file; rm /tmp/file", 120).split()[0]
    got = file_hash(path)
    path.unlink()
    return same_file(want, got, seconds)


def file_to_guest(stage):
    path = stage.dir / "to-guest"
    with open(path, "wb") as file:
        for _ in range(FILE_MIB):
            file.write(os.urandom(1 << 20))
    with GuestService(stage, "file", "socat -d -d -u -b 65536 VSOCK-LISTEN:5100 CREATE:/tmp/file"):
        began = time.monotonic()
        status, out, errors = by_hand(stage, 5100, source=path, wait=60, timeout=180)
        seconds = time.monotonic() - began
        expect(status == 0 and out == "", f"the host's socat: exit status {status}", errors)
    got = stage.vm.check("sha256sum </tmp/file; rm /tmp/file", 120).split()[0]
    want = file_hash(path)
    path.unlink()
    return same_file(want, got, seconds)


# --- many at once ------------------------------------------------------------------------------------------------

def own_data(number):
    """Data of one connection only."""
    return hashlib.shake_128(b"%d" % number).digest(EACH_BYTES)


def receive(sock, length=None):
    """LENGTH bytes, or all until the other end closes."""
    parts, got = [], 0
    while length is None or got < length:
        part = sock.recv(65536 if length is None else length - got)
        if not part:
            break
        parts.append(part)
        got += len(part)
    return b"".join(parts)


def receive_line(sock):
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            return line
        line += byte
    return line


def dial_many(stage, stack, port, arrived=None):
    """Connections to the guest, all open when this returns. Each is dialled when the one before is through, so that no
    time limit of the kernel's is stretched by emulation; ARRIVED says so where they go further."""
    socks = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(CONNECTIONS)]
    answers = set()
    for sock in socks:
        sock.settimeout(60)
        sock.connect(stage.hybrid)
        sock.sendall(b"CONNECT %d\n" % port)
        answers.add(receive_line(sock))
        if arrived:
            arrived.get(timeout=60)
    expect(len(answers) == CONNECTIONS and all(a.startswith(b"OK ") for a in answers),
           f"only {len(answers - {b''})} connections were accepted")
    return socks


def send_own(socks):
    for number, sock in enumerate(socks):
        sock.sendall(own_data(number))
        sock.shutdown(socket.SHUT_WR)


def many_to_guest(stage):
    with contextlib.ExitStack() as stack:
        stack.enter_context(GuestService(
            stage, "echo", f"socat -d -d -t60 VSOCK-LISTEN:5200,fork,backlog={CONNECTIONS} EXEC:cat"))
        socks = dial_many(stage, stack, 5200)
        send_own(socks)
        good = sum(receive(sock) == own_data(number) for number, sock in enumerate(socks))
    expect(good == CONNECTIONS, f"{good} of {CONNECTIONS} had their own data back", guest_errors(stage, "echo"))
    return f"all open at once; each had its own {EACH_BYTES >> 10} KiB back from cat"


def answer_hashes(listener, arrived):
    """Accept all, and only then read each to its end and answer with the hash of what it sent."""
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(CONNECTIONS):
            socks.append(stack.enter_context(listener.accept()[0]))
            socks[-1].settimeout(60)
            arrived.put(len(socks))
        for sock in socks:
            with contextlib.suppress(OSError):    # the other end notices
                sock.sendall(hashlib.sha256(receive(sock)).digest())


def many_to_host(stage):
    """Through a relay in the guest, which costs a fork and not an exec per connection."""
    path, arrived = stage.listen_path(7200), queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        stack.callback(os.unlink, path)
        listener.listen(CONNECTIONS)
        listener.settimeout(60)
        thread = threading.Thread(target=answer_hashes, args=(listener, arrived), daemon=True)
        thread.start()
        stack.enter_context(GuestService(
            stage, "relay", f"socat -d -d -t60 VSOCK-LISTEN:5201,fork,backlog={CONNECTIONS} VSOCK-CONNECT:2:7200"))
        try:
            socks = dial_many(stage, stack, 5201, arrived)
        except queue.Empty:
            raise Wrong("a connection did not arrive within 60 s", guest_errors(stage, "relay")) from None
        send_own(socks)
        good = sum(receive(sock) == hashlib.sha256(own_data(number)).digest() for number, sock in enumerate(socks))
        thread.join(60)
    expect(good == CONNECTIONS, f"{good} of {CONNECTIONS} had their own hash back", guest_errors(stage, "relay"))
    return "all open at once; each had the SHA-256 of its own data back"


# --- half-close --------------------------------------------------------------------------------------------------

def half_close_to_host(stage):
    with HostService(stage, 7300, "EXEC:sort"):
        out = stage.vm.check(r"printf 'pear\nfig\napple\n' | socat -t30 - VSOCK-CONNECT:2:7300 2>&1")
    expect(out == "apple\nfig\npear\n", "another answer", out)
    return "pear fig apple -> " + " ".join(out.split())


def half_close_to_guest(stage):
    text = "".join(f"{n}\n" for n in range(100000))
    with GuestService(stage, "sum", "socat -d -d -t60 VSOCK-LISTEN:5300,fork EXEC:sha256sum"):
        status, out, errors = by_hand(stage, 5300, text)
    want = hashlib.sha256(text.encode()).hexdigest()
    expect(status == 0 and out and out.split()[0] == want, "another answer", f"{out}\n{errors}")
    return f"{len(text) >> 10} KiB -> {want[:8]}..{want[-8:]}"


# --- failures ----------------------------------------------------------------------------------------------------

def guest_sees(stage, command, pattern):
    """Lines for what the user of a guest sees of a command that must fail like PATTERN."""
    status, out = stage.vm.run(f"{command} 2>&1", 30)
    expect(status != 0, "it succeeded", out)
    expect(re.search(pattern, out), "another message", out)
    return [f"guest$ {command.removeprefix('echo | ')}", *without_stamp(out)]


def host_sees(stage, argv, shown, status_wanted, text=""):
    status, out, errors = stage.host(argv, text, 30)
    expect((status == 0) == status_wanted, f"exit status {status}", out + errors)
    return [f"host$ {shown}", *(without_stamp(out + errors) or [f"(nothing; exit status {status})"])]


def refused_by_host(stage):
    lines = guest_sees(stage, f"echo | socat - VSOCK-CONNECT:2:{NOWHERE}", "Connection reset by peer")
    if VCAT.exists():
        lines += guest_sees(stage, f"echo | vcat vsock:2:{NOWHERE}", str(NOWHERE))
    return "ECONNRESET", lines


def refused_by_guest(stage):
    shown = f"(echo CONNECT {NOWHERE}; cat) | socat - UNIX-CONNECT:PATH"
    argv = ["sh", "-c", BY_HAND, "sh", NOWHERE, "/dev/stdin", stage.hybrid, 10]
    status, out, errors = stage.host(argv)
    expect(out == "", "the guest answered", out + errors)
    lines = [f"host$ {shown}", *(without_stamp(errors) or [f"(nothing; exit status {status})"])]
    if VCAT.exists():
        argv = [VCAT, f"vsock-mux:{stage.hybrid}:{NOWHERE}"]
        lines += [line.replace(stage.hybrid, "PATH")
                  for line in host_sees(stage, argv, f"vcat vsock-mux:PATH:{NOWHERE}", False)]
    lines.append("The Unix socket is closed without a word: refused, no answer in time and no guest look alike there.")
    return "closed without OK", lines


def unknown_cid(stage):
    lines = guest_sees(stage, f"echo | socat - VSOCK-CONNECT:{UNKNOWN_CID}:{NOWHERE}", "reset by peer|No such device")
    if VCAT.exists():
        lines += guest_sees(stage, f"echo | vcat vsock:{UNKNOWN_CID}:{NOWHERE}", str(UNKNOWN_CID))
    lines.append("The device answers for every CID, so this looks like a refused port; vsockd counts it as dst_cid.")
    return f"CID {UNKNOWN_CID} does not exist", lines


def no_guest(stage):
    path = f"{stage.hybrid}-not-there"
    lines = host_sees(stage, ["socat", "-", f"UNIX-CONNECT:{path}"], "socat - UNIX-CONNECT:PATH-not-there", False)
    lines = [line.replace(str(stage.dir) + "/vm", "PATH") for line in lines]
    expect("No such file" in "".join(lines), "another message", lines)
    return "from the host a CID is a path", lines


def host_service_killed(stage):
    with HostService(stage, 7400, "OPEN:/dev/null", one_way=True) as service:
        command = "socat -u OPEN:/dev/zero VSOCK-CONNECT:2:7400"
        pid = stage.vm.check(f"( {command}; echo status $? ) </dev/null >/tmp/killed 2>&1 & echo $!").strip()
        service.wait_log("starting data transfer loop")
        os.killpg(service.process.pid, signal.SIGKILL)
        done = "grep -q ^status /tmp/killed"
        try:
            stage.vm.wait_until(done, 20)
        finally:
            stage.vm.run(f"{done} || kill {pid} $(pidof socat)")
    out = stage.vm.check("cat /tmp/killed")
    expect(re.search("Broken pipe|reset by peer", out), "another message", out)
    return "the guest's writer is told", [f"guest$ {command}", *without_stamp(out.split("status")[0])]


def guest_service_killed(stage):
    with GuestService(stage, "killed", "socat -d -d -u VSOCK-LISTEN:5400 OPEN:/dev/null") as service:
        argv = ["sh", "-c", BY_HAND, "sh", 5400, "/dev/zero", stage.hybrid, 10]
        log = stage.logs / "host-writer.log"
        writer = stage.start(argv, log)
        stage.vm.wait_until(f"grep -q 'starting data transfer loop' {service.log}", 20)
        stage.vm.check(f"kill -9 {service.pid}")
        try:
            wait_for(lambda: "Broken pipe" in log.read_text() or "reset" in log.read_text(), 20, "the host's socat")
        finally:
            stage.end(writer)
    shown = "(echo CONNECT 5400; cat /dev/zero) | socat - UNIX-CONNECT:PATH"
    seen = [line for line in without_stamp(log.read_text()) if not line.startswith("OK ")]
    remark = "A Unix socket knows no more: a kill and a close in the middle look alike to the writer."
    return "the host's writer is told", [f"host$ {shown}", *seen, remark]


# --- the end -----------------------------------------------------------------------------------------------------

def nothing_left(stage):
    """Our driver's own counts of what lives, now that every program has ended."""
    counts = "cat /sys/module/vst_common/parameters/live_flows /sys/module/vst_common/parameters/live_pkts " \
        "/sys/module/vst_common/parameters/live_segs"
    try:
        stage.vm.wait_until(f'[ "$({counts} | xargs)" = "0 0 0" ]', 30)
    except Exception:
        raise Wrong("connections, packets and pieces left: " + " ".join(stage.vm.check(counts).split())) from None
    return "0 connections, 0 packets, 0 pieces in the driver"


def kernel_log(stage):
    lines = len(stage.vm.console.read_text(errors="replace").splitlines())
    stage.stop_vm()
    return f"{lines} lines, no warning"


def daemon_log(stage):
    text = stage.stop_vsockd()
    bad = [line for line in text.splitlines() if line.startswith(("error", "warn"))]
    expect(not bad, "vsockd complained", bad[-10:])
    expect(re.search(r"\bconnections=0\b", text), "connections are left", text)
    opened, refused = (re.search(rf"\b{w}=(\d+)", text) for w in ("opened", "refused"))
    return f"{opened[1]} connections served, {refused[1]} refused, 0 left, no warning"


PROGRAMS = [
    ("guest socat asks host socat", guest_asks_host),
    ("host socat, CONNECT by hand, asks guest socat", host_asks_guest),
    ("host vcat asks guest socat", host_vcat),
    ("guest vcat asks host socat", guest_vcat),
    (f"{FILE_MIB} MiB file, guest to host", file_to_host),
    (f"{FILE_MIB} MiB file, host to guest", file_to_guest),
    (f"{CONNECTIONS} connections at once, host to guest", many_to_guest),
    (f"{CONNECTIONS} more, dialled on by the guest to the host", many_to_host),
    ("half-close: guest asks host sort", half_close_to_host),
    ("half-close: host asks guest sha256sum", half_close_to_guest),
]
FAILURES = [
    ("guest dials a host port nobody listens on", refused_by_host),
    ("host dials a guest port nobody listens on", refused_by_guest),
    ("guest dials an unknown CID", unknown_cid),
    ("host dials a guest that is not there", no_guest),
    ("host service killed in the middle", host_service_killed),
    ("guest service killed in the middle", guest_service_killed),
]
ENDING = [
    ("nothing is left behind in the guest", nothing_left),
    ("the guest's kernel log", kernel_log),
    ("vsockd's log", daemon_log),
]
