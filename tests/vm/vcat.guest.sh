#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# vcat over real AF_VSOCK, both ends on CID 1 (vsock_loopback). Runs inside a VM only: on the machine that builds, vsock
# belongs to somebody's hypervisor. Needs vcat in PATH (or $VCAT), busybox, and root for one privileged port.
VCAT=${VCAT:-vcat}
DIR=$(mktemp -d) || exit 1
cd "$DIR" || exit 1
FAILED=0
SERVER=

[ -e /dev/vsock ] || { echo "skip - vcat # no /dev/vsock in this guest"; exit 77; }

result() { # NAME STATUS
    if [ "$2" -eq 0 ]; then
        echo "ok - $1"
    else
        echo "not ok - $1"
        echo "# server: $(cat server.err 2>/dev/null)"
        echo "# client: $(cat client.err 2>/dev/null)"
        FAILED=1
    fi
}

# Waits until a line of FILE contains TEXT.
wait_line() { # FILE TEXT
    tries=600
    until grep -q -e "$2" "$1" 2>/dev/null; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.1 # poll interval
    done
}

listen() { # options and address
    : >server.err
    $VCAT -v -l "$@" >server.out 2>server.err </dev/null &
    SERVER=$!
    wait_line server.err "listening on"
}

client() { # options and address; status and messages are kept
    $VCAT "$@" >client.out 2>client.err
    STATUS=$?
}

stop() {
    kill "$SERVER" 2>/dev/null
    wait "$SERVER" 2>/dev/null
}

one_connection() {
    listen 1:5001 && echo hello | $VCAT 1 5001 2>client.err && wait $SERVER && [ "$(cat server.out)" = hello ]
}

every_spelling() {
    listen -k -e cat vsock::5002 || return 1
    bad=0
    for address in vsock:1:5002 vsock://1:5002 vsock-stream:1:5002 1:5002 local:5002 0x1:0x138a vsock:local:5002; do
        [ "$(echo "$address" | $VCAT $address 2>client.err)" = "$address" ] || bad=1
    done
    [ "$(echo x | $VCAT vsock/1 5002 2>>client.err)" = x ] || bad=1
    [ "$(echo x | $VCAT vsock%1 5002 2>>client.err)" = x ] || bad=1
    stop
    return $bad
}

half_close() {
    listen -c 'wc -c' 1:5003 || return 1
    [ "$(head -c 1000000 /dev/zero | $VCAT 1 5003 2>client.err | tr -d ' ')" = 1000000 ] && wait $SERVER
}

big_transfer() {
    head -c 16777216 /dev/urandom >data
    listen -e cat 1:5004 || return 1
    [ "$($VCAT 1 5004 <data 2>client.err | sha256sum)" = "$(sha256sum <data)" ] && wait $SERVER
}

many_clients() {
    listen -k -m 60 -e cat 1:5005 || return 1
    bad=0 pids=
    for i in $(seq 50); do
        (head -c 50000 data | $VCAT 1 5005 2>>client.err | cmp -s - head) &
        pids="$pids $!"
    done
    for pid in $pids; do
        wait "$pid" || bad=1
    done
    stop
    return $bad
}

environment() {
    listen -c 'echo $VSOCK_REMOTE_CID $VSOCK_REMOTE_PORT $VSOCK_LOCAL_PORT $VSOCK_TYPE $NCAT_REMOTE_PORT' 1:5006
    [ "$($VCAT -p 4006 1 5006 2>client.err </dev/null)" = "1 4006 5006 stream 4006" ]
}

explains() { # STATUS TEXT, then vcat's arguments
    want=$1 text=$2
    shift 2
    client "$@" </dev/null
    [ $STATUS -eq "$want" ] && grep -q -e "$text" client.err
}

source_port_in_use() {
    listen -k -e cat 1:5007 || return 1
    explains 1 "source port 5007 is in use" -p 5007 -s local 1 5007
    bad=$?
    stop
    return $bad
}

port_in_use() {
    listen -k -e cat 1:5008 || return 1
    explains 1 "port 5008 of CID 1 (local) is in use" -l 1:5008
    bad=$?
    stop
    return $bad
}

privileged_port_needs_root() {
    listen -e cat 1:101 || return 1
    [ "$(echo x | $VCAT 1 101 2>client.err)" = x ] && wait $SERVER || return 1
    grep -q '^nobody:' /etc/passwd 2>/dev/null || echo 'nobody:x:65534:65534:nobody:/:/bin/sh' >>/etc/passwd
    start-stop-daemon -S -c nobody -x "$(command -v "$VCAT")" -- -l 1:101 2>client.err </dev/null
    [ $? -eq 1 ] && grep -q "port 101 is privileged" client.err
}

allow_and_deny() {
    listen -k -e cat --deny 1,7 any:5009 || return 1
    [ -z "$(echo x | $VCAT 1 5009 2>client.err)" ] && wait_line server.err "not allowed"
    bad=$?
    stop
    listen -k -e cat --allow local any:5010 || return 1
    [ "$(echo x | $VCAT 1 5010 2>client.err)" = x ] || bad=1
    stop
    return $bad
}

seqpacket() {
    listen -Q -e cat 1:5011 || return 1
    [ "$(echo record | $VCAT -Q 1 5011 2>client.err)" = record ] && wait $SERVER || return 1
    listen -Q vsock-seqpacket:1:5012 || return 1
    $VCAT -Q 1 5012 <data 2>client.err && wait $SERVER && cmp -s data server.out
}

probe() {
    listen -k -e cat 1:5014 || return 1
    [ "$($VCAT -z 1:5013-5015 2>client.err)" = "vsock:1:5014 open" ]
    bad=$?
    stop
    return $bad
}

buffer_size() {
    listen --buffer-size 1M -e cat 1:5016 || return 1
    [ "$($VCAT --buffer-size 64K 1 5016 <data 2>client.err | sha256sum)" = "$(sha256sum <data)" ]
}

any_port() {
    listen -e cat 1:any || return 1
    port=$(sed -n 's/.*listening on vsock:1:\([0-9]*\)$/\1/p' server.err)
    [ "$(echo x | $VCAT 1 "$port" 2>client.err)" = x ]
}

killed_peer() {
    : >server.err
    $VCAT -v -l 1:5017 </dev/zero >server.out 2>server.err &
    SERVER=$!
    wait_line server.err "listening on" || return 1
    mkfifo pipe
    $VCAT 1 5017 >pipe 2>client.err </dev/null &
    peer=$!
    exec 8<pipe
    head -c 1 <&8 >/dev/null
    kill -9 $peer
    exec 8<&-
    wait $SERVER
    [ $? -eq 1 ] && grep -q -e "did not take all" -e "data may be missing" server.err
}

one_connection; result "one connection" $?
every_spelling; result "every spelling" $?
half_close; result "request and response by half-close" $?
big_transfer; result "16 MiB there and back" $?
head -c 50000 data >head
many_clients; result "50 clients at once" $?
environment; result "environment of a command" $?
explains 1 "nobody listens on port 5999 of CID 1 (local)" 1 5999; result "refused port" $?
explains 1 "CID 77" -w 2 77 5999; result "unknown CID" $?
explains 1 "CID 0 (hypervisor)" 0 5999 || grep -q "no vsock device" client.err; result "CID 0" $?
explains 1 "CID 77 does not belong" -l 77:5999; result "listening on a CID that is not ours" $?
source_port_in_use; result "a source port that is in use is an error" $?
port_in_use; result "port in use" $?
privileged_port_needs_root; result "privileged port" $?
allow_and_deny; result "allow and deny" $?
seqpacket; result "seqpacket" $?
probe; result "probe of a range" $?
buffer_size; result "buffer size" $?
any_port; result "a port that the kernel chooses" $?
killed_peer; result "a killed peer is no success" $?
cd / && rm -rf "$DIR"
exit $FAILED
