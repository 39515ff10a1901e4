#!/bin/sh
# Installs the wheel of dist/ in a bare Debian root (no DPDK, no compiler), without a network, and
# runs it there as nobody without huge pages. Needs root and debootstrap; `make bare-root`.
# The root is kept in target/bare-root for the next time.
set -eu
cd "$(dirname "$0")/.."

root=$PWD/target/bare-root
wheels=$PWD/target/bare-root-wheels
python=${PYTHON:-.venv/bin/python}

skip() { echo "skipped: $*"; exit 0; }
[ "$(id -u)" = 0 ] || skip "a bare root takes root to make"
wheel=$(ls -t dist/mvmp-*.whl 2>/dev/null | head -1)
[ -n "$wheel" ] || { echo "no wheel in dist/: make wheel" >&2; exit 1; }

if ! command -v debootstrap >/dev/null; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
fi
if [ ! -e "$root/.complete" ]; then
    rm -rf "$root"
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip bookworm "$root" ${MIRROR:-}
    touch "$root/.complete"
fi
if [ -n "$(find "$root" -xdev -name 'librte_*' -print -quit)" ]; then
    echo "the bare root has DPDK in it: $root" >&2
    exit 1
fi

# The wheel's own requirements, for the root's Python (3.11), fetched beforehand.
mkdir -p "$wheels"
"$python" -m pip download --quiet --dest "$wheels" --only-binary :all: --python-version 3.11 \
    'numpy>=1.26' 'rich>=13'
rm -rf "$root/wheels" "$root/opt/mvmp" && mkdir "$root/wheels"
cp "$wheels"/*.whl "$wheel" "$root/wheels/"

# A mount, pid and network namespace of its own: what is mounted goes with it, and no network.
exec unshare --mount --pid --fork --net sh -eu -s "$root" <<'INSIDE'
root=$1
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero urandom tty; do
    touch "$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device"
done
# Loopback, as any container has it.
command -v ip >/dev/null && ip link set lo up

chroot "$root" sh -euc '
    python3 -m venv /opt/mvmp
    /opt/mvmp/bin/pip install --quiet --no-index --find-links /wheels mvmp'

as_nobody() {
    echo "\$ $*"
    chroot --userspec=65534:65534 --groups= "$root" env -i HOME=/tmp PATH=/opt/mvmp/bin:/usr/bin:/bin \
        LANG=C.UTF-8 MVMP_HUGE_PAGES=off "$@"
}
as_nobody python -c 'import mvmp._mvmp as module; print(module.__file__)'
as_nobody mvmp doctor
as_nobody mvmp demo
echo "the wheel runs in a bare root as nobody, without huge pages, network and DPDK"
INSIDE
