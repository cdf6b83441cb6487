"""A leaky bucket that counts what it took, so that a reply can correct it however late that reply arrives."""

import msgspec

from mixtura.limits.window import LeakyBucket, Window


class BucketSnapshot(msgspec.Struct):
    """One bucket at the moment a call was sent: its level, and the running sums of all units taken and corrected."""

    level: float
    taken: float
    corrected: float


class TrackedBucket(LeakyBucket):
    """A leaky bucket with running sums of all units taken and of all corrections."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self.taken = 0.0
        self.corrected = 0.0

    def take(self, amount: float, now: float) -> None:
        """Count `amount` units as used from `now`."""
        self.count(amount, now)

    def count(self, amount: float, now: float) -> BucketSnapshot:
        """Count `amount` units as used from `now`, and return the bucket with them in it."""
        level = self.level(now) + amount
        self._level, self._at = level, max(now, self._at)
        self.taken += amount
        return BucketSnapshot(level, self.taken, self.corrected)

    def correct(self, snapshot: BucketSnapshot, at: float, level: float, now: float) -> float:
        """Correct the level, given that the provider's level was `level` at `at`, the moment of `snapshot`.

        Units taken since `at` are kept. How much of them and of the old level has drained by now depends on how the
        two overlapped, so the new level is bounded by both cases: the old level drained first, or nothing of it was
        there to drain.

        Returns:
            By how many units the level had been estimated too high at `at`.
        """
        surplus = snapshot.level + self.corrected - snapshot.corrected - level
        since = self.taken - snapshot.taken
        drained = max(0.0, now - at) * self.window.rate
        low, high = max(0.0, level + since - drained), max(0.0, level - drained) + since
        before = self.level(now)
        after = min(max(before - surplus, low), high)
        self.corrected += after - before
        self._level, self._at = after, now
        return surplus

    def rescale(self, limit: float, now: float) -> None:
        """Change the limit; the units in use stay in use."""
        level = self.level(now)
        self.window = Window(limit, self.window.seconds)
        self._level, self._at = level, now

    def uncount(self, amount: float, now: float) -> None:
        """Take back units that the provider never counted, also for the replies of calls sent since."""
        before = self.level(now)
        after = max(0.0, before - amount)
        self._level, self._at = after, max(now, self._at)
        self.corrected += after - before

    def release(self, amount: float, now: float) -> None:
        """Give units back from `now` on; to the reply of an earlier call this is a negative take."""
        before = self.level(now)
        after = max(0.0, before - amount)
        self._level, self._at = after, max(now, self._at)
        self.taken += after - before

    def raise_to(self, level: float, now: float) -> None:
        """Raise the level to `level` where it is lower."""
        before = self.level(now)
        after = max(before, level)
        self.corrected += after - before
        self.observe(self.window.limit - after, now)
