# SPDX-License-Identifier: BSD-2-Clause
"""A guest that is a program: User-Mode-Linux, as `tools/debug-kernel --uml` builds it, in the place of a VM.

    machine = machine_for(directory)    # UML or VM
    with machine(kernel=directory, driver="ours", vsock="vhost-user:SOCKET") as guest: ...

It is a front-end of vhost-user itself (virtio_uml) and needs no QEMU; nothing is emulated. It has one processor.
"""

import os
import signal
import socket
from pathlib import Path

from sluicevm import VM, Channel, Failure, find_kernel

VIRTIO_ID_VSOCK = 19    # virtio 1.4 section 5.10


class UML(VM):
    """The options are VM's; what only QEMU has (QMP, and so plug_vsock() and others) is not there."""

    ports = {"PORT_MODULES": "", "COMMAND_LINE": "/dev/ttyS0", "SCRIPT_LINE": "/dev/ttyS1"}

    def __init__(self, **options):
        options = {"boot_timeout": 60, **options}
        super().__init__(accel="none", **{**options, "cpus": 1})
        if self.kernel.path("image").name != "linux":
            raise Failure(f"{self.kernel.dir} holds no User-Mode-Linux; tools/debug-kernel --uml builds one")
        if self.share_root or self.qemu_args:
            raise Failure("User-Mode-Linux has neither a shared root nor options of QEMU's")

    def _start_qemu(self):
        initramfs = self._write_initramfs(shell=False)
        lines, guest_ends = zip(*(socket.socketpair() for _ in range(2)))
        fds = [end.fileno() for end in guest_ends]
        argv = [str(self.kernel.path("image")), f"mem={self.mem}M", f"initrd={initramfs}", f"uml_dir={self.dir}",
                "con=null", "con0=null,fd:1", "ssl=null", f"ssl0=fd:{fds[0]}", f"ssl1=fd:{fds[1]}",
                "ignore_loglevel", "panic=-1", "net.ifnames=0"]
        if self.vsock:
            kind, _, path = self.vsock.partition(":")
            if kind != "vhost-user":
                raise Failure(f"vsock device '{self.vsock}': User-Mode-Linux has only vhost-user:SOCKET")
            argv.append(f"virtio_uml.device={path.split(',')[0]}:{VIRTIO_ID_VSOCK}")
        # "debug" is another option of this program's.
        argv += [word for word in self.append.split() if word != "debug"]
        with open(self.console, "wb") as console:
            self._start_program(argv, stdout=console, pass_fds=fds, start_new_session=True)
        for end in guest_ends:
            end.close()
        self.lines = dict(zip(("command", "script"), lines))

    def _attach(self):
        self.command_channel = Channel("command", self.lines["command"], self.nonce)
        self.script_channel = Channel("script", self.lines["script"], self.nonce)

    def _wait_init(self):
        return True    # no emulator that may stand still: the greeting is waited for

    def kill(self):
        """Its processes, too: they are processes of this machine, in a group of their own."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        super().kill()


def machine_for(kernel):
    """What boots this kernel."""
    known = Path(kernel).is_dir() and find_kernel(kernel).path("image").name == "linux"
    return UML if known else VM
