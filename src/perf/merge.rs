//! Several rings as one stream, in the order of time.
//!
//! Contract: of two records of the same time, that of the earlier ring comes
//! first. A record costs as many looks as the number of rings has bits, not one
//! at each ring.

use super::cursor::Cursor;
use super::record::Sample;

/// What a ring has next: when, and which ring it is.
type Place = (u64, u32);

/// Rings that are read together.
#[derive(Debug)]
pub struct Merge<'a> {
    cursors: Vec<Cursor<'a>>,
    /// A heap of those that have a record, the oldest one first.
    heap: Vec<Place>,
}

/// What comes next of all.
#[derive(Debug)]
pub enum Step<'a> {
    /// This.
    Sample(Sample<'a>),
    /// Nothing that is old enough.
    Held,
    /// Nothing at all.
    Empty,
}

impl<'a> Merge<'a> {
    /// Of these; most of many have nothing.
    pub fn new(mut cursors: Vec<Cursor<'a>>) -> Merge<'a> {
        cursors.retain(|cursor| !cursor.is_done());
        let places = cursors.iter().map(Cursor::time).zip(0u32..);
        let heap = places.collect();
        let mut merge = Merge { cursors, heap };
        for at in (0..merge.heap.len() / 2).rev() {
            merge.sink(at);
        }
        merge
    }

    /// The oldest record, if it is older than `until`.
    pub fn next(&mut self, until: u64) -> Step<'a> {
        while let Some(&(time, which)) = self.heap.first() {
            if time >= until {
                return Step::Held;
            }
            let Some(cursor) = self.cursors.get_mut(which as usize) else {
                break;
            };
            let sample = cursor.take();
            match cursor.is_done() {
                true => drop(self.heap.swap_remove(0)),
                false => self.heap[0].0 = cursor.time(),
            }
            self.sink(0);
            if let Some(sample) = sample {
                return Step::Sample(sample);
            }
        }
        Step::Empty
    }

    /// Lets what stands there down to its place in the heap.
    fn sink(&mut self, mut at: usize) {
        let heap = &mut self.heap[..];
        loop {
            let left = 2 * at + 1;
            let mut least = at;
            for child in [left, left + 1] {
                if heap.get(child).is_some_and(|place| *place < heap[least]) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            heap.swap(at, least);
            at = least;
        }
    }
}
