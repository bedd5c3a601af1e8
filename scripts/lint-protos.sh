#!/bin/bash
# Lints the protos and checks that v1 was only added to, against main and the last tag.
set -euo pipefail
cd "$(dirname "$0")/.."

buf lint

# compare REVISION: breaking changes since then, or a word on why there is nothing to compare with.
compare() {
    if [ -z "$(git ls-tree -r --name-only "$1" -- proto/wharf/v1)" ]; then
        echo "buf breaking: $1 has no protos yet; nothing to compare with"
        return 0
    fi
    local before
    before=$(mktemp -d)
    git archive "$1" proto | tar -x -C "$before"
    echo "buf breaking: against $1"
    buf breaking proto --against "$before/proto" --config buf.yaml || { rm -rf "$before"; return 1; }
    rm -rf "$before"
}

main=$(git rev-parse --verify --quiet origin/main || git rev-parse --verify --quiet main || true)
last_tag=$(git describe --tags --abbrev=0 2>/dev/null || true)
[ -n "$main" ] || echo "buf breaking: no main branch here; skipped"
for revision in $main $last_tag; do
    compare "$revision"
done
