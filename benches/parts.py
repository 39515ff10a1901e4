"""Write Criterion's medians into docs/performance.md: `parts.py CRITERION_DIR PAGE`."""

import json
import sys
from pathlib import Path


def main() -> None:
    """Read every `new/estimates.json` and replace the table between the marks."""
    folder, page = Path(sys.argv[1]), Path(sys.argv[2])
    rows = ["| part | ns a packet (median) | low | high |\n|---|---|---|---|\n"]
    for file in sorted(folder.glob("**/new/estimates.json")):
        median = json.loads(file.read_text())["median"]
        benchmark = json.loads((file.parent / "benchmark.json").read_text())
        elements = (benchmark.get("throughput") or {}).get("Elements", 1)
        bounds = median["confidence_interval"]
        figures = (median["point_estimate"], bounds["lower_bound"], bounds["upper_bound"])
        point, low, high = (figure / elements for figure in figures)
        rows.append(f"| {benchmark['full_id']} | **{point:.2f}** | {low:.2f} | {high:.2f} |\n")
    begin, end = "<!-- parts: begin -->", "<!-- parts: end -->"
    text = page.read_text()
    before, rest = text.split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{''.join(rows)}{end}{after}")


if __name__ == "__main__":
    main()
