"""The nemesis: brings about the faults of a run, and takes all of them back in the end.

It works until it is told to `heal`; each fault of limited length ends by itself before that. All
its decisions come from its own generator, so that watching a run does not change it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from tests.memory_storage_engine import DiskImage
from tests.simulation.options import Fault, Options
from tests.virtual_hosts import DeathStep, VirtualHosts
from tests.virtual_network import Link, LinkQuality

CUT_S = (0.05, 4.0)
PAUSE_S = (0.05, 3.0)
DOWN_S = (0.0, 3.0)
SLOW_TURN_S = (0.002, 0.08)
DAY_MS = 24 * 60 * 60 * 1000


class DiskWatch(Protocol):
    """Is told when the nemesis takes something from a disk."""

    def on_destroyed(self, name: str, key: bytes | None) -> None:
        """One key's record, or (None) the whole disk, is not what it was."""


class Nemesis:
    """Plans and executes the faults of one run."""

    def __init__(
        self, cluster: VirtualHosts, options: Options, rng: random.Random, watch: DiskWatch
    ) -> None:
        self._cluster = cluster
        self._options = options
        self._rng = rng
        self._watch = watch
        self._cuts: dict[int, set[Link]] = {}
        self._next_cut = 0
        self._usual_ahead_ms: dict[str, int] = {}
        """Machine → how far its clock is ahead when it is not set wrong."""
        self._images: dict[str, DiskImage] = {}
        self._active = True
        self.told: list[tuple[float, str]] = []
        """What was done, for people: (virtual seconds, what)."""
        self._deeds: dict[Fault, Callable[[], None]] = {
            Fault.CUT: self._cut_link,
            Fault.PARTITION: self._partition,
            Fault.BRIDGE: self._bridge,
            Fault.FLAPPING: self._flap,
            Fault.KILL: self._kill,
            Fault.PAUSE: self._pause,
            Fault.SLOW_NODE: self._slow,
            Fault.BAD_LINK: self._spoil_link,
            Fault.DISK_FULL: self._fill_disk,
            Fault.MASS_RESTART: self._restart_all,
            Fault.REBOOT: self._reboot,
            Fault.BIT_FLIP: self._flip,
            Fault.WIPE: self._wipe,
            Fault.RESTORE: self._restore,
            Fault.CLOCK: self._set_clock,
        }

    def begin(self) -> None:
        """Plan the first fault."""
        if self._options.faults:
            self._plan()

    def _plan(self) -> None:
        wait_s = self._rng.expovariate(1 / self._options.fault_interval_s)
        self._later(wait_s, self._strike)

    def _strike(self) -> None:
        faults = self._options.faults
        fault = self._rng.choices(list(faults), list(faults.values()))[0]
        self._deeds[fault]()
        self._plan()

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something in a while, unless all is healed by then."""
        self._cluster.time.after(delay_s, lambda: action() if self._active else None)

    def _tell(self, what: str) -> None:
        self.told.append((self._cluster.time.time_s, what))

    def heal(self) -> None:
        """Take back everything that can be taken back; nothing new happens from now on."""
        self._active = False
        cluster = self._cluster
        self._cuts.clear()
        cluster.network.cut.clear()
        cluster.network.quality.clear()
        cluster.network.usual = LinkQuality()
        for host in cluster.hosts.values():
            host.turn_s = 0.0
            host.wall_ahead_ms = self._usual_ahead_ms.get(host.name, host.wall_ahead_ms)
            host.storage.full = host.storage.fail_next_commit = False
            host.dies_at = None
            if host.paused:
                cluster.resume(host.name)
            if host.node is None:
                cluster.start(host.name)
        self._tell("all is healed")

    # ------------------------------------------------------------ links

    def _links(self) -> list[Link]:
        names = list(self._cluster.hosts)
        return [(one, other) for one in names for other in names if one != other]

    def _two_groups(self) -> tuple[set[str], set[str]]:
        names = list(self._cluster.hosts)
        self._rng.shuffle(names)
        size = self._rng.randint(1, len(names) - 1)
        return set(names[:size]), set(names[size:])

    def _cut(self, links: set[Link], length_s: float) -> None:
        number = self._next_cut
        self._next_cut += 1
        self._cuts[number] = links
        self._apply_cuts()
        self._later(length_s, lambda: self._mend(number))

    def _mend(self, number: int) -> None:
        self._cuts.pop(number, None)
        self._apply_cuts()

    def _apply_cuts(self) -> None:
        self._cluster.network.cut.clear()
        self._cluster.network.cut.update(*self._cuts.values())

    def _cut_link(self) -> None:
        link = self._rng.choice(self._links())
        self._tell(f"cut {link[0]}>{link[1]}")
        self._cut({link}, self._rng.uniform(*CUT_S))

    def _partition(self) -> None:
        left, right = self._two_groups()
        self._tell(f"partition {sorted(left)} {sorted(right)}")
        self._cut(self._crossing(left, right), self._rng.uniform(*CUT_S))

    def _bridge(self) -> None:
        left, right = self._two_groups()
        bridge = self._rng.choice(sorted(left | right))
        self._tell(f"bridge {bridge} between {sorted(left)} and {sorted(right)}")
        crossing = self._crossing(left - {bridge}, right - {bridge})
        self._cut(crossing, self._rng.uniform(*CUT_S))

    def _crossing(self, left: set[str], right: set[str]) -> set[Link]:
        pairs = [(one, other) for one in sorted(left) for other in sorted(right)]
        return {*pairs, *((other, one) for one, other in pairs)}

    def _flap(self) -> None:
        left, right = self._two_groups()
        length_s = self._rng.uniform(0.02, 0.4)
        times = self._rng.randint(2, 8)
        self._tell(f"flapping {sorted(left)} {sorted(right)}, {times} times {length_s:.2f} s")
        crossing = self._crossing(left, right)
        for number in range(times):
            self._later(2 * number * length_s, lambda: self._cut(crossing, length_s))

    def _spoil_link(self) -> None:
        link = self._rng.choice(self._links())
        quality = LinkQuality(
            loss=self._rng.choice([0.0, 0.1, 0.5]),
            duplicates=self._rng.choice([0.0, 0.5]),
            stragglers=self._rng.choice([0.0, 0.5]),
            straggle_s=self._rng.uniform(0.01, 1.0),
            delay_s=self._rng.choice([0.0, 0.05, 0.5]),
        )
        self._tell(f"bad link {link[0]}>{link[1]}")
        network = self._cluster.network
        network.quality[link] = quality

        def improve() -> None:
            network.quality.pop(link, None)

        self._later(self._rng.uniform(*CUT_S), improve)

    # ------------------------------------------------------------ processes

    def _running(self) -> list[str]:
        return self._cluster.running()

    def _start_later(self, name: str, delay_s: float) -> None:
        def start() -> None:
            if self._cluster.hosts[name].node is None:
                self._cluster.start(name)

        self._later(delay_s, start)

    def on_death(self, name: str) -> None:
        """A process ended, for whatever reason: it is started again some time later."""
        if self._active:
            self._start_later(name, self._rng.uniform(*DOWN_S))
        else:
            self._cluster.time.after(0.01, lambda: self._cluster.start(name))

    def _kill(self) -> None:
        if not self._running():
            return
        name = self._rng.choice(self._running())
        step = self._rng.choice([None, *DeathStep])
        if step is None:
            self._tell(f"kill {name}")
            self._cluster.kill(name)
        else:
            self._tell(f"{name} is to die {step.value}")
            self._cluster.hosts[name].dies_at = step

    def _pause(self) -> None:
        names = [one for one in self._running() if not self._cluster.hosts[one].paused]
        if not names:
            return
        name = self._rng.choice(names)
        life = self._cluster.hosts[name].lives
        length_s = self._rng.uniform(*PAUSE_S)
        self._tell(f"pause {name} for {length_s:.2f} s")
        self._cluster.pause(name)

        def resume() -> None:
            host = self._cluster.hosts[name]
            if host.lives == life and host.paused:
                self._cluster.resume(name)

        self._later(length_s, resume)

    def _slow(self) -> None:
        host = self._cluster.hosts[self._rng.choice(list(self._cluster.hosts))]
        host.turn_s = self._rng.uniform(*SLOW_TURN_S)
        self._tell(f"turns of {host.name} take {host.turn_s:.3f} s")

        def speed_up() -> None:
            host.turn_s = 0.0

        self._later(self._rng.uniform(*CUT_S), speed_up)

    def _set_clock(self) -> None:
        host = self._cluster.hosts[self._rng.choice(list(self._cluster.hosts))]
        usual_ms = self._usual_ahead_ms.setdefault(host.name, host.wall_ahead_ms)
        size_ms = self._rng.choice([1_000, 60_000, DAY_MS])
        host.wall_ahead_ms = self._rng.randint(-size_ms, size_ms)
        self._tell(f"the clock of {host.name} is {host.wall_ahead_ms / 1000:.1f} s ahead")

        def set_right() -> None:
            host.wall_ahead_ms = usual_ms

        self._later(self._rng.uniform(*CUT_S), set_right)

    def _restart_all(self) -> None:
        self._tell("kill all")
        for name in self._running():
            self._cluster.kill(name)

    def _reboot(self) -> None:
        if not self._running():
            return
        name = self._rng.choice(self._running())
        self._tell(f"reboot {name}")
        self._cluster.hosts[name].boots += 1
        self._cluster.kill(name)

    # ------------------------------------------------------------ disks

    def _fill_disk(self) -> None:
        host = self._cluster.hosts[self._rng.choice(list(self._cluster.hosts))]
        host.storage.full = True
        self._tell(f"the disk of {host.name} is full")

        def free() -> None:
            host.storage.full = False

        self._later(self._rng.uniform(*CUT_S), free)

    def _flip(self) -> None:
        """What only expendable disks have could be damaged on all of them, and stay so for ever."""
        expendable = self._options.expendable
        name = self._rng.choice(expendable)
        hosts = self._cluster.hosts
        storage = hosts[name].storage
        others = [host.storage for host in hosts.values() if host.name not in expendable]
        places = [
            place
            for place in storage.committed_places()
            if any(other.committed(*place) is not None for other in others)
        ]
        if places:
            place = self._rng.choice(places)
            self._tell(f"bit flip in {place.key.decode()} at {name}")
            storage.corrupt(*place)
            self._watch.on_destroyed(name, place.key)

    def _wipe(self) -> None:
        name = self._rng.choice(self._options.expendable)
        self._take_down(name)
        self._tell(f"wipe {name}")
        self._cluster.wipe(name)
        self._images.pop(name, None)
        self._watch.on_destroyed(name, None)

    def _restore(self) -> None:
        """The first time a backup is taken; then it is put back, perhaps more than once.

        The node may have had another start in between or not.
        """
        name = self._rng.choice(self._options.expendable)
        host = self._cluster.hosts[name]
        image = self._images.get(name)
        if image is None:
            self._images[name] = host.storage.image()
            self._tell(f"back up {name}")
            return
        if self._rng.random() < 0.7:
            del self._images[name]
        self._take_down(name)
        self._tell(f"restore {name}")
        self._cluster.restore(name, image)
        self._watch.on_destroyed(name, None)

    def _take_down(self, name: str) -> None:
        if self._cluster.hosts[name].node is not None:
            self._cluster.kill(name)
