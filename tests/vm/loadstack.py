# SPDX-License-Identifier: BSD-2-Clause
"""The host's end of vsock-load's connections."""

import contextlib
import select
import socket
import threading

FIRST, SERVE = 1000, 2000    # as in unplug.guest.sh
SINK, SOURCE, MUTE, FULL, ECHO = range(5)
# How a call may end when the device is gone.
ENDS = {"ECONNRESET", "EPIPE", "ENODEV", "ENOTCONN", "ENETUNREACH", "EHOSTUNREACH"}
CHUNK = bytes(65536)


def sink(sock):
    while sock.recv(1 << 16):
        pass


def source(sock):
    while True:
        sock.sendall(CHUNK)


def mute(sock):
    """Neither reads nor writes until the other end is gone."""
    poll = select.poll()
    poll.register(sock, 0)
    poll.poll()


def echo(sock):
    while data := sock.recv(100):
        sock.sendall(data)


def serve_load(host):
    """The services; at FULL, whoever connects waits."""
    for service, function in ((SINK, sink), (SOURCE, source), (MUTE, mute), (ECHO, echo)):
        host.serve(FIRST + service, function)
    full = host.serve(FIRST + FULL, None, backlog=0)
    full.fillers = []
    with contextlib.suppress(BlockingIOError):
        while True:
            sock = socket.socket(socket.AF_UNIX)
            full.fillers.append(sock)
            sock.setblocking(False)
            sock.connect(f"{host.hybrid}_{FIRST + FULL}")


class Feeders:
    """Two connections into the guest, made again whenever they end: one writes, one reads."""

    def __init__(self, host):
        self.host, self.stopping = host, threading.Event()
        self.threads = [threading.Thread(target=self._feed, args=args, daemon=True)
                        for args in ((b"r", source), (b"w", sink))]

    def _feed(self, word, function):
        while not self.stopping.wait(0.05):
            with contextlib.suppress(OSError), self.host.dial(SERVE) as sock:
                sock.sendall(word)
                sock.settimeout(None)
                function(sock)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
