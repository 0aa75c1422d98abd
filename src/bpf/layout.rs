//! The layouts and constants that the programs and their reader share: those of bpf-asm/event.inc and bpf-asm/lost.inc.
//!
//! Contract: build.rs takes them from the text that the programs are assembled from, so that they stand there alone. A
//! member's place is counted from the start of its structure, also where the programs have it on their stack.

#![allow(dead_code, reason = "some of it is for the programs alone")]

use crate::order::{Order, Value};
use std::marker::PhantomData;

/// A member of a structure.
#[derive(Debug)]
pub struct Field<T> {
    /// Bytes before it.
    pub at: usize,
    of: PhantomData<T>,
}

impl<T: Value> Field<T> {
    const fn at(at: usize) -> Field<T> {
        Field {
            at,
            of: PhantomData,
        }
    }

    /// Its value in the structure that these bytes are; zero where they end before.
    #[inline]
    pub fn get(&self, bytes: &[u8], order: Order) -> T {
        bytes
            .get(self.at..)
            .map_or(T::ZERO, |bytes| T::read(bytes, order))
    }

    /// The same where these are the bytes behind so many of the structure.
    #[inline]
    pub fn get_behind(&self, before: usize, bytes: &[u8], order: Order) -> T {
        let rest = bytes.get(self.at.wrapping_sub(before)..);
        rest.map_or(T::ZERO, |bytes| T::read(bytes, order))
    }

    /// Puts its value into the structure that these bytes are.
    #[inline]
    pub fn put(&self, bytes: &mut [u8], value: T, order: Order) {
        if let Some(to) = bytes.get_mut(self.at..) {
            value.write(to, order);
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/layout.rs"));
