"""The campaign: ``make fuzz``, or ``python -m tests.fuzz --mutations 100000 --seed 1``.

Prints how many changed inputs of each kind were played, the most memory that this took, and each fault once, with the
seed that repeats it. The exit status is 1 if there was any fault.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.play import Campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="one target, or one seed of it: check, check:17")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), seed=given.seed)
        only, _, number = given.only.partition(":")
        if number:
            campaign.play_one(only, int(number))
        else:
            campaign.play_all(given.mutations, only=only, report=lambda text: print(text, flush=True))
    print(campaign.format_outcome())
    return 1 if campaign.faults else 0


if __name__ == "__main__":
    sys.exit(main())
