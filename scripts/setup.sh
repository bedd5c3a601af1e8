#!/bin/bash
# Installs what is missing for one purpose: `setup.sh demo|test|lint`. Debian and Ubuntu.
set -euo pipefail
cd "$(dirname "$0")/.."

TOOLS="$PWD/target/tools"
# The newest grpcurl that Debian 12's Go (1.19) builds.
GRPCURL=v1.8.9
GRPCIO=1.85.1
BUF=1.75.0
CARGO_DENY=0.20.2

purpose="${1:?usage: setup.sh demo|test|lint}"
missing=()
root=()
[ "$(id -u)" = 0 ] || root=(sudo)

# need COMMAND PACKAGE...: asks for the packages unless the command is there.
need() {
    local command="$1"
    shift
    PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null || missing+=("$@")
}

install_missing() {
    [ "${#missing[@]}" -gt 0 ] || return 0
    echo "setup: installing ${missing[*]}"
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

need_cargo() {
    command -v cargo >/dev/null || PATH="$PATH:$HOME/.cargo/bin"
    command -v cargo >/dev/null || {
        echo "setup: Rust is missing; install it with rustup (see README.md)" >&2
        exit 1
    }
}

python_tools() {
    local venv="$TOOLS/python" stamp="$TOOLS/python/grpcio-status-$GRPCIO"
    [ ! -e "$stamp" ] || return 0
    echo "setup: Python client tools (grpcio $GRPCIO)"
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet \
        "grpcio==$GRPCIO" "grpcio-tools==$GRPCIO" "grpcio-status==$GRPCIO"
    touch "$stamp"
}

grpcurl() {
    type -P grpcurl >/dev/null || [ -x "$TOOLS/bin/grpcurl" ] || {
        echo "setup: grpcurl $GRPCURL"
        GOBIN="$TOOLS/bin" go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$GRPCURL"
    }
}

# The package's program alone: the package itself starts a registry on port 5000.
docker_registry() {
    type -P docker-registry >/dev/null || [ -x "$TOOLS/bin/docker-registry" ] || {
        echo "setup: docker-registry"
        local place
        place=$(mktemp -d)
        "${root[@]}" apt-get update -qq
        (cd "$place" && apt-get download -qq docker-registry && dpkg-deb -x docker-registry_*.deb .)
        install -D "$place/usr/bin/docker-registry" "$TOOLS/bin/docker-registry"
        rm -r "$place"
    }
}

buf() {
    local prefix="$TOOLS/buf-$BUF"
    mkdir -p "$TOOLS/bin"
    [ -x "$prefix/node_modules/.bin/buf" ] || {
        echo "setup: buf $BUF"
        npm install --silent --no-save --no-audit --no-fund --prefix "$prefix" "@bufbuild/buf@$BUF"
    }
    ln -sf "$prefix/node_modules/.bin/buf" "$TOOLS/bin/buf"
}

cargo_deny() {
    command -v cargo-deny >/dev/null || [ -x "$TOOLS/bin/cargo-deny" ] || {
        echo "setup: cargo-deny $CARGO_DENY (some minutes)"
        cargo install --quiet --locked --root "$TOOLS" "cargo-deny@$CARGO_DENY"
    }
}

need_cargo
need gcc gcc libc6-dev
need protoc protobuf-compiler
[ -e /usr/include/seccomp.h ] || missing+=(libseccomp-dev)
case "$purpose" in
demo)
    need umoci umoci
    # The package's own file: another busybox in the PATH may need libraries.
    [ -e /usr/share/doc/busybox-static ] || missing+=(busybox-static)
    install_missing
    ;;
test)
    need containerd containerd
    need runc runc
    need crun crun
    need ctr containerd
    need umoci umoci
    need skopeo skopeo
    need openssl openssl
    need crun crun
    need strace strace
    need perl perl
    [ -e /usr/share/doc/busybox-static ] || missing+=(busybox-static)
    need python3 python3
    need jq jq
    need tmux tmux
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    type -P grpcurl >/dev/null || [ -x "$TOOLS/bin/grpcurl" ] || need go golang-go ca-certificates
    install_missing
    python_tools
    grpcurl
    docker_registry
    ;;
lint)
    need git git
    need npm nodejs npm
    install_missing
    buf
    cargo_deny
    ;;
*)
    echo "setup: unknown purpose $purpose" >&2
    exit 2
    ;;
esac
