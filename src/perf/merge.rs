//! Several rings as one stream, in the order of time.
//!
//! Contract: of two records of the same time, that of the earlier ring comes
//! first. A record costs as many looks as the number of rings has bits, not one
//! at each ring.

use super::cursor::Cursor;
use super::record::Sample;

/// What a ring has next: when, and which ring it is.
type Place = (u64, u32);

/// Later than any, and no ring.
const NONE: Place = (u64::MAX, u32::MAX);

/// Rings that are read together.
#[derive(Debug)]
pub struct Merge<'a> {
    cursors: Vec<Cursor<'a>>,
    /// The one that has the oldest record.
    first: Place,
    /// A heap of the others that have a record, the oldest one first.
    others: Vec<Place>,
}

/// What comes next of all.
#[derive(Debug)]
pub enum Step<'a> {
    /// This sample, which lies in one piece.
    Whole {
        /// The CPU it happened on.
        cpu: u32,
        /// Nanoseconds of CLOCK_MONOTONIC.
        time: u64,
        /// Its raw data.
        data: &'a [u8],
    },
    /// Something else: what [`Merge::take`] takes.
    Other,
    /// Nothing that is old enough.
    Held,
    /// Nothing at all.
    Empty,
}

impl<'a> Merge<'a> {
    /// Of these; most of many have nothing.
    #[inline]
    pub fn new(mut cursors: Vec<Cursor<'a>>) -> Merge<'a> {
        cursors.retain(|cursor| !cursor.is_done());
        let places = cursors.iter().map(Cursor::time).zip(0u32..);
        let others = places.collect();
        let mut merge = Merge {
            cursors,
            first: NONE,
            others,
        };
        for at in (0..merge.others.len() / 2).rev() {
            merge.sink(at);
        }
        merge.first = merge.oldest();
        merge
    }

    /// Looks for the oldest record, if it is older than `until`, and takes it if it is
    /// a sample as nearly all are.
    #[inline(always)]
    pub fn next(&mut self, until: u64) -> Step<'a> {
        let (time, which) = self.first;
        let Some(cursor) = self.cursors.get_mut(which as usize) else {
            return Step::Empty;
        };
        if time >= until {
            return Step::Held;
        }
        let Some(data) = cursor.take_whole() else {
            return Step::Other;
        };
        let cpu = cursor.cpu();
        self.settle();
        Step::Whole { cpu, time, data }
    }

    /// Takes the oldest record, whatever it is.
    #[inline]
    pub fn take(&mut self) -> Option<Sample<'a>> {
        let sample = self.cursors.get_mut(self.first.1 as usize)?.take();
        self.settle();
        sample
    }

    /// Finds the ring that has the oldest record now that one was taken of the first.
    #[inline(always)]
    fn settle(&mut self) {
        let which = self.first.1;
        let next = self.cursors.get(which as usize).filter(|c| !c.is_done());
        let Some(place) = next.map(|cursor| (cursor.time(), which)) else {
            self.first = self.oldest();
            return;
        };
        self.first = match self.others.first_mut() {
            Some(second) if *second < place => std::mem::replace(second, place),
            _ => {
                self.first = place;
                return;
            }
        };
        if self.others.len() > 1 {
            self.sink(0);
        }
    }

    /// Takes the oldest of the others.
    #[inline(never)]
    fn oldest(&mut self) -> Place {
        if self.others.is_empty() {
            return NONE;
        }
        let oldest = self.others.swap_remove(0);
        self.sink(0);
        oldest
    }

    /// Lets what stands there down to its place in the heap.
    #[inline(never)]
    fn sink(&mut self, mut at: usize) {
        let heap = &mut self.others[..];
        let Some(&place) = heap.get(at) else { return };
        loop {
            let mut child = 2 * at + 1;
            let Some(&(mut least)) = heap.get(child) else {
                break;
            };
            match heap.get(child + 1) {
                Some(right) if *right < least => (child, least) = (child + 1, *right),
                _ => {}
            }
            if place < least {
                break;
            }
            heap[at] = least;
            at = child;
        }
        heap[at] = place;
    }
}
