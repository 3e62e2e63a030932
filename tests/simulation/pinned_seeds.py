"""Seeds that once found something, and what it was.

They are run with every test run. What a seed does changes when the simulation draws differently;
so the mistake itself is also kept as a broken variant or a scenario wherever that is possible.
"""

from __future__ import annotations

from typing import Final

PINNED_SEEDS: Final = {
    8: "a blocking read with R=1 answered before N - R + 1 replicas held what it read",
    9: "a restarted member counted as reachable while its heartbeat was still stale",
    38: "the answer to a repeated overwriting put claimed to have seen the put that came after it",
    149: "a copy on a restored disk minted dots under its own actor of before",
    177: "an older copy that a rebuilding node had got back counted as evidence in a read",
    210: "a forwarded put that was refused was stored by a second copy of the message",
    297: "a forwarded put was applied again by a second copy that came after newer puts",
    1116: "a second copy of a forwarded put was applied by the next life of its receiver",
    1331: "a restored disk began an epoch that its own future had used already",
    3193: "two wiped nodes were compared with each other and both believed to be whole again",
    4967: "what a damaged copy was replaced by counted as evidence, and was older",
    130064: "the oracle had a write's second name supersede what those beside it had superseded",
    1456: "of three peers to compare with, the last in the alphabet never had its turn",
}
