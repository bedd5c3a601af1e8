#!/bin/bash
# A container from an image made on the spot, without any network and with nothing but wharfd and the kernel: a
# wharfd in a directory of its own, a few commands, the events with the requests that caused them, and the end.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=PATH "$0" "$@"
export PATH="$PATH:/usr/sbin:/sbin"

place=$(mktemp -d)
wharfd_pid=""
wharf() { target/debug/wharf "$@"; }
export WHARF_HOST="unix://$place/wharfd.sock"

# Ends what is still there, also after a failure.
clean_up() {
    local status=$?
    set +e
    [ "$status" = 0 ] || tail -n 20 "$place"/*.log >&2
    if [ -n "$wharfd_pid" ]; then
        wharf rm --force hello >/dev/null 2>&1
        kill "$wharfd_pid" && wait "$wharfd_pid"
        # It outlives wharfd; asked to, it ends, unless it keeps anything.
        pkill --full -- "--directory $place/state/keeper"
    fi
    [ "$status" != 0 ] || nothing_is_left || status=1
    rm -rf "$place"
    exit "$status"
}
trap clean_up EXIT

# The keeper ends a moment after it is asked to.
nothing_is_left() {
    until_ok no_trace && echo "# nothing is left: no process, no mount"
}

no_trace() {
    ! grep -qs "$place" /proc/self/mountinfo && ! grep -lqs "$place" /proc/[0-9]*/cmdline
}

# show COMMAND...: says it, then does it.
show() {
    echo
    echo "\$ $*"
    "$@"
}

# until_ok COMMAND...: repeats it until it works, for at most ten seconds.
until_ok() {
    for _ in $(seq 100); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    echo "still not so after 10 s: $*" >&2
    return 1
}

start_wharfd() {
    target/debug/wharfd --listen "$WHARF_HOST" --state-dir "$place/state" --run-dir "$place/run" \
        >"$place/wharfd.log" 2>&1 &
    wharfd_pid=$!
    until_ok backend_is_ready
}

backend_is_ready() {
    wharf info | grep -q 'BackendReady: true'
}

echo "# wharfd, and an image made on the spot"
start_wharfd
scripts/busybox-image.sh "$place/image.tar" >"$place/image.log" 2>&1

show wharf version
show wharf import --reference busybox:demo "$place/image.tar"
show wharf run --rm --network none busybox:demo sh -c 'echo "hello from $(hostname)"; exit 3' ||
    echo "# exit code $?, the program's own"
show wharf --request-id demo-run run -d --name hello --network none busybox:demo \
    sh -c 'trap "exit 7" TERM; echo ready; while :; do sleep 1; done'
show wharf ps
show wharf --request-id demo-exec exec hello id
echo
echo "# input from a pipe, and its end"
echo one | show wharf exec -i hello sh -c 'cat; echo done'
show wharf logs --timestamps hello
show wharf --request-id demo-stop stop hello
show wharf --request-id demo-rm rm hello
echo
echo "# what happened, and which request caused it"
show wharf events --since 10m --follow=false
echo
