"""How many instructions a packet costs, by function: `instructions.py CALLGRIND_FILE PACKETS [LINES]`.

Reads what `whole_path --callgrind FOLDER` leaves (valgrind's callgrind_annotate does the reading); PACKETS is
what the program printed as received. Start and end of the process are counted too: measure for some seconds.
"""

import collections
import re
import subprocess
import sys

LINE = re.compile(r"\s*([\d,]+) \([^)]*\)\s+\S*?:(.*?)(?: \[.*)?$")


def by_function(file: str) -> collections.Counter[str]:
    """Instructions by function, its inlined parts with it."""
    annotate = ["callgrind_annotate", "--threshold=100", file]
    text = subprocess.run(annotate, capture_output=True, text=True, check=True).stdout
    found: collections.Counter[str] = collections.Counter()
    for line in text.split("-- Auto-annotated source")[0].splitlines():
        if match := LINE.match(line):
            found[match[2].split("library/")[-1]] += int(match[1].replace(",", ""))
    return found


def main() -> None:
    file, packets = sys.argv[1], int(sys.argv[2])
    lines = int(sys.argv[3]) if len(sys.argv) > 3 else 25
    found = by_function(file)
    print(f"{found.total() / packets:9.1f}  in all")
    for function, count in found.most_common(lines):
        print(f"{count / packets:9.1f}  {function}")


if __name__ == "__main__":
    main()
