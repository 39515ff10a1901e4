#!/bin/sh
# Breaks each rule of the ledger on purpose and demands that a test notices.
#
#   crates/mvmp-testkit/tests/negative_controls.sh [RULE ...]
#
# Prints a table. Exit 1: a broken rule went unnoticed, or a test fails without one. Exit 2: it does not build.
# NEGATIVE_CONTROL_SECONDS (60) is how long a broken platform may hang before that counts as noticed.
set -u
cd "$(dirname "$0")/../../.." || exit 2
seconds=${NEGATIVE_CONTROL_SECONDS:-60}
scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT INT TERM

# Rule, the file of tests, the test that must notice.
rules="token-check lies shares::wrong_pools_granules_and_operations_are_refused
open-once lies sending::a_share_that_is_mirrored_to_a_holder_arrives_as_a_copy
close-once lies shares::a_stale_token_is_refused
sweep misfortunes an_nf_that_keeps_what_it_gets_holds_at_most_its_limit
slot-check lies shares::another_nfs_share_is_refused_even_with_its_slot_and_its_token
drain lies sending::what_a_living_nf_has_sent_before_it_closes_is_sent"

# One build for all: MVMP_BREAK_RULE says which rule is broken.
build() { cargo test --quiet -p mvmp-testkit --features break-rules --test lies --test misfortunes --no-run; }
build >"$scratch/out" 2>&1 || { cat "$scratch/out"; exit 2; }

# run FILE TEST: the exit code of one test, its output in $scratch/out.
run() {
    timeout -k 10 "$seconds" cargo test --quiet -p mvmp-testkit --features break-rules --test "$1" -- --exact "$2" \
        >"$scratch/out" 2>&1
}

worst=0
printf '%-12s  %-8s  %-22s  %s\n' "rule" "whole" "broken" "test"
while read -r rule file name; do
    case " $* " in "  " | *" $rule "*) ;; *) continue ;; esac
    run "$file" "$name"
    whole=$?
    grep -q '1 passed' "$scratch/out" || whole=1
    [ $whole -eq 0 ] && whole=passes || { whole=FAILS worst=1; }
    MVMP_BREAK_RULE=$rule run "$file" "$name"
    case $? in
        0) broken='NOT NOTICED' worst=1 ;;
        124 | 137) broken='noticed: it hangs' ;;
        *) grep -q '1 failed' "$scratch/out" && broken='noticed: test fails' || broken='noticed: it crashes' ;;
    esac
    printf '%-12s  %-8s  %-22s  %s\n' "$rule" "$whole" "$broken" "$file: $name"
done <<EOF
$rules
EOF
exit $worst
