#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# unplug.guest.sh COMMAND...: the guest's side of the tests that take the device away under load. It is sourced by
# nobody and prints words for its caller; anything it prints after "wrong:" is a failure.
driver=/sys/bus/virtio/drivers/vmw_vsock_virtio_transport
params=/sys/module/vst_common/parameters
FIRST=1000 SERVE=2000 FEEDERS=2

wrong() { echo "wrong: $*"; }
uptime_ms() { read -r up _ </proc/uptime; echo "${up%.*}${up#*.}0"; }

# until_ok MS COMMAND...: false if it does not come true in time
until_ok() {
    end=$(($(uptime_ms) + $1)); shift
    until "$@"; do
        [ "$(uptime_ms)" -lt $end ] || { "$@"; return; }
        usleep 10000
    done
}

device() { for dev in "$driver"/virtio*; do [ -e "$dev" ] && echo "${dev##*/}"; done; }
has() { grep -q "^$1" "$2" 2>/dev/null; }
children() { set -- /proc/"$(cat /run/serve.pid)"/task/*; echo $(($# - 1)); }
children_are() { [ "$(children)" -eq "$1" ]; }
counts() { for what in flows pkts segs links; do cat $params/live_$what; done | xargs echo; }
counts_are() { [ "$(counts)" = "0 0 0 $1" ]; }
ended() { [ ! -d /proc/"$1" ] || grep -q '^State:.[ZX]' /proc/"$1"/status 2>/dev/null; }

serve() {
    vsock-load serve /run/serve.out $SERVE </dev/null >/dev/null 2>&1 &
    echo $! >/run/serve.pid
}

load() {
    rm -f /run/load.out
    vsock-load run /run/load.out $FIRST </dev/null >/dev/null 2>&1 &
    echo $! >/run/load.pid
    until_ok 20000 has ready /run/load.out || wrong "no load within 20 s: $(cat /run/load.out)"
    until_ok 20000 children_are $FEEDERS || wrong "$(children) connections from the host after 20 s"
    ! has "[a-z-]* [A-Ze]" /run/load.out || wrong "ended before anything happened: $(grep ' ' /run/load.out)"
    : >/run/serve.out
}

# told [load]: everybody, or the load alone, has ended; say how and when.
told() {
    until_ok 10000 has "done" /run/load.out || wrong "still blocked after 10 s; ended: $(cat /run/load.out)"
    [ "$1" = load ] || until_ok 10000 children_are 0 || wrong "$(children) accepted ones still block after 10 s"
    sed -n 's/^\([a-z-]* [A-Za-z]* [0-9]*\)$/ended \1/p' /run/load.out /run/serve.out
}

# let_go LINKS: the load's process ends, and nothing of it stays
let_go() {
    kill "$(cat /run/load.pid)"
    until_ok 2000 ended "$(cat /run/load.pid)" || wrong "the load does not end"
    until_ok 2000 counts_are "$1" || wrong "flows, packets, pieces, links left: $(counts)"
}

# Every call is interrupted, every socket closed.
interrupt() {
    echo "began $(uptime_ms)"
    kill -USR1 "$(cat /run/load.pid)"
    told load
    kill -USR2 "$(cat /run/load.pid)"
    until_ok 10000 has closed /run/load.out || wrong "close takes more than 10 s"
    grep closed /run/load.out
}

# Processes in the middle of their calls are killed.
kill_load() {
    began=$(uptime_ms)
    kill -9 "$(cat /run/load.pid)" "$(cat /run/serve.pid)"
    until_ok 10000 ended "$(cat /run/load.pid)" || wrong "the load does not die"
    until_ok 10000 ended "$(cat /run/serve.pid)" || wrong "the server does not die"
    echo "killed $(($(uptime_ms) - began))"
}

counts_become() { until_ok 2000 counts_are "$1" || wrong "flows, packets, pieces, links left: $(counts)"; }

bind() {
    echo "$1" >$driver/bind || wrong "bind"
    until_ok 5000 [ -e "$driver/$1" ] || wrong "no device after bind"
}

busy() {
    message=$(rmmod vmw_vsock_virtio_transport 2>&1) && wrong "rmmod worked under load"
    case $message in
        *"in use"* | *busy* | *"temporarily unavailable"*) ;;
        *) wrong "rmmod says: $message" ;;
    esac
}

# rmmod_works MS: within that time. A peer that reads nothing confirms no close: that takes the close timer's 8 s.
rmmod_works() {
    tries=$(($(uptime_ms) + $1))
    until rmmod vmw_vsock_virtio_transport 2>/run/rmmod.err; do
        [ "$(uptime_ms)" -lt $tries ] || { wrong "after the last close: $(cat /run/rmmod.err) $(counts)"; return; }
        usleep 10000
    done
}

round_unbind() {
    dev=$(device)
    load
    echo "began $(uptime_ms)"
    echo "$dev" >$driver/unbind
    echo "returned $(uptime_ms)"
    told
    let_go 0
    bind "$dev"
}

# Everything that has sockets is killed; rmmod works as soon as the peer has confirmed that.
kill_all() {
    busy
    kill -9 "$(cat /run/load.pid)" "$(cat /run/serve.pid)"
    until_ok 2000 ended "$(cat /run/load.pid)" || wrong "the load does not end"
    until_ok 2000 ended "$(cat /run/serve.pid)" || wrong "the server does not end"
}

reload() { # MS
    rmmod_works "$1"
    until_ok 2000 counts_are 0 || wrong "flows, packets, pieces, links left: $(counts)"
    /sbin/rmmod vst_common || wrong "vst_common stays"
    /sbin/modprobe vst_common || wrong "modprobe"    # not the shell's own: this one begins to record
    modprobe vmw_vsock_virtio_transport || wrong "modprobe"
    until_ok 5000 [ -n "$(device)" ] || wrong "no device after modprobe"
    serve
}

# The sockets stay open while the device is gone: the module is in use, then no longer.
round_unbind_rmmod() {
    dev=$(device)
    load
    echo "began $(uptime_ms)"
    echo "$dev" >$driver/unbind
    echo "returned $(uptime_ms)"
    told
    busy
    let_go 0
    kill -9 "$(cat /run/serve.pid)"
    rmmod_works 2000
    modprobe vmw_vsock_virtio_transport || wrong "modprobe"
    until_ok 5000 [ -n "$(device)" ] || wrong "no device after modprobe"
    serve
}

"$@"
