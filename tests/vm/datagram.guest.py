#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What a guest's programs see of datagrams: one function per line of the table in docs/PROTOCOL.md.

    datagram.guest.py NAME [ARGUMENT...]     in the guest, as root; prints what the host's part wants to know
    datagram.guest.py rows NAME...           several, without arguments: a line for each

The host's part, tests/vm/datagram, echoes what arrives at ECHO, swallows it at SINK, and has nobody at NOBODY.
"""

import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import sys
import time
import traceback

HOST, LOCAL, ANY = 2, 1, socket.VMADDR_CID_ANY
ECHO, SINK, NOBODY, PORT = 7000, 7001, 7999, 5000
INNER = 42    # a guest of this machine that echoes, for the rows that say so
LARGEST = 65536
SO_RXQ_OVFL, SO_MEMINFO, MEMINFO_DROPS = 40, 55, 8
LIBC = ctypes.CDLL(None, use_errno=True)
PATTERN = bytes((at ^ (at >> 8) * 31) & 0xff for at in range(LARGEST))


def set_timeout(s, option, seconds):
    """Python's setsockopt() and getsockopt() know nothing but integers of AF_VSOCK."""
    value = struct.pack("ll", int(seconds), int(seconds % 1 * 1000000))
    assert LIBC.setsockopt(s.fileno(), socket.SOL_SOCKET, option, value, len(value)) == 0


def sock(port=None, cid=ANY, timeout=20):
    s = socket.socket(socket.AF_VSOCK, socket.SOCK_DGRAM)
    # Not settimeout(), with which Python makes the socket non-blocking and waits by itself.
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        set_timeout(s, option, timeout)
    if port is not None:
        s.bind((cid, port))
    return s


def fails(what, *names):
    try:
        got = what()
    except OSError as error:
        assert error.errno in [getattr(errno, name) for name in names], f"{error}, not {names}"
        return
    raise AssertionError(f"{got}, not {names}")


def drops(s):
    value, size = (ctypes.c_uint32 * (MEMINFO_DROPS + 1))(), ctypes.c_uint32(4 * (MEMINFO_DROPS + 1))
    assert LIBC.getsockopt(s.fileno(), socket.SOL_SOCKET, SO_MEMINFO, value, ctypes.byref(size)) == 0
    return value[MEMINFO_DROPS]


def own_cid():
    with open("/dev/vsock", "rb") as dev:
        return struct.unpack("I", fcntl.ioctl(dev, 0x7b9, b"\0" * 4))[0]


def body(seq, length, seed):
    """A datagram that says which it is; every byte of it is known."""
    head = struct.pack("<IIQ", seq, length, seed)
    return (head + PATTERN[:max(length - len(head), 0)])[:max(length, len(head))]


def absent():
    """No datagrams at the other end: ENODEV, every time, and soon where the machine is not busy otherwise."""
    took = []
    for _ in range(10):
        began = time.monotonic()
        fails(sock, "ENODEV")
        took.append(time.monotonic() - began)
    assert min(took) < float(sys.argv[2]), f"that took {min(took)} s"


def stream():
    """A stream to the echo service."""
    s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    s.settimeout(20)
    s.connect((HOST, ECHO))
    s.sendall(PATTERN)
    got = b""
    while len(got) < len(PATTERN):
        got += s.recv(LARGEST)
    assert got == PATTERN


def sizes():
    """Zero to the largest, whole, with the sender's address; more is EMSGSIZE."""
    s = sock()
    for n in (0, 1, 43, 44, 1983, 1984, 3732, 3733, 4096, 4097, 32767, 32768, 65535, LARGEST):
        assert s.sendto(PATTERN[:n], (HOST, ECHO)) == n
        data, source = s.recvfrom(LARGEST + 1)
        assert data == PATTERN[:n] and source == (HOST, ECHO), (n, len(data), source)
    fails(lambda: s.sendto(b"x" * (LARGEST + 1), (HOST, ECHO)), "EMSGSIZE")
    assert s.getsockname()[1] >= 1024


def flags():
    """MSG_PEEK, MSG_TRUNC, MSG_DONTWAIT; a short read loses the rest, and says so."""
    s = sock()
    s.sendto(PATTERN[:1000], (HOST, ECHO))
    select.select([s], [], [], 20)
    assert s.recv(10, socket.MSG_PEEK) == PATTERN[:10]
    data, _, got, source = s.recvmsg(10, 0, socket.MSG_PEEK | socket.MSG_TRUNC)
    assert data == PATTERN[:10] and got & socket.MSG_TRUNC and source == (HOST, ECHO)
    assert s.recv_into(bytearray(10), 10, socket.MSG_PEEK | socket.MSG_TRUNC) == 1000
    data, _, got, _ = s.recvmsg(10)
    assert data == PATTERN[:10] and got & socket.MSG_TRUNC
    fails(lambda: s.recv(10, socket.MSG_DONTWAIT), "EAGAIN")
    fails(lambda: s.recv(10, socket.MSG_OOB), "EOPNOTSUPP")
    fails(lambda: s.send(b"x"), "EINVAL", "ENOTCONN", "EDESTADDRREQ")


def connected():
    """connect() fixes the peer; others are not heard; nobody there is ECONNREFUSED; AF_UNSPEC ends it."""
    s = sock(PORT)
    s.connect((HOST, ECHO))
    assert s.getpeername() == (HOST, ECHO)
    other = sock()
    other.sendto(b"other", (own_cid(), PORT))
    s.send(b"mine")
    assert s.recv(100) == b"mine"
    fails(lambda: s.recv(100, socket.MSG_DONTWAIT), "EAGAIN")
    assert LIBC.connect(s.fileno(), struct.pack("H", socket.AF_UNSPEC) + b"\0" * 14, 16) == 0
    other.sendto(b"other", (own_cid(), PORT))
    data, source = s.recvfrom(100)
    assert data == b"other" and source == (own_cid(), other.getsockname()[1]), source
    s.sendto(b"back", source)
    assert other.recv(100) == b"back"


class Address(ctypes.Structure):
    """struct vsock_addr of libvsock."""
    _fields_ = [("kind", ctypes.c_int), ("type", ctypes.c_int), ("cid", ctypes.c_uint32), ("port", ctypes.c_uint32),
                ("flags", ctypes.c_uint32), ("path", ctypes.c_char * 108)]

    def __init__(self, cid, port, flags=0):
        super().__init__(0, socket.SOCK_DGRAM, cid, port, flags)


def library():
    """The same by libvsock: sizes and sources, what is cut, nothing there, nobody there, and oneself."""
    lib, source, room = ctypes.CDLL(os.environ["LIBVSOCK"]), Address(0, 0), ctypes.create_string_buffer(LARGEST)

    def send(fd, data, to):
        return lib.vsock_sendto(fd, data, ctypes.c_size_t(len(data)), 0, ctypes.byref(to))

    def receive(fd, size=LARGEST, flags=0):
        room.raw = b"-" * LARGEST
        select.select([fd], [], [], 20)
        return lib.vsock_recvfrom(fd, room, ctypes.c_size_t(size), flags | socket.MSG_DONTWAIT, ctypes.byref(source))

    def came(want, cid, port):
        assert room.raw[:len(want)] == want and room.raw[len(want):].strip(b"-") == b""
        assert (source.kind, source.type, source.cid, source.port) == (0, socket.SOCK_DGRAM, cid, port), source.port

    own, far = lib.vsock_listen(ctypes.byref(Address(ANY, ANY)), None), Address(HOST, ECHO)
    for n in (0, 1, 3732, LARGEST):
        assert send(own, PATTERN[:n], far) == 0 and receive(own) == n
        came(PATTERN[:n], HOST, ECHO)
        assert send(own, b"again", source) == 0 and receive(own) == 5
        came(b"again", HOST, ECHO)
    assert send(own, PATTERN + b"x", far) == -errno.EMSGSIZE and send(own, b"x", Address(HOST, ANY)) == -errno.EINVAL
    assert send(own, PATTERN[:1000], far) == 0
    for flags in (socket.MSG_PEEK, 0):
        assert receive(own, 10, flags) == 1000
        came(PATTERN[:10], HOST, ECHO)
    assert lib.vsock_recvfrom(own, None, ctypes.c_size_t(0), socket.MSG_DONTWAIT, None) == -errno.EAGAIN

    dialled, nobody = lib.vsock_dial(ctypes.byref(Address(HOST, NOBODY)), None), Address(HOST, NOBODY)
    assert send(dialled, b"x", nobody) == 0
    poll = select.poll()
    poll.register(dialled, 0)
    assert poll.poll(20000)[0][1] & select.POLLERR
    assert send(dialled, b"x", nobody) == -errno.ECONNREFUSED
    assert send(dialled, b"x", nobody) == 0 and receive(dialled) == -errno.ECONNREFUSED

    here = lib.vsock_listen(ctypes.byref(Address(ANY, PORT)), None)
    asker, oneself = lib.vsock_dial(ctypes.byref(Address(0, PORT, 1)), None), Address(0, PORT, 1)
    assert min(own, dialled, here, asker) >= 0
    assert send(asker, b"question", oneself) == 0 and receive(here) == 8
    came(b"question", own_cid(), source.port)
    assert send(here, b"answer", source) == 0 and receive(asker) == 6
    came(b"answer", own_cid(), PORT)
    for fd in (own, dialled, here, asker):
        os.close(fd)


def refused():
    """Nobody bound: a connected sender hears of it at its next call, another never."""
    s = sock()
    s.connect((HOST, NOBODY))
    s.send(b"x")
    fails(lambda: s.recv(100), "ECONNREFUSED")
    s.send(b"x")
    poll = select.poll()
    poll.register(s, 0)
    assert poll.poll(20000)[0][1] & select.POLLERR
    fails(lambda: s.send(b"x"), "ECONNREFUSED")
    u = sock()
    u.sendto(b"x", (HOST, NOBODY))
    u.sendto(b"y", (HOST, ECHO))
    assert u.recv(100) == b"y"
    u.connect((77, 1000))
    u.send(b"x")
    fails(lambda: u.recv(100), "ECONNREFUSED")


def ports():
    """Ports of their own; one owner each; below 1024 by privilege; any CID, or one."""
    st = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    st.bind((ANY, PORT))
    s = sock(PORT)
    fails(lambda: sock(PORT), "EADDRINUSE")
    fails(lambda: sock(PORT, own_cid()), "EADDRINUSE")
    fails(lambda: s.bind((ANY, PORT + 1)), "EINVAL")
    fails(lambda: sock(PORT + 1, 99), "EADDRNOTAVAIL")
    one = sock(PORT + 1, own_cid())
    assert one.getsockname() == (own_cid(), PORT + 1)
    one.sendto(b"x", (HOST, ECHO))
    assert one.recv(10) == b"x"
    low = sock(1023)
    low.sendto(b"x", (HOST, ECHO))
    assert low.recv(10) == b"x"
    pid = os.fork()
    if not pid:
        try:
            os.setuid(65534)
            fails(lambda: sock(1022), "EACCES")
            sock(1024)
        except BaseException as error:
            print(repr(error))
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    s.close()
    sock(PORT)


def no_loopback():
    """CID 1 is nowhere without vsock_loopback; the own CID is here all the same."""
    s = sock(PORT)
    fails(lambda: s.sendto(b"x", (LOCAL, PORT)), "ENODEV")
    fails(lambda: sock(PORT + 1, LOCAL), "EADDRNOTAVAIL")
    s.sendto(b"x", (own_cid(), PORT))
    assert s.recvfrom(10) == (b"x", (own_cid(), PORT))


def local():
    """Own CID and, with vsock_loopback, CID 1: a socket of this machine, and the answer finds its way."""
    for cid in (own_cid(), LOCAL):
        a, b = sock(PORT), sock()
        for n in (0, 1, 5000, LARGEST):
            b.sendto(PATTERN[:n], (cid, PORT))
            data, source = a.recvfrom(LARGEST)
            assert data == PATTERN[:n] and source == (cid, b.getsockname()[1]), source
            a.sendto(b"answer", source)
            assert b.recvfrom(100) == (b"answer", (cid, PORT))
        b.connect((cid, PORT + 7))
        b.send(b"x")
        fails(lambda: b.recv(10), "ECONNREFUSED")
        a.close()
    one = sock(PORT, LOCAL)
    fails(lambda: one.sendto(b"x", (HOST, ECHO)), "EINVAL")
    sock().sendto(b"x", (own_cid(), PORT))
    fails(lambda: one.recv(10, socket.MSG_DONTWAIT), "EAGAIN")


def shutdowns():
    """No more after SHUT_WR; what was there before SHUT_RD can be read, then there is nothing."""
    s = sock()
    s.connect((HOST, ECHO))
    s.send(b"one")
    assert select.select([s], [], [], 20)[0]
    s.shutdown(socket.SHUT_WR)
    fails(lambda: s.sendto(b"x", (HOST, ECHO)), "EPIPE")
    s.shutdown(socket.SHUT_RD)
    assert s.recv(100) == b"one"
    assert s.recv(100) == b""


def connect_to_host(s, cid, port):
    """With VMADDR_FLAG_TO_HOST, of which Python knows nothing."""
    address = struct.pack("=HHIIB3x", socket.AF_VSOCK, 0, port, cid, 1)
    assert LIBC.connect(s.fileno(), address, len(address)) == 0


def both():
    """On a machine that is guest and host each datagram goes where its address says, and an answer finds its way."""
    s, here = sock(PORT), sock(PORT + 1)
    for destination in ((INNER, 6000), (HOST, ECHO), (INNER, 1)):
        for n in (0, 1, 5000, LARGEST):
            s.sendto(PATTERN[:n], destination)
            assert s.recvfrom(LARGEST) == (PATTERN[:n], destination)
    s.sendto(b"here", (own_cid(), PORT + 1))
    assert here.recvfrom(100) == (b"here", (own_cid(), PORT))
    # The host's, though the guest of that CID would answer; and a CID that no guest here has.
    for connect in (lambda: connect_to_host(s, INNER, 6000), lambda: s.connect((INNER + 1, 6000))):
        connect()
        s.send(b"x")
        fails(lambda: s.recv(100), "ECONNREFUSED")


def both_bound():
    """One port in each of the machine's parts: each hears, and reaches, its own side only."""
    host, guest = sock(PORT, HOST), sock(PORT, own_cid())
    fails(lambda: sock(PORT), "EADDRINUSE")
    for s, destination, other in ((host, (INNER, 6000), (HOST, ECHO)), (guest, (HOST, ECHO), (INNER, 6000))):
        s.sendto(b"x", destination)
        assert s.recvfrom(10) == (b"x", destination)
        fails(lambda s=s, other=other: s.sendto(b"x", other), "EINVAL")
    for s in (host, guest):
        fails(lambda s=s: s.recv(10, socket.MSG_DONTWAIT), "EAGAIN")


def one_lacks():
    """As "both", with a host that has no datagrams: socket() works, and the guest inside is reached."""
    s = sock()
    fails(lambda: s.sendto(b"x", (HOST, ECHO)), "ENODEV")
    s.sendto(b"x", (INNER, 6000))
    assert s.recvfrom(10) == (b"x", (INNER, 6000))


def receive_limit():
    """SO_RCVBUF: what does not fit is dropped whole and counted, what fits is whole."""
    s, sender = sock(PORT), sock()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 40000)
    for seq in range(200):
        sender.sendto(body(seq, 2000, 1), (own_cid(), PORT))
    got = 0
    while True:
        try:
            data = s.recv(LARGEST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        assert data == body(struct.unpack_from("<I", data)[0], 2000, 1)
        got += 1
    assert 5 < got < 100 and got + drops(s) == 200, (got, drops(s))
    s.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    sender.sendto(b"x", (own_cid(), PORT))
    _, control, _, _ = s.recvmsg(10, 100)
    assert control == [(socket.SOL_SOCKET, SO_RXQ_OVFL, struct.pack("I", drops(s)))], control


def send_limit():
    """SO_SNDBUF: with a device that stands still EAGAIN, or a timeout, or waiting, as the caller likes."""
    s = sock()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100000)
    print("stop", flush=True)
    sys.stdin.readline()
    sent = 0
    try:
        while sent < 10000:
            s.sendto(PATTERN[:5000], socket.MSG_DONTWAIT, (HOST, SINK))
            sent += 1
    except BlockingIOError:
        pass
    assert 10 < sent < 100, sent
    set_timeout(s, socket.SO_SNDTIMEO, 0.2)
    began = time.monotonic()
    fails(lambda: s.sendto(b"x", (HOST, SINK)), "EAGAIN")
    assert 0.15 < time.monotonic() - began < 5
    set_timeout(s, socket.SO_SNDTIMEO, 30)
    print("go", flush=True)
    began = time.monotonic()
    assert s.sendto(b"x", (HOST, SINK)) == 1
    print(sent + 1, flush=True)


def rows():
    for name in sys.argv[2:]:
        try:
            globals()[name]()
        except Exception:
            print(f"not ok - {name}", traceback.format_exc(), flush=True)
        else:
            print(f"ok - {name}", flush=True)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
