#!/bin/sh
# What mvmp is built against and tested with, from the distribution: installs what is missing, and
# only then asks for root. Called by `make deps`.
set -eu

say() { printf '%s\n' "$*" >&2; }

missing=
need() { # COMMAND-OR-FILE PACKAGE...: the packages, unless the command or file is there
    thing=$1
    shift
    case $thing in
        /*) [ -e "$thing" ] ;;
        *) command -v "$thing" >/dev/null 2>&1 ;;
    esac || missing="$missing $*"
}

# libclang: the shared object alone is not enough, bindgen needs the compiler's own headers too.
clang_headers() {
    for headers in /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h; do
        [ -e "$headers" ] && return 0
    done
    return 1
}

newest_clang() {
    apt-cache pkgnames libclang1- 2>/dev/null | sed -n 's/^libclang1-\([0-9]*\)$/\1/p' | sort -n | tail -1
}

need cc gcc libc6-dev
need objcopy binutils
need pkg-config pkg-config
need ip iproute2
need unshare util-linux
ldconfig -p 2>/dev/null | grep -q 'libpcap\.so' || missing="$missing libpcap0.8" # rules with `pcap:`
pkg-config --atleast-version=22.11 libdpdk 2>/dev/null || missing="$missing libdpdk-dev"
"${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3 python3-venv"
clang=0
clang_headers && ldconfig -p 2>/dev/null | grep -q 'libclang-[0-9.]*so' || clang=1

if [ -n "$missing" ] || [ $clang = 1 ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        say "missing:$missing $([ $clang = 0 ] || echo 'libclang with its headers')"
        say "This is no Debian or Ubuntu: install these by hand (DPDK 22.11 or later, static libraries too)."
        exit 1
    fi
    sudo=
    if [ "$(id -u)" != 0 ]; then
        sudo=sudo
        command -v sudo >/dev/null 2>&1 || { say "missing:$missing; run 'make deps' as root once"; exit 1; }
    fi
    $sudo apt-get update -qq
    if [ $clang = 1 ]; then
        version=$(newest_clang)
        missing="$missing libclang1-$version libclang-common-$version-dev"
    fi
    say "installing:$missing"
    # shellcheck disable=SC2086
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

# What only tests need: without it they skip, saying so (with CI=true they fail). Installed where that
# takes no question. Docker Engine is not: which one, and who may use it, is the machine's own matter.
missing=
need tcpdump tcpdump
need tshark tshark
need ndpiReader libndpi-bin
need iperf3 iperf3
need ping iputils-ping
need ethtool ethtool
need curl curl
need nsenter util-linux
need debootstrap debootstrap
if [ -n "$missing" ]; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo='sudo -n'
    say "for tests, installing:$missing"
    # shellcheck disable=SC2086
    if ! { command -v apt-get && { [ -z "$sudo" ] || $sudo true; } && $sudo apt-get update -qq &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null 2>&1; then
        say "not installed; the tests that want them will be skipped, or fail where CI=true"
    fi
fi

# Debian 12's own rustc (1.63) is too old, and rustup is a package only from Debian 13 on.
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if ! command -v cargo >/dev/null 2>&1; then
    say "There is no Rust here; mvmp needs $wanted or newer:"
    say "    apt-get install rustup && rustup default stable     (Debian 13, Ubuntu 24.04, or newer)"
    say "    or the installer at https://rustup.rs               (everywhere)"
    exit 1
fi
have=$(rustc --version | cut -d' ' -f2)
if [ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -1)" != "$wanted" ]; then
    say "Rust $have is too old, mvmp needs $wanted or newer: rustup update stable"
    exit 1
fi
