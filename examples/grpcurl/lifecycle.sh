#!/bin/sh
# One container's life with grpcurl: the server's reflection is all it needs.
#
#   lifecycle.sh IMAGE [SOCKET]
#
# The image must be there and have /bin/sh. Needs grpcurl and jq.
set -eu

image=${1:?usage: lifecycle.sh IMAGE [SOCKET]}
socket=${2:-/run/wharf/wharf.sock}
request_id=grpcurl-$$-$(date +%s)

call() { # METHOD JSON
    grpcurl -plaintext -unix -H "x-request-id: $request_id" -d "$2" "$socket" "wharf.v1.$1"
}

json() { # jq's arguments: values are quoted by jq, never by hand
    jq -nc "$@"
}

echo "# services"
grpcurl -plaintext -unix "$socket" list

echo "# create and start"
created=$(call ContainerService/CreateContainer "$(json --arg image "$image" '{
    spec: {image: $image, process: {entrypoint: ["/bin/sh", "-c", "exit 7"]}},
    start: true
}')")
id=$(printf '%s' "$created" | jq -r .container.id)
echo "$id"

echo "# wait: registered at once, then the result"
call ContainerService/WaitContainer "$(json --arg id "$id" '{container: $id}')"

echo "# delete"
call ContainerService/DeleteContainer "$(json --arg id "$id" '{container: $id}')"

echo "# an error, with its typed details"
call ContainerService/GetContainer "$(json --arg id "$id" '{container: $id}')" || true

echo "# what this script did"
call EventService/ListEvents "$(json --arg id "$request_id" '{filter: {requestIds: [$id]}}')" |
    jq -r '.events[] | "\(.sequence) \(.type) \(.cause.requestId // .cause.request_id)"'
