#!/bin/sh
# Fuzzes one target, or each in turn, for so many seconds:  sh fuzz/run.sh [SECONDS [TARGET…]]
# Coverage comes from LLVM passes that a stable compiler has; no nightly, no cargo-fuzz.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
[ $# -gt 0 ] && shift
targets=${*:-parse stack encap rule config capture}
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-../target}/fuzz"
for target in $targets; do
    features=
    [ "$target" = capture ] && features="--features capture"
    # --target keeps the flags away from build scripts.
    cargo build --quiet --release --target "$host" --bin "$target" $features
    found="$CARGO_TARGET_DIR/corpus/$target"
    mkdir -p "$found"
    echo "== $target, $seconds s; what it finds is kept in $found"
    "$CARGO_TARGET_DIR/$host/release/$target" "$found" "corpus/$target" -max_total_time="$seconds" \
        -max_len=4096 -print_final_stats=1 -artifact_prefix="$CARGO_TARGET_DIR/$target-" 2>&1 | tail -n 12
done
