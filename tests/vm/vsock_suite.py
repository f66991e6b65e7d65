# SPDX-License-Identifier: BSD-2-Clause
"""vsock_suite - the kernel's own vsock_test: building it, running a pair, reading what it prints

vsock_test runs as a pair, server and client, that synchronise over TCP. Both print a line for each case and stop at the
first that fails. Run as a program, this file is the inner half of the nested test: inside a VM whose kernel has
vhost_vsock it boots a guest on /dev/vhost-vsock and runs the pair between the two, both ways.
"""
import os
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tools"))

from sluicevm import VM, Failure, wait_for  # noqa: E402

PORT = 17000
CID = 42
PAIR_TIMEOUT = 240
SOURCES = ["vsock_test.c", "timeout.c", "control.c", "util.c", "vsock_test_zerocopy.c", "msg_zerocopy_common.c"]


def build(source, target):
    """The suite of a kernel, as plain userspace. Its headers come first, the machine's for the rest."""
    tests = Path(source) / "tools/testing/vsock"
    files = [tests / name for name in SOURCES if (tests / name).exists()]
    subprocess.run(["cc", "-O1", "-w", "-D_GNU_SOURCE", "-I", Path(source) / "tools/include", "-I", tests, *files,
                    "-o", target], check=True)


def arguments(mode, peer_cid, control_host, skip):
    args = [f"--mode={mode}", f"--control-port={PORT}", f"--peer-cid={peer_cid}"]
    args += [f"--control-host={control_host}"] if mode == "client" else []
    return args + [f"--skip={number}" for number in skip]


def cases(output):
    """(number, name, passed) for each line that the suite printed."""
    return [(int(number), name, verdict == "ok")
            for number, name, verdict in re.findall(r"^(\d+) - (.*?)\.\.\.(ok|skipped)?", output, re.M)
            if verdict != "skipped"]


def report(title, output, expected, skip):
    """Print a line for each case that was to run; returns whether all passed."""
    seen = {number: (name, passed) for number, name, passed in cases(output)}
    good = True
    for number, name in expected:
        if number in skip:
            continue
        passed = seen.get(number, (name, False))[1]
        good &= passed
        print(f"{'ok' if passed else 'not ok'} - {title}: {number} {name}", flush=True)
    if not good:
        print(output, flush=True)
    return good


def listed(program):
    out = subprocess.run([program, "--list", "--mode=server", f"--control-port={PORT}", "--peer-cid=1"],
                         stdout=subprocess.PIPE, text=True, check=False).stdout
    return [(int(number), name) for number, name in re.findall(r"^(\d+)\t(.*)$", out, re.M)]


def listening():
    return f":{PORT:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text(encoding="ascii")


def server_in_guest(vm, program, skip):
    """The guest serves, this kernel connects."""
    args = " ".join(arguments("server", 2, None, skip))
    vm.check(f"({program.name} {args} >/tmp/server.log 2>&1; echo $? >/tmp/server.rc) >/dev/null 2>&1 & true")
    vm.wait_until(f"grep -q ':{PORT:04X} 00000000:0000 0A' /proc/net/tcp", 30)
    client = subprocess.run([program, *arguments("client", CID, "127.0.0.1", skip)], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, timeout=PAIR_TIMEOUT, check=False)
    vm.wait_until("test -s /tmp/server.rc", 30)
    return client.stdout + vm.run("cat /tmp/server.log")[1] * (client.returncode != 0)


def client_in_guest(vm, program, skip):
    """This kernel serves, the guest connects."""
    with subprocess.Popen([program, *arguments("server", CID, None, skip)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as server:
        wait_for(listening, 30, "the server")
        args = " ".join(arguments("client", 2, "10.0.2.2", skip))
        status, output = vm.run(f"{program.name} {args} 2>&1", PAIR_TIMEOUT)
        served = server.communicate(timeout=30)[0]
    return output + served * (status != 0)


def main():
    kernel, program, driver, skip = sys.argv[1], Path(sys.argv[2]), sys.argv[3], [int(n) for n in sys.argv[4:]]
    started = time.monotonic()
    expected = listed(program)
    network = ["-netdev", f"user,id=n0,hostfwd=tcp:127.0.0.1:{PORT}-:{PORT}", "-device", "virtio-net-pci,netdev=n0"]
    with VM(kernel=kernel, driver=driver, vsock=f"vhost:{CID}", modules=["virtio_net"], programs=[str(program)],
            qemu_args=network, log_dir="/tmp", boot_timeout=600) as vm:
        vm.check("ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0")
        print(f"# inner guest up after {time.monotonic() - started:.0f} s", flush=True)
        good = report(f"{kernel}: {driver}, guest serves", server_in_guest(vm, program, skip), expected, skip)
        good &= report(f"{kernel}: {driver}, host serves", client_in_guest(vm, program, skip), expected, skip)
    print(f"# inner run {time.monotonic() - started:.0f} s", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    os.environ.setdefault("HOME", "/root")
    try:
        sys.exit(main())
    except (Failure, subprocess.TimeoutExpired) as error:
        print(f"not ok - the nested run: {error}", flush=True)
        sys.exit(1)
