//! How long to wait for events before looking after the rings in any case.
//!
//! Contract: where something is going on, no event waits longer than
//! [`QUICK`], and what comes meanwhile is read in one go; after a while of
//! nothing it is [`IDLE`]. A ring that fills up wakes anyway.

const MILLI: u64 = 1_000_000;

/// The longest an event waits to be read.
pub(super) const IDLE: u64 = 100 * MILLI;
/// The same while something is going on: with what is held back, a line comes
/// within 20 ms.
const QUICK: u64 = 16 * MILLI;
/// How long after the last event that is so.
const LINGER: u64 = 1000 * MILLI;
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
    settling: bool,
}

impl Pace {
    /// From now on; nothing came yet.
    pub(super) fn new(now: u64) -> Pace {
        Pace {
            start: now,
            last: now.saturating_sub(LINGER),
            settling: false,
        }
    }

    /// Takes what a look at the rings has brought: whether there was anything, and
    /// whether anything was held back.
    pub(super) fn looked(&mut self, now: u64, came: bool, held: bool) {
        self.settling = held && !came;
        if came || held {
            self.last = now;
        }
    }

    /// Nanoseconds to wait from now on.
    pub(super) fn wait(&self, now: u64) -> u64 {
        let since = |time: u64| now.saturating_sub(time);
        match self.settling {
            true => SETTLED,
            false if since(self.start) < EAGER_FOR => EAGER,
            false if since(self.last) < LINGER => QUICK,
            false => IDLE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits and looks for a second from `start` on, where a ring gets something
    /// every so many nanoseconds, and what is younger than a millisecond is held
    /// back: how often it looks, and the longest that an event waits.
    fn second(pace: &mut Pace, start: u64, every: u64) -> (u64, u64) {
        let (mut now, mut looks, mut longest) = (start, 0, 0);
        let mut next = start + every / 3;
        while now < start + 1000 * MILLI {
            now += pace.wait(now);
            looks += 1;
            let settled = now - MILLI;
            let mut came = false;
            while next < settled {
                longest = longest.max(now - next);
                next += every;
                came = true;
            }
            pace.looked(now, came, next < now);
        }
        (looks, longest)
    }

    #[test]
    fn it_follows_what_comes() {
        let mut pace = Pace::new(0);
        // The first moments.
        let (looks, _) = second(&mut pace, 0, u64::MAX / 2);
        assert_eq!(looks, 100);
        // Nothing.
        let (looks, _) = second(&mut pace, 1000 * MILLI, u64::MAX / 4);
        assert_eq!(looks, 10);
        // Now and then, often, and without a break.
        for (at, every) in [(2, 50 * MILLI), (3, MILLI), (4, 10_000)] {
            let start = at * 1000 * MILLI;
            // The one that ends the silence.
            second(&mut pace, start, every);
            let (looks, longest) = second(&mut pace, start + 500 * MILLI, every);
            assert!(looks <= 85 && longest <= 18 * MILLI, "{looks} {longest}");
        }
        // Silence comes back.
        second(&mut pace, 9000 * MILLI, u64::MAX / 4);
        let (looks, _) = second(&mut pace, 10_000 * MILLI, u64::MAX / 4);
        assert_eq!(looks, 10);
    }

    #[test]
    fn what_ends_a_silence_is_not_kept() {
        let mut pace = Pace::new(0);
        let now = 5000 * MILLI;
        assert_eq!(pace.wait(now), IDLE);
        pace.looked(now, false, true);
        assert_eq!(pace.wait(now), SETTLED);
        pace.looked(now + SETTLED, true, false);
        assert_eq!(pace.wait(now + SETTLED), QUICK);
    }
}
