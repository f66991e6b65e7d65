# SPDX-License-Identifier: BSD-2-Clause
"""Boot a kernel in QEMU with an initramfs made on the fly, talk to it, and read its log at the end.

    with VM(kernel="6.1", driver="stock", programs=["socat"]) as vm:
        status, output = vm.run("socat -V | head -1")
        vm.qmp.command("query-status")
    # leaving the block powers the guest off, and raises Failure if the kernel log holds a warning

The guest is busybox, kmod, the chosen modules and the programs named. Two virtio-serial ports lead into it, each
served by a shell loop: "script" for the test's script and "command" for talking to the guest meanwhile. A request
is one line; the answer is the command's output, then a line with a random word and the exit status.
The console goes to a file, which is scanned: a kernel that complains has failed the test, whatever the script says.

Nothing here opens an AF_VSOCK socket or loads a module on the machine itself.
"""

import contextlib
import hashlib
import json
import lzma
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import sluicekernel
from sluicekernel import Failure, cache_dir

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = int(os.environ.get("SLUICE_PATIENCE") or 1)    # times what is waited for: some kernels are slow
CPUS = int(os.environ.get("SLUICE_CPUS") or 0)    # of a VM that does not say how many it has

# A line of the kernel log that matches one of these fails the run.
COMPLAINTS = [
    r"WARNING:", r"\bBUG:", r"kernel BUG at", r"Oops", r"KASAN", r"KCSAN", r"UBSAN", r"lockdep",
    r"possible (recursive|circular) locking", r"inconsistent lock state", r"INFO: task .* blocked", r"refcount_t",
    r"Call Trace", r"general protection", r"unreferenced object", r"Kernel panic", r"soft lockup", r"rcu.*stall",
    r"sluice-init: failed",
    # A check of a debug kernel that gives up finds nothing from then on.
    r"ODEBUG: Out of memory", r"kmemleak:.*(disabled|Cannot)",
]
# Known noise of stock kernels under emulation, no matter what runs in them.
HARMLESS = [r"\bRAS\b.*WARNING", r"lockdep is turned off", r"RCU lockdep checking is enabled"]

# What every module tree contains, as far as the kernel has it; only some of it is loaded at boot.
MODULES = [
    "virtio_pci", "virtio_console", "virtio_net", "virtio_blk", "vsock", "vmw_vsock_virtio_transport",
    "vsock_loopback", "vsock_diag", "vsockmon", "vhost_vsock", "9p", "9pnet_virtio", "tun", "overlay",
    "virtio_balloon", "unix_diag",
]
CHECKED_MEM, CHECKED_BOOT_S = 1536, 600    # MiB at least, and seconds emulated, for a kernel with checks
STOCK_DRIVER = "vmw_vsock_virtio_transport"

INIT = r"""#!/bin/busybox sh
# First process of the test guest; see sluicevm.py.
export PATH=/usr/local/bin:/sbin:/bin HOME=/root TERM=linux
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
[ -d /sys/kernel/debug ] && mount -t debugfs debugfs /sys/kernel/debug
[ -d /sys/kernel/tracing ] && mount -t tracefs tracefs /sys/kernel/tracing
[ -d /sys/fs/cgroup ] && mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
ip link set lo up 2>/dev/null
hostname guest
. /etc/sluice.conf

echo "<5>sluice-init: started" >/dev/kmsg
failed() { echo "sluice-init: failed: $*" >/dev/kmsg; }
load() { for module; do modprobe "$module" || failed "modprobe $module"; done; }

load $PORT_MODULES
# Not with the shell's own modprobe, which knows no install lines; see MODPROBE_CONF.
[ -z "$OURS" ] || /sbin/modprobe vst_common || failed "modprobe vst_common"
load $LOAD

if [ -n "$SHARE_ROOT" ]; then
    load 9pnet_virtio 9p
    mkdir -p /hostroot /host
    mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose hostroot /hostroot &&
        mount --bind /hostroot /host || failed "mounting the shared root"
    for dir in /tmp /run; do mount -t tmpfs tmpfs /host$dir; done
    for dir in $SHARE_VISIBLE; do mkdir -p "/host$dir" && mount --bind "/hostroot$dir" "/host$dir"; done
    for dir in /proc /sys /dev; do mount --rbind $dir /host$dir; done
fi

NEWLINE_SIGN=$(printf '\001') NEWLINE='
'

serve() { # PORT LINE: answer requests until the other end closes; there or, if there is such, on a serial line
    device=$2 tries=0
    until [ -n "$device" ]; do    # ports appear one by one, some time after the driver
        for sysfs in /sys/class/virtio-ports/*; do
            [ "$(cat $sysfs/name 2>/dev/null)" = "org.sluice.$1" ] && device=/dev/${sysfs##*/}
        done
        tries=$((tries + 1))
        [ $tries -lt 3000 ] || { failed "no port $1"; poweroff -f; }
        [ -n "$device" ] || usleep 20000
    done
    exec 3<>"$device"
    [ -z "$2" ] || stty raw -echo <&3
    printf '%s 0\n' "$NONCE" >&3    # waits for the other end
    . /etc/sluice.env
    cd /root
    tries=0
    # After a suspend a port is without its other end for a moment.
    while IFS= read -r request <&3 || { tries=$((tries + 1)); [ $tries -lt 50 ] && usleep 100000 && request=; }; do
        [ -n "$request" ] || continue
        tries=0
        # No program is started for this: an emulated guest takes long for one.
        ( eval "${request//$NEWLINE_SIGN/$NEWLINE}" ) </dev/null >&3 2>&1 3>&-
        printf '\n%s %d\n' "$NONCE" $? >&3
    done
    poweroff -f
}

if [ -n "$SHELL_ON_CONSOLE" ]; then
    dmesg -n 1
    echo "Type 'exit' or press Ctrl-A X to leave."
    ( . /etc/sluice.env; cd /root; setsid cttyhack sh )
    poweroff -f
fi
serve command $COMMAND_LINE &
serve script $SCRIPT_LINE
"""

NEWLINE_SIGN = b"\x01"    # a newline within a request
INIT_STARTED = "sluice-init: started"    # on the console, before any module
LEAKS = "/sys/kernel/debug/kmemleak"    # a debug kernel's
# What is younger at the beginning of a scan is spared by it; and a leak is what two scans in a row find unchanged.
LEAK_AGE_S = 5
LEAK_SCANS_S = 300    # that they may take in an emulated guest
EMULATED_WATCHDOG_S = 60    # half of the time after which a processor counts as locked up; the kernel's most

# In the guest: what our driver records of its connections' states, for tests/vm/replay-trace.c.
TRACE_FILE = "/run/vst.trace"
VST_TRACE = r"""#!/bin/sh
# vst-trace on|save|off: begin to record; put what was recorded into the file; end, and forget it.
cd /sys/kernel/tracing || exit 1
file=%s
case $1 in
    on)    # the module was loaded, and nobody uses it yet
        [ -d events/vst ] || exit 0    # a kernel without trace events
        echo counter >trace_clock    # one order for all processors
        echo 0 >options/overwrite
        # It would patch the scheduler while it runs, which an emulator of several processors does not survive always.
        echo 0 >options/record-cmd
        echo %d >buffer_size_kb
        echo 1 >events/vst/vst_step/enable
        echo 1 >events/vst/vst_end/enable
        echo "# begin" >>$file ;;
    save)    # nobody uses the module now, or ever again
        [ -e $file ] || exit 0
        echo 0 >tracing_on    # for all processors at once: what is there has no gap
        grep ' vst_[a-z]*: ' trace >>$file
        cat per_cpu/cpu*/stats | awk '/overrun|dropped/ { n += $NF } END { print "# lost " n + 0 }' >>$file
        echo >trace
        echo 1 >tracing_on ;;
    off)
        echo 0 >events/vst/enable
        rm -f $file ;;
esac
""" % (TRACE_FILE, 4096)    # KiB for each processor: 50,000 records
# The kernel forgets what a module has recorded when the module goes. Busybox has commands of the same names, which its
# shell prefers: who loads or removes vst_common says /sbin/modprobe, /sbin/rmmod.
MODPROBE_CONF = """install vst_common /sbin/modprobe --ignore-install vst_common $CMDLINE_OPTS && vst-trace on
remove vst_common vst-trace save; /sbin/modprobe -r --ignore-remove vst_common
"""
RMMOD = """#!/bin/sh
case " $* " in
    *" vst_common "*) [ "$(cat /sys/module/vst_common/refcnt 2>/dev/null)" != 0 ] || vst-trace save ;;
esac
exec /sbin/kmod.d/rmmod "$@"
"""

# In the guest: change the driver without a reboot.
VSOCK_DRIVER = r"""#!/bin/sh
# vsock-driver ours|stock|none: remove the guest driver that is loaded, and insert the other one.
tree=/lib/modules/$(uname -r)
for module in vmw_vsock_virtio_transport vst_common vsock_diag vsock_loopback vmw_vsock_virtio_transport_common \
    vsock; do
    [ ! -d /sys/module/$module ] || /sbin/rmmod $module || exit 1
done
case $1 in
    none) ;;
    stock)
        for module in vsock vmw_vsock_virtio_transport_common vmw_vsock_virtio_transport; do
            insmod $tree/kernel/net/vmw_vsock/$module.ko || exit 1
        done ;;
    ours)
        insmod $tree/kernel/net/vmw_vsock/vsock.ko && insmod $tree/updates/vst_common.ko && vst-trace on &&
            insmod $tree/updates/vmw_vsock_virtio_transport.ko ;;
    *) echo "usage: vsock-driver ours|stock|none"; exit 2 ;;
esac
"""


@contextlib.contextmanager
def awake():
    """This machine's processors do not sleep; it ends with us, however we end."""
    with subprocess.Popen([ROOT / "tools/awake", "cat"], stdin=subprocess.PIPE):
        yield


# --- the initramfs -----------------------------------------------------------------------------------------------

class Timeout(Failure):
    """A command in the guest did not end in time; the guest has been killed."""


class Cpio:
    """An archive in the format that the kernel unpacks. Archives may be concatenated; later ones win."""

    def __init__(self):
        self.parts = []
        self.names = set()
        self.inode = 0

    def _entry(self, name, mode, data=b""):
        self.inode += 1
        encoded = name.encode() + b"\0"
        fields = [self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0]
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self.parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]

    def directory(self, path):
        path = path.strip("/")
        if not path or path in self.names:
            return
        self.directory(os.path.dirname(path))
        self.names.add(path)
        self._entry(path, 0o040755)

    def _leaf(self, path, mode, data):
        path = path.strip("/")
        if path in self.names:
            return
        self.directory(os.path.dirname(path))
        self.names.add(path)
        self._entry(path, mode, data)

    def file(self, path, data, executable=True):
        self._leaf(path, 0o100755 if executable else 0o100644, data.encode() if isinstance(data, str) else data)

    def symlink(self, path, target):
        self._leaf(path, 0o120777, target.encode())

    def copy(self, source, path):
        """A file, or a directory with all in it."""
        source = Path(source)
        if source.is_dir():
            self.directory(path)
            for entry in sorted(source.iterdir()):
                self.copy(entry, f"{path}/{entry.name}")
        else:
            self.file(path, source.read_bytes(), os.access(source, os.X_OK))

    def program(self, source, path):
        """A program, its interpreter and its shared libraries, these at their places on this machine."""
        self.copy(source, path)
        listing = subprocess.run(["ldd", source], capture_output=True, text=True, check=False).stdout
        if "not found" in listing:
            raise Failure(f"{source} lacks a library:\n{listing}")
        for library in re.findall(r"(?:=> )?(/\S+) \(0x", listing):
            self.copy(library, library)

    def bytes(self):
        self.inode = 0
        closing = Cpio()
        closing._entry("TRAILER!!!", 0)
        blob = b"".join(self.parts + closing.parts)
        return blob + bytes(-len(blob) % 512)


def find_program(name):
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise Failure(f"program '{name}' is not there; a path needs building first, a name may need tools/deps vm")
    return os.path.abspath(found)


def fingerprint(*things):
    """A name for what a layer is made of: files count by path, size and time."""
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, Path):
            status = thing.stat()
            thing = (str(thing), status.st_size, status.st_mtime_ns)
        digest.update(repr(thing).encode())
    return digest.hexdigest()[:20]


def cached_layer(kind, key, build):
    """The layer KIND-KEY from the cache, or what BUILD returns, kept for the next time where that is possible."""
    directory = cache_dir() / "initramfs"
    path = directory / f"{kind}-{key}.cpio"
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    blob = build()
    with contextlib.suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(blob)
        temporary.rename(path)
        for old in sorted(directory.glob(f"{kind}-*.cpio"), key=lambda p: p.stat().st_mtime)[:-12]:
            old.unlink(missing_ok=True)
    return blob


def base_layer():
    busybox, kmod = Path(find_program("busybox")), Path(os.path.realpath(find_program("kmod")))

    def build():
        cpio = Cpio()
        for directory in "proc sys dev tmp run root etc var mnt sbin bin usr/local/bin".split():
            cpio.directory(directory)
        cpio.file("init", INIT)
        cpio.copy(busybox, "bin/busybox")
        cpio.program(kmod, "sbin/kmod")
        for tool in "modprobe insmod lsmod modinfo depmod".split():
            cpio.symlink(f"sbin/{tool}", "kmod")
        cpio.symlink("sbin/kmod.d/rmmod", "../kmod")
        cpio.file("sbin/rmmod", RMMOD)
        cpio.file("etc/modprobe.d/sluice.conf", MODPROBE_CONF, executable=False)
        cpio.file("bin/vst-trace", VST_TRACE)
        for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
            if f"sbin/{applet}" not in cpio.names:
                cpio.symlink(f"bin/{applet}", "busybox")
        cpio.file("bin/vsock-driver", VSOCK_DRIVER)
        for name, text in {"passwd": "root:x:0:0:root:/root:/bin/sh\n", "group": "root:x:0:\n",
                           "hosts": "127.0.0.1 localhost\n"}.items():
            cpio.file(f"etc/{name}", text, executable=False)
        return cpio.bytes()

    return cached_layer("base", fingerprint(INIT, VSOCK_DRIVER, VST_TRACE, MODPROBE_CONF, RMMOD, busybox, kmod), build)


def read_module(path):
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True).stdout
    return path.read_bytes()


def module_closure(tree, names):
    """The files, relative to TREE, of the modules NAMES and of all that they need; names TREE lacks are left out."""
    needs, by_name = {}, {}
    for line in (tree / "modules.dep").read_text().splitlines():
        path, rest = line.split(":", 1)
        needs[path] = rest.split()
        by_name[Path(path).name.split(".ko")[0].replace("-", "_")] = path
    found, todo = set(), [by_name[n] for n in names if n in by_name]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += needs[path]
    return sorted(found)


def modules_layer(kernel, names, updates):
    """A module tree as an installation makes it: ours under updates/, which is where modprobe looks first."""
    def build():
        with tempfile.TemporaryDirectory(prefix="sluice-modules-") as temporary:
            relative = Path("lib/modules") / kernel.release
            tree = Path(temporary) / relative
            for path in module_closure(kernel.path("modules"), names):
                target = tree / re.sub(r"\.(xz|zst|gz)$", "", path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(read_module(kernel.path("modules") / path))
            for module in updates:
                (tree / "updates").mkdir(parents=True, exist_ok=True)
                shutil.copy(module, tree / "updates")
            for index in kernel.path("modules").glob("modules.builtin*"):
                shutil.copy(index, tree)
            (tree / "modules.order").touch()
            done = subprocess.run([find_program("depmod"), "-b", temporary, kernel.release], capture_output=True,
                                  text=True, check=False)
            if done.returncode:
                raise Failure(f"depmod failed:\n{done.stderr}")
            cpio = Cpio()
            cpio.copy(tree, str(relative))
            return cpio.bytes()

    key = fingerprint(kernel.path("modules") / "modules.dep", kernel.release, names, *updates)
    return cached_layer(f"modules-{kernel.name}", key, build)


class KernelDirectory:
    """A kernel that somebody built: DIRECTORY holds lib/modules/RELEASE and vmlinuz, or linux: User-Mode-Linux."""

    def __init__(self, directory):
        self.dir = Path(directory).resolve()
        self.name = self.dir.name
        images = [self.dir / name for name in ("vmlinuz", "linux") if (self.dir / name).exists()]
        releases = [p.name for p in (self.dir / "lib/modules").glob("*")]
        if len(images) != 1 or len(releases) != 1:
            raise Failure(f"{self.dir} is no kernel directory: it needs vmlinuz or linux, and one lib/modules/RELEASE")
        self.image, self.release = images[0], releases[0]

    def path(self, what):
        return self.image if what == "image" else self.dir / "lib/modules" / self.release


def find_kernel(name):
    if "/" in str(name):
        return KernelDirectory(name)
    kernel = sluicekernel.Kernel(name)
    kernel.ensure(["image"])
    return kernel


def our_modules(kernel):
    build = Path(os.environ.get("SLUICE_BUILD") or ROOT / "build") / "modules" / kernel.name
    found = sorted(build.glob("*/*.ko"))
    if not found:
        raise Failure(f"our modules are not built for kernel {kernel.name}; build them: tools/modules {kernel.name}")
    return found


# --- talking to a VM ---------------------------------------------------------------------------------------------

class Channel:
    """A shell loop in the guest at the other end of a socket; one command at a time."""

    def __init__(self, name, sock, nonce):
        self.name = name
        self.nonce = nonce
        self.buffer = b""
        self.sock = sock

    def _answer(self, marker, deadline, sink):
        pattern = re.compile(marker + re.escape(self.nonce.encode()) + rb" (\d+)\n")
        output = []

        def emit(data):
            if data:
                output.append(data)
                if sink:
                    sink(data)

        while True:
            match = pattern.search(self.buffer)
            if match:
                emit(self.buffer[:match.start()])
                self.buffer = self.buffer[match.end():]
                return int(match[1]), b"".join(output).decode(errors="replace")
            held_back = len(self.nonce) + 16
            if len(self.buffer) > held_back:
                emit(self.buffer[:-held_back])
                self.buffer = self.buffer[-held_back:]
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                emit(self.buffer)
                raise TimeoutError(b"".join(output).decode(errors="replace"))
            data = self.sock.recv(65536)
            if not data:
                emit(self.buffer)
                raise ConnectionError(b"".join(output).decode(errors="replace"))
            self.buffer += data

    def wait_hello(self, deadline):
        self._answer(b"", deadline, None)

    def run(self, command, timeout, sink=None):
        """(exit status, output) of a shell command. A process it leaves behind must not keep stdout open."""
        self.sock.sendall(command.encode().replace(b"\n", NEWLINE_SIGN) + b"\n")
        return self._answer(b"\n", time.monotonic() + timeout, sink)

    def close(self):
        self.sock.close()


class Qmp:
    """QEMU's control socket."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(60)
        self.stream = self.sock.makefile("r", encoding="utf-8")
        self.events = []
        self._read()
        self.command("qmp_capabilities")

    def _read(self):
        line = self.stream.readline()
        if not line:
            raise Failure("QEMU closed its control socket")
        return json.loads(line)

    def command(self, name, **arguments):
        request = {"execute": name, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}
        self.sock.sendall(json.dumps(request).encode())
        while True:
            answer = self._read()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise Failure(f"QMP {name}: {answer['error']['desc']}")
            elif "return" in answer:
                return answer["return"]

    def wait_event(self, name, timeout=60, **data):
        """The next event NAME whose data contains DATA."""
        self.sock.settimeout(timeout)
        while True:
            for event in self.events:
                if event["event"] == name and data.items() <= event.get("data", {}).items():
                    self.events.remove(event)
                    return event
            try:
                answer = self._read()
            except TimeoutError:
                raise Failure(f"QMP event {name} {data or ''} did not come within {timeout} s") from None
            if "event" in answer:
                self.events.append(answer)

    def close(self):
        self.stream.close()
        self.sock.close()


def wait_for(condition, timeout, what):
    """Poll CONDITION until it is true, and return its value."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {timeout} s")
        time.sleep(0.05)


# --- a VM --------------------------------------------------------------------------------------------------------

def end_in_order():
    """A program that is asked to end leaves no VM behind, as Python would. One that has its own ways keeps them."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda number, _: sys.exit(128 + number))


class VM:
    """One guest.

    kernel      "6.1", "6.12", "newest", or a directory (see KernelDirectory)
    driver      "ours" (our modules installed and the guest driver loaded), "stock" or "none"
    cpus        if it does not say, what SLUICE_CPUS in the environment says, or 2; the newest kernel has 1
    cpu         what to change of the processor, as QEMU's -cpu has it
    load        further modules to load at boot, in order
    load_driver False: install, but do not load
    modules     further modules to have in the tree
    programs    host programs to have in /usr/local/bin, by name or path
    files       {host path: guest path}
    vsock       None, "vhost:CID" or "vhost-user:SOCKET[,CID]"
    share_root  the host's root, read-only, at /host, with its own /tmp, /run, /dev, /proc and /sys
    env         variables for the commands
    allow       regular expressions of kernel complaints that this test provokes
    accel       "auto", "kvm", "tcg", or "instructions": emulated, and each instruction takes a nanosecond of its time
    """

    at_end = []    # functions of a VM, to be called before it powers off
    ports = {"PORT_MODULES": "virtio_pci virtio_console"}    # for its init, where the two ways into it are

    def __init__(self, kernel="6.1", driver="none", cpus=None, cpu="", mem=512, load=(), load_driver=True, modules=(),
                 programs=(), files=None, vsock=None, share_root=False, env=None, allow=(), qemu_args=(), append="",
                 accel="auto", log_dir=None, name="vm", boot_timeout=None):
        self.kernel = find_kernel(kernel)
        # Emulated, several CPUs of the newest kernel trip over its patching of its own code, before any module.
        self.driver, self.cpus = driver, cpus or CPUS or (1 if kernel == "newest" else 2)
        if driver not in ("ours", "stock", "none"):
            raise Failure(f"driver '{driver}' is none of: ours, stock, none")
        self.load = ([STOCK_DRIVER] if driver != "none" and load_driver else []) + list(load)
        self.modules = list(dict.fromkeys(MODULES + list(modules) + list(load)))
        self.programs, self.files, self.vsock, self.share_root = list(programs), dict(files or {}), vsock, share_root
        self.env, self.allow, self.qemu_args, self.append = dict(env or {}), list(allow), list(qemu_args), append
        self.name, self.cpu = name, cpu
        self.accel = best_accelerator() if accel == "auto" else accel
        # A kernel that somebody built may be one with checks, which cost memory and time.
        checks = isinstance(self.kernel, KernelDirectory)
        self.mem = max(mem, CHECKED_MEM) if checks else mem
        self.boot_timeout = boot_timeout or (60 if self.accel == "kvm" else CHECKED_BOOT_S if checks else 240)
        self.init_timeout = self.boot_timeout / 2
        self.dir = Path(tempfile.mkdtemp(prefix="sluice-"))
        self.log_dir = Path(log_dir) if log_dir else self.dir
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self.console = self.log_dir / f"{name}.console.log"
        self.nonce = secrets.token_hex(12)
        self.keep_logs = False
        self.process = self.qmp = self.command_channel = self.script_channel = None

    # Making it

    def _write_initramfs(self, shell):
        cpio = Cpio()
        visible = [str(p) for p in (ROOT, cache_dir().resolve()) if str(p).startswith(("/tmp/", "/run/"))]
        cpio.file("etc/sluice.conf", f"NONCE={self.nonce}\nLOAD='{' '.join(self.load)}'\n"
                  f"OURS={'1' if self.driver == 'ours' and self.load else ''}\n"
                  f"SHARE_ROOT={'1' if self.share_root else ''}\nSHARE_VISIBLE='{' '.join(visible)}'\n"
                  f"SHELL_ON_CONSOLE={'1' if shell else ''}\n" +
                  "".join(f"{name}='{value}'\n" for name, value in self.ports.items()), executable=False)
        quoted = {k: "'" + str(v).replace("'", "'\\''") + "'" for k, v in self.env.items()}
        cpio.file("etc/sluice.env", "".join(f"export {k}={v}\n" for k, v in quoted.items()), executable=False)
        for program in self.programs:
            source = find_program(program)
            cpio.program(source, f"usr/local/bin/{os.path.basename(source)}")
        for host, guest in self.files.items():
            if not Path(host).exists():
                raise Failure(f"file '{host}' does not exist")
            cpio.copy(host, guest)
        updates = our_modules(self.kernel) if self.driver == "ours" else []
        path = self.dir / "initramfs"
        path.write_bytes(base_layer() + modules_layer(self.kernel, self.modules, updates) + cpio.bytes())
        return path

    def _vsock_device(self):
        """(chardev or None, device) for QEMU."""
        kind, _, rest = self.vsock.partition(":")
        if kind == "vhost":
            return None, {"driver": "vhost-vsock-pci", "guest-cid": int(rest)}
        if kind == "vhost-user":
            path = rest.split(",")[0]    # the CID is the daemon's business
            return f"socket,id=vsock-char,path={path}", {"driver": "vhost-user-vsock-pci", "chardev": "vsock-char"}
        raise Failure(f"vsock device '{self.vsock}' is none of: none, vhost:CID, vhost-user:SOCKET")

    def _qemu_command(self, initramfs, shell):
        qemu = find_program("qemu-system-x86_64")
        log_level = "ignore_loglevel" if "debug" in self.append else "loglevel=6"
        # A timer that is late because the machine is busy is not broken; the kernel would give up booting.
        # An emulated processor stands still while a busy machine does something else; the kernel calls 20 s a lockup.
        # A time stamp counter that is trusted, though not used, makes the kernel patch its clock while processors run.
        tsc = "" if "tsc=" in self.append else "tsc=unstable "
        emulated = "" if self.accel == "kvm" else f"{tsc}watchdog_thresh={EMULATED_WATCHDOG_S}"
        cmdline = (f"console=ttyS0 {log_level} panic=-1 print-fatal-signals=1 net.ifnames=0 no_timer_check {emulated} "
                   f"{self.append}").strip()
        # cmpxchg16b, emulated for several processors, now and then kills a kernel in kmalloc() before any module is
        # loaded; without it in the processor, kernels do without.
        accel, cpu = ("kvm", "host") if self.accel == "kvm" else ("tcg,thread=multi", "max,la57=off,cx16=off")
        clock = []
        if self.accel == "instructions":
            accel, clock = "tcg,thread=single", ["-icount", "shift=0,sleep=off"]
        accel = ["-accel", accel, "-cpu", f"{cpu},{self.cpu}" if self.cpu else cpu, *clock]
        argv = [qemu, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-M", "q35",
                *accel, "-smp", str(self.cpus), "-m", f"{self.mem}M",
                "-object", f"memory-backend-memfd,id=mem0,size={self.mem}M,share=on", "-machine", "memory-backend=mem0",
                "-kernel", str(self.kernel.path("image")), "-initrd", str(initramfs), "-append", cmdline,
                "-qmp", f"unix:{self.dir}/qmp,server=on,wait=off",
                "-device", "virtio-serial-pci"]
        for port in ("command", "script"):
            argv += ["-chardev", f"socket,id={port},path={self.dir}/{port},server=on,wait=off",
                     "-device", f"virtserialport,chardev={port},name=org.sluice.{port}"]
        if shell:
            argv += ["-chardev", f"stdio,id=console,mux=on,signal=off,logfile={self.console}",
                     "-serial", "chardev:console", "-mon", "chardev=console"]
        else:
            argv += ["-serial", f"file:{self.console}"]
        if self.share_root:
            argv += ["-virtfs", "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap"]
        # Behind a port of its own, so that it can be unplugged and plugged in again.
        argv += ["-device", "pcie-root-port,id=vsock-port,chassis=1,slot=1"]
        if self.vsock:
            chardev, device = self._vsock_device()
            argv += ["-chardev", chardev] if chardev else []
            argv += ["-device", json.dumps({**device, "id": "vsock0", "bus": "vsock-port"})]
        return argv + self.qemu_args

    # Running it

    def _start_program(self, argv, **popen):
        self.console.touch()
        self.qemu_log = self.log_dir / f"{self.name}.qemu.log"
        with open(self.qemu_log, "w", encoding="utf-8") as log:
            log.write(" ".join(argv) + "\n")
            log.flush()
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log, **{"stdout": log, **popen})

    def _start_qemu(self):
        self._start_program(self._qemu_command(self._write_initramfs(shell=False), shell=False))

    def _attach(self):
        self.command_channel = Channel("command", self._connect("command"), self.nonce)
        self.script_channel = Channel("script", self._connect("script"), self.nonce)
        self.qmp = Qmp(self._connect("qmp"))

    def start(self):
        """Boot, and return when the guest answers."""
        end_in_order()
        deadline = time.monotonic() + self.boot_timeout
        self._start_qemu()
        try:
            self._attach()
            stuck = not self._wait_init()
            if stuck:
                self._reset()
            self.command_channel.wait_hello(deadline)
            self.script_channel.wait_hello(deadline)
            if stuck:
                self.qmp.command("set-action", reboot="shutdown")
        except (TimeoutError, OSError) as error:
            late = isinstance(error, TimeoutError)
            what = f"did not come up within {self.boot_timeout} s" if late else f"died at boot: {error}"
            raise self._killed(f"{self.name}: {what}\n") from None
        except BaseException:
            self.kill()
            raise
        return self

    def start_empty(self, source):
        """QEMU without a guest. SOURCE's, a VM with the same options, may migrate to self.incoming, and is paused."""
        self.nonce = source.nonce
        self.qemu_args += ["-S", "-incoming", "defer"]
        self.incoming = f"unix:{self.dir}/incoming"
        try:
            self._start_qemu()
            self._attach()
            self.qmp.command("migrate-incoming", uri=self.incoming)
        except BaseException:
            self.kill()
            raise
        return self

    def reboot(self):
        """Reset the guest, and return when it answers again."""
        deadline = time.monotonic() + self.boot_timeout
        self.qmp.command("set-action", reboot="reset")
        self.qmp.command("system_reset")
        try:
            self.command_channel.wait_hello(deadline)
            self.script_channel.wait_hello(deadline)
        except (TimeoutError, OSError):
            raise self._killed(f"{self.name}: did not come up again within {self.boot_timeout} s\n") from None
        self.qmp.command("set-action", reboot="shutdown")

    def _wait_init(self):
        """Whether init has begun in time, or the guest has ended."""
        def begun():
            return (self.process.poll() is not None or select.select([self.command_channel.sock], [], [], 0)[0] or
                    INIT_STARTED in self.console.read_text(errors="replace"))
        with contextlib.suppress(Failure):
            return bool(wait_for(begun, self.init_timeout, "init"))
        return False

    def _reset(self):
        """Boot once more. An emulated kernel now and then stands still before it has begun any program or module."""
        print(f"# {self.name}: the kernel did not reach init within {self.init_timeout:.0f} s; reset", file=sys.stderr,
              flush=True)
        self.qmp.command("set-action", reboot="reset")    # or -no-reboot would end QEMU, at the firmware's own, too
        self.qmp.command("system_reset")

    def _connect(self, name):
        """To a socket of QEMU's, which is there a moment before it can be connected to."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

        def connected():
            if self.process.poll() is not None:
                raise Failure(f"QEMU did not start:\n{self.qemu_log.read_text()}")
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                sock.connect(str(self.dir / name))
                return True
            return False
        try:
            wait_for(connected, 30, f"QEMU's socket {name}")
        except BaseException:
            sock.close()
            raise
        return sock

    def _tail(self):
        self.keep_logs = True
        lines = self.console.read_text(errors="replace").splitlines()[-25:]
        complaints = "".join(f"    {line}\n" for line in self.problems()[:10])
        complaints = complaints and f"the kernel complained:\n{complaints}"
        said = self.qemu_log.read_text(errors="replace").splitlines()[1:][-10:]
        complaints += "".join(f"QEMU: {line}\n" for line in said)
        if self.process and self.process.poll() is not None:
            complaints += f"QEMU ended with status {self.process.returncode}\n"
        return f"{complaints}last lines of {self.console}:\n    " + "\n    ".join(lines)

    def _where(self):
        """Where the processors are, twice: whether they stand still, spin or sleep."""
        if not self.qmp:
            return ""
        looks = []
        try:
            for _ in range(2):
                text = self.qmp.command("human-monitor-command", **{"command-line": "info registers -a"})
                looks.append(" ".join(re.findall(r"CPU#\d+|RIP=\w+|RFL=\w+|HLT=1", text)))
                time.sleep(0.2)
            # Does one sleep for whom the emulator has a timer, or an interrupt, that never comes?
            for number in range(self.cpus):
                text = self.qmp.command("human-monitor-command", **{"command-line": f"info lapic {number}"})
                looks.append(f"{number}: " + "; ".join(re.findall(r"(?:LVTT|Timer|ISR|IRR)\s.*", text)))
        except (Failure, OSError, ValueError) as error:
            looks.append(f"QEMU does not answer: {error}")
        return "".join(f"processors: {look}\n" for look in looks)

    def _killed(self, message):
        """End the VM; what to raise about it."""
        failure = Failure(message + self._tail())
        self.kill()
        return failure

    def _run(self, channel, command, timeout, sink):
        timeout *= PATIENCE
        try:
            return channel.run(command, timeout, sink)
        except TimeoutError as error:
            message = f"{self.name}: no answer within {timeout} s to: {command}\n{error}\n{self._where()}"
            raise Timeout(str(self._killed(message))) from None
        except ConnectionError as error:
            raise self._killed(f"{self.name}: the guest died during: {command}\n{error}\n") from None

    def run(self, command, timeout=60, sink=None):
        """(exit status, output) of a shell command, on the command port."""
        return self._run(self.command_channel, command, timeout, sink)

    def check(self, command, timeout=60):
        """The output of a command that must succeed."""
        status, output = self.run(command, timeout)
        if status:
            with contextlib.suppress(Failure):    # the guest may have died since
                output += "\nlast said by the kernel:\n" + self.run("dmesg | tail -n 3")[1]
            raise Failure(f"{self.name}: exit status {status} from: {command}\n{output}")
        return output

    def script(self, command, timeout=120, sink=None):
        """Like run(), on the script port; run() may be used from another thread meanwhile."""
        return self._run(self.script_channel, command, timeout, sink)

    def wait_until(self, command, timeout=60):
        """Repeat a command in the guest until it succeeds."""
        return wait_for(lambda: self.run(command)[0] == 0, timeout, f"{self.name}: '{command}'")

    def unplug_vsock(self, timeout=60):
        self.qmp.command("device_del", id="vsock0")
        self.qmp.wait_event("DEVICE_DELETED", timeout * PATIENCE, device="vsock0")

    def plug_vsock(self):
        _, device = self._vsock_device()
        self.qmp.command("device_add", **{**device, "id": "vsock0", "bus": "vsock-port"})

    def shell(self):
        """A shell of the guest on this terminal."""
        argv = self._qemu_command(self._write_initramfs(shell=True), shell=True)
        self.process = subprocess.Popen(argv)
        self.process.wait()
        self._clean()

    # Ending it

    def problems(self):
        """Lines of the kernel log that fail the run."""
        complaint, harmless = re.compile("|".join(COMPLAINTS)), re.compile("|".join(HARMLESS + self.allow))
        lines = self.console.read_text(errors="replace").splitlines()
        return [line.strip() for line in lines if complaint.search(line) and not harmless.search(line)]

    def leaks(self):
        """What was allocated and is lost, as a report; empty where the kernel does not look for such."""
        if self.run(f"[ -e {LEAKS} ]")[0]:
            return ""
        return self.check(f"echo scan >{LEAKS} && sleep {LEAK_AGE_S + 1} && echo scan >{LEAKS} && cat {LEAKS}",
                          LEAK_SCANS_S)

    def stop(self, timeout=60):
        """Power off, and raise Failure if the kernel complained, or lost memory."""
        leaks = ""
        try:
            if self.process.poll() is None:
                for function in self.at_end:
                    function(self)
                leaks = self.leaks()
                self.command_channel.sock.sendall(b"poweroff -f\n")
                self.process.wait(timeout)
        except (subprocess.TimeoutExpired, OSError):
            raise Failure(f"{self.name}: the guest did not power off within {timeout} s\n{self._tail()}") from None
        finally:
            problems = self.problems() + leaks.splitlines()
            self.keep_logs = self.keep_logs or bool(problems)
            self.kill()
        if problems:
            listed = "".join(f"\n    {line}" for line in problems[:20])
            raise Failure(f"{self.name}: the kernel complained (all of it: {self.console}):{listed}")

    def kill(self):
        """End it at once; harmless when it has ended."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._clean()

    def _clean(self):
        for end in (self.qmp, self.command_channel, self.script_channel):
            if end:
                end.close()
        for path in ("initramfs", "qmp", "command", "script"):
            (self.dir / path).unlink(missing_ok=True)
        # Without a log directory the logs stay only where a message refers to them.
        if self.log_dir != self.dir or not self.keep_logs:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, traceback):
        if kind:
            self.kill()
        else:
            self.stop()


def best_accelerator():
    """KVM if a guest really boots with it, else emulation. The answer is kept until the machine reboots."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    path = cache_dir() / "kvm.json"
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(path.read_text())
        if known.get("boot") == boot:
            return known["accel"]
    accel = "kvm"
    try:
        with VM(kernel="6.1", cpus=1, mem=256, accel="kvm", boot_timeout=20, name="kvm-probe"):
            pass
    except Failure:
        accel = "tcg"
    with contextlib.suppress(OSError):
        path.write_text(json.dumps({"boot": boot, "accel": accel}))
    return accel
