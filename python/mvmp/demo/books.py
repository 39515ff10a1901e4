"""The books of a platform: what came in is what went somewhere, by name; on any tree of `Platform.stats()`.

A port in: received = dispatched + drops. A handle in: offered = delivered + drops. A handle's deliveries are
sent to a port, forwarded to NFs, released, taken back at its death, or still held; mirrors come on top.
A port out: accepted = transmitted + drops. A pool: free + held + with drivers = buffers.
"""

from __future__ import annotations

from typing import Any

from mvmp.demo.stage import Outcome


def total(drops: dict[str, int]) -> int:
    """All named drops together."""
    return sum(drops.values())


def imbalances(stats: dict[str, Any]) -> list[str]:
    """Each account that does not balance, in words."""
    wrong = []
    for name, port in stats["ports"].items():
        wrong += unequal(f"port {name} in", port["received"], port["dispatched"] + total(port["drops"]))
        sent = port["tx"]
        wrong += unequal(f"port {name} out", sent["accepted"], sent["transmitted"] + total(sent["drops"]))
    for handle in all_handles(stats):
        name = f"{handle['nf']} on {handle['device']}"
        wrong += unequal(f"{name} in", handle["offered"], handle["delivered"] + total(handle["drops"]))
        wrong += unequal(f"{name} out", handle["delivered"], ended(handle))
    for pool in stats["pools"]:
        wrong += unequal(
            f"pool {pool['pool']}", pool["buffers"], pool["free"] + pool["held"] + pool["in_pmd"]
        )
    return wrong


def unequal(account: str, left: int, right: int) -> list[str]:
    """Nothing, or one sentence."""
    return [] if left == right else [f"{account}: {left:,} is not {right:,}"]


def all_handles(stats: dict[str, Any]) -> list[dict[str, Any]]:
    """Open handles and the sums of closed ones."""
    return [*stats["handles"], *stats.get("closed_handles", [])]


def ended(handle: dict[str, Any]) -> int:
    """What became of a handle's deliveries."""
    out = handle["out"]
    ways: int = sum(
        out[key] for key in ("sent", "forwarded", "released", "nf_died")
    )  # tx_ring_full is within released
    return ways + int(handle.get("held", 0))


def drops_by_name(stats: dict[str, Any]) -> dict[str, int]:
    """Every named drop of a platform."""
    sums: dict[str, int] = {}
    sources = [port["drops"] for port in stats["ports"].values()]
    sources += [port["tx"]["drops"] for port in stats["ports"].values()]
    sources += [handle["drops"] for handle in all_handles(stats)]
    sources += [handle["out"]["drops"] for handle in all_handles(stats)]
    for drops in sources:
        for reason, count in drops.items():
            sums[reason] = sums.get(reason, 0) + count
    for reason in ("nf_died", "tx_ring_full"):
        sums[reason] = sums.get(reason, 0) + sum(handle["out"][reason] for handle in all_handles(stats))
    return {reason: count for reason, count in sums.items() if count}


def balance(closing_stats: dict[str, dict[str, Any]]) -> Outcome:
    """The books of all platforms of the demonstration."""
    wrong = [f"{part}: {sentence}" for part, stats in closing_stats.items() for sentence in imbalances(stats)]
    delivered = dropped = 0
    names: set[str] = set()
    for stats in closing_stats.values():
        drops = drops_by_name(stats)
        delivered += sum(handle["delivered"] for handle in all_handles(stats))
        dropped += total(drops)
        names |= set(drops)
    text = f"{len(closing_stats)} platforms: {delivered:,} deliveries, each accounted for; drops by name: "
    text += f"{dropped:,} ({', '.join(sorted(names))})" if names else "none"
    if not closing_stats:
        wrong = ["no platform came to its end"]
    if wrong:
        text = f"{wrong[0]}" + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")
    return Outcome(
        "books", text, not wrong, {"imbalances": wrong, "delivered": delivered, "dropped": dropped}
    )
