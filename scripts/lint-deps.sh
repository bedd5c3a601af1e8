#!/bin/bash
# Checks the dependencies: licences, sources, bans, and known advisories where their database can be had.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo deny check bans licenses sources
if cargo deny fetch db 2>/dev/null; then
    cargo deny check advisories
else
    echo "cargo deny: the advisory database cannot be fetched from here; advisories NOT checked"
fi
