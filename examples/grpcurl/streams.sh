#!/bin/sh
# A process's input and output, and a container's log, with grpcurl.
#
#   streams.sh CONTAINER [SOCKET]
#
# The container must run and have /bin/sh. Needs grpcurl and jq.
set -eu

container=${1:?usage: streams.sh CONTAINER [SOCKET]}
socket=${2:-/run/wharf/wharf.sock}

call() { # METHOD, with one JSON message a line on standard input
    grpcurl -plaintext -unix -d @ "$socket" "wharf.v1.$1"
}

# A message is JSON, and bytes in it are base64.
stdin() { # TEXT
    jq -nc --arg text "$1" '{input: {stdin: ($text | @base64)}}'
}

echo "# run a process; the end of the messages is the end of its input"
{
    jq -nc --arg container "$container" '{start: {
        container: $container,
        spec: {process: {args: ["/bin/sh", "-c", "cat; echo done >&2; exit 7"]}, stdinOpen: true},
        attach: {stdin: true}
    }}'
    stdin "hello
"
    stdin "world
"
} | call ExecService/RunExec |
    jq -r '.output | if .output then "\(.output.stream) \(.output.data | @base64d | rtrimstr("\n"))"
        elif .exited then "exit code \(.exited.code)"
        else empty end'

echo "# the log so far"
jq -nc --arg container "$container" '{container: $container}' | call LogService/StreamLogs |
    jq -r '.entries.entries[]? | .data | @base64d | rtrimstr("\n")'
