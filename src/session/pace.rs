//! How long to wait for events before looking after the rings in any case.
//!
//! Contract: where something is going on now and then, no event waits longer
//! than [`QUICK`], and what comes meanwhile is read in one go; where much is, no
//! longer than [`BULK`]. After a while of nothing one may sleep: for [`ASLEEP`]
//! where the next event wakes, else for [`IDLE`]. Whether it does is seen, too:
//! another program on the tracepoint may keep all samples from others (one that
//! returns 0). A ring that fills up wakes anyway.

const MILLI: u64 = 1_000_000;

/// The longest an event waits to be read.
pub(super) const IDLE: u64 = 100 * MILLI;
/// How long nothing is looked at, if the next event wakes.
const ASLEEP: u64 = 500 * MILLI;
/// The longest it waits while something is going on: with what is held back, a
/// line comes within 20 ms.
const QUICK: u64 = 16 * MILLI;
/// The same while so much is going on that few looks are cheaper by far: each
/// finds the caches cold.
const BULK: u64 = 64 * MILLI;
/// Events of a look, and of a millisecond, from which on that is so.
const MANY: (u64, u64) = (64, 4);
/// How long after the last event something is taken to be going on.
const LINGER: u64 = 200 * MILLI;
/// The longest it waits during the first moments, so that the first event shows
/// at once.
const EAGER: u64 = 10 * MILLI;
/// How long the first moments last.
const EAGER_FOR: u64 = 1000 * MILLI;
/// When to come back where all that came was held back.
const SETTLED: u64 = 2 * MILLI;

/// What the last looks at the rings have brought.
#[derive(Debug)]
pub(super) struct Pace {
    start: u64,
    /// When there last was something.
    last: u64,
    /// When there last was a look.
    looked: u64,
    settling: bool,
    many: bool,
    /// The next event is to wake.
    asleep: bool,
    /// When that was so, an event did not.
    deaf: bool,
}

impl Pace {
    /// From now on; nothing came yet.
    pub(super) fn new(now: u64) -> Pace {
        Pace {
            start: now,
            last: now.saturating_sub(LINGER),
            looked: now,
            settling: false,
            many: false,
            asleep: false,
            deaf: false,
        }
    }

    /// Something woke.
    pub(super) fn woken(&mut self, now: u64) {
        self.last = now;
        if std::mem::take(&mut self.asleep) {
            self.deaf = false;
        }
    }

    /// Takes what a look at the rings has brought: how many events, and whether
    /// any was held back.
    pub(super) fn looked(&mut self, now: u64, came: u64, held: bool) {
        self.settling = held && came == 0;
        let since = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        if came > 0 || held {
            self.last = now;
            self.deaf |= std::mem::take(&mut self.asleep);
            let (least, each) = MANY;
            self.many = came >= least && came.saturating_mul(MILLI) >= each.saturating_mul(since);
        }
    }

    /// Nanoseconds to wait from now on; `sleep` is asked whether the next event
    /// wakes, where nothing is going on.
    pub(super) fn wait(&mut self, now: u64, sleep: &mut dyn FnMut() -> bool) -> u64 {
        let since = |time: u64| now.saturating_sub(time);
        match self.settling {
            true => SETTLED,
            false if since(self.start) < EAGER_FOR => EAGER,
            false if since(self.last) < LINGER && self.many => BULK,
            false if since(self.last) < LINGER => QUICK,
            false => {
                self.asleep = sleep();
                match self.asleep && !self.deaf {
                    true => ASLEEP,
                    false => IDLE,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits and looks for a second from `start` on, where a ring gets something
    /// every so many nanoseconds, and what is younger than a millisecond is held
    /// back: how often it looks, and the longest that an event waits. `wakes`:
    /// the next event does.
    fn second(pace: &mut Pace, start: u64, every: u64, wakes: bool) -> (u64, u64) {
        let (mut now, mut looks, mut longest) = (start, 0, 0);
        let mut next = start + every / 3;
        while now < start + 1000 * MILLI {
            let mut asleep = false;
            let end = now
                + pace.wait(now, &mut || {
                    asleep = wakes;
                    wakes
                });
            now = end;
            if asleep && next < end {
                now = next;
                pace.woken(now);
            }
            looks += 1;
            let settled = now - MILLI;
            let mut came = 0;
            while next < settled {
                longest = longest.max(now - next);
                next += every;
                came += 1;
            }
            pace.looked(now, came, next <= now);
        }
        (looks, longest)
    }

    #[test]
    fn it_follows_what_comes() {
        for (wakes, idle) in [(false, 10), (true, 2)] {
            let mut pace = Pace::new(0);
            // The first moments.
            let (looks, _) = second(&mut pace, 0, u64::MAX / 2, wakes);
            assert_eq!(looks, 100);
            // Nothing.
            let (looks, _) = second(&mut pace, 1000 * MILLI, u64::MAX / 4, wakes);
            assert_eq!(looks, idle);
            // Now and then, often, and without a break.
            for (at, every, most) in [(2, 50 * MILLI, 18), (4, MILLI, 18), (6, 10_000, 66)] {
                let start = at * 1000 * MILLI;
                // The one that ends the silence.
                second(&mut pace, start, every, wakes);
                let (looks, longest) = second(&mut pace, start + 1000 * MILLI, every, wakes);
                let few = if most > 18 { 17 } else { 85 };
                assert!(looks <= few && longest <= most * MILLI, "{looks} {longest}");
            }
            // Silence comes back.
            second(&mut pace, 9000 * MILLI, u64::MAX / 4, wakes);
            let (looks, _) = second(&mut pace, 10_000 * MILLI, u64::MAX / 4, wakes);
            assert_eq!(looks, idle);
            // One event in it.
            let (_, longest) = second(&mut pace, 11_000 * MILLI, 900 * MILLI, wakes);
            let most = if wakes { 3 } else { 103 };
            assert!(longest <= most * MILLI, "{longest}");
        }
    }

    #[test]
    fn what_ends_a_silence_is_not_kept() {
        let mut pace = Pace::new(0);
        let now = 5000 * MILLI;
        let mut awake = || false;
        assert_eq!(pace.wait(now, &mut awake), IDLE);
        assert_eq!(pace.wait(now, &mut || true), ASLEEP);
        pace.woken(now);
        pace.looked(now, 0, true);
        assert_eq!(pace.wait(now, &mut awake), SETTLED);
        pace.looked(now + SETTLED, 1, false);
        assert_eq!(pace.wait(now + SETTLED, &mut awake), QUICK);
        // What was to wake and did not is not trusted, until it does.
        let later = now + 500 * MILLI;
        assert_eq!(pace.wait(later, &mut || true), ASLEEP);
        pace.looked(later + ASLEEP, 1, false);
        let later = later + 1000 * MILLI;
        assert_eq!(pace.wait(later, &mut || true), IDLE);
        pace.woken(later);
        pace.looked(later, 1, false);
        let later = later + 500 * MILLI;
        assert_eq!(pace.wait(later, &mut || true), ASLEEP);
        // What woke and was nothing does not do so at once again.
        let later = later + 1000 * MILLI;
        pace.woken(later);
        pace.looked(later, 0, false);
        assert_eq!(pace.wait(later, &mut || true), QUICK);
    }
}
