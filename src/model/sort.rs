//! Sorting, by one piece of code for all types.
//!
//! The standard library's is faster, and about 4 KiB of machine code for each type
//! that is sorted; nothing here is sorted where time counts.

/// What can be compared and exchanged by place.
trait Places {
    fn less(&self, a: usize, b: usize) -> bool;
    fn swap(&mut self, a: usize, b: usize);
}

struct Keyed<'a, T, F> {
    items: &'a mut [T],
    less: F,
}

impl<T, F: Fn(&T, &T) -> bool> Places for Keyed<'_, T, F> {
    fn less(&self, a: usize, b: usize) -> bool {
        (self.less)(&self.items[a], &self.items[b])
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.items.swap(a, b);
    }
}

/// Sorts by a key, in n log n steps; what has the same key comes in any order.
pub(crate) fn by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    let len = items.len();
    let less = |a: &T, b: &T| key(a) < key(b);
    heap(&mut Keyed { items, less }, len);
}

/// Sorts numbers.
pub(crate) fn numbers(items: &mut [u64]) {
    by_key(items, |number| *number);
}

/// Sorts a few by a key, in n² steps; what has the same key keeps its order.
pub(crate) fn few_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    let len = items.len();
    let less = |a: &T, b: &T| key(a) < key(b);
    insertion(&mut Keyed { items, less }, len);
}

fn insertion(places: &mut dyn Places, len: usize) {
    for end in 1..len {
        let mut at = end;
        while at > 0 && places.less(at, at - 1) {
            places.swap(at, at - 1);
            at -= 1;
        }
    }
}

fn heap(places: &mut dyn Places, len: usize) {
    for root in (0..len / 2).rev() {
        sift(places, root, len);
    }
    for end in (1..len).rev() {
        places.swap(0, end);
        sift(places, 0, end);
    }
}

fn sift(places: &mut dyn Places, mut root: usize, len: usize) {
    loop {
        let mut child = 2 * root + 1;
        if child >= len {
            return;
        }
        if child + 1 < len && places.less(child, child + 1) {
            child += 1;
        }
        if !places.less(root, child) {
            return;
        }
        places.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_the_standard_library_does(all in prop::collection::vec((0u8..20, 0u8..3), 0..200)) {
            let mut wanted = all.clone();
            wanted.sort_unstable();
            let mut got = all.clone();
            by_key(&mut got, |pair| *pair);
            prop_assert_eq!(&got, &wanted);
            wanted.clone_from(&all);
            wanted.sort_by_key(|(first, _)| *first);
            got.clone_from(&all);
            few_by_key(&mut got, |(first, _)| *first);
            prop_assert_eq!(&got, &wanted);
        }
    }
}
