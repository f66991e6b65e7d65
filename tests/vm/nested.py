# SPDX-License-Identifier: BSD-2-Clause
"""A VM whose kernel is a host, and guests within it, which the same test script boots there.

The script calls run() on this machine; run() boots the host and starts the script in it once more, with --inner and
ARGS; there it uses VM(**guest_options(...), vsock="vhost:CID"). The host's root is this machine's, read-only, and /tmp
its own. Nothing on this machine itself is touched.

Also where the host is emulated its guests have KVM: QEMU's emulation has AMD's SVM. They boot in a minute, not in five.
"""

import os
import sys
from pathlib import Path

from sluicevm import ROOT, VM, base_layer, find_kernel, modules_layer, our_modules

GUEST_CID = 42
DIAG = ["vsock_diag"]    # loaded when somebody asks
KVM = ["kvm_amd", "kvm_intel"]
# Nothing is tested that is known already, and nobody complains of a processor that has to wait.
QUICK_BOOT = "tsc=reliable cryptomgr.notests mitigations=off watchdog_thresh=60"


def guest_options(kernel, driver):
    return {"kernel": kernel, "driver": driver, "load": ["virtio_net"], "modules": DIAG, "mem": 384, "cpus": 1,
            "accel": "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg", "boot_timeout": 600,
            "log_dir": "/tmp", "append": QUICK_BOOT}


def prepare_layers(kernel, driver):
    """Guests find their layers made, for the cache is read-only there; these are the ones that they will ask for."""
    guest = VM(**{**guest_options(kernel, driver), "log_dir": None})
    base_layer()
    modules_layer(find_kernel(kernel), guest.modules, our_modules(find_kernel(kernel)) if driver == "ours" else [])
    guest.kill()


def run(script, args, kernel, host, guests, logs, name, timeout=1500):
    """The exit status of SCRIPT --inner ARGS in a host KERNEL with the vhost_vsock HOST (ours or stock)."""
    for guest_kernel, driver in guests:
        prepare_layers(guest_kernel, driver)
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/root"),
           "PYTHONPATH": f"{ROOT}/tools:{ROOT}/tests/vm"}
    env.update({k: os.environ[k] for k in ("XDG_CACHE_HOME", "SLUICE_BUILD") if k in os.environ})
    settings = " ".join(f"'{k}={v}'" for k, v in env.items())
    ours = {"driver": "ours", "load_driver": False} if host == "ours" else {}
    # Its QEMU asks for the time all the time, and a guest's kernel would wonder at what is left of an emulated XSAVE.
    with VM(kernel=kernel, load=["vhost_vsock"], modules=DIAG + KVM, share_root=True, mem=2048, cpus=2, log_dir=logs,
            name=name, append="tsc=reliable", cpu="xsave=off", **ours) as outer:
        outer.run("modprobe kvm_amd || modprobe kvm_intel")
        return outer.script(f"exec chroot /host env {settings} python3 {Path(script).resolve()} --inner "
                            f"{' '.join(map(str, args))}", timeout, say)[0]


def say(data):
    """At once: a run that is cut off shows how far it came."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def host_is_ours():
    """Asked within the host."""
    return Path("/sys/module/vst_common/holders/vhost_vsock").exists()
