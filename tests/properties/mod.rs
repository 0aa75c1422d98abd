//! What must hold whatever comes from outside: for the fuzz targets in fuzz/
//! and for tests/properties.rs.
//!
//! Contract: each property takes any bytes, comes to an end, and panics where it
//! does not hold.

// The fuzz targets use one each.
#![allow(dead_code, reason = "no test uses all of it")]

mod guard;
mod lives;
mod parsing;
#[path = "../common/programs.rs"]
mod programs;
mod ring;
#[path = "../common/verifier.rs"]
mod verifier;

pub use guard::guard;
pub use lives::lives;
pub use parsing::{btf, command_line, diag, filter, formats, surroundings};
pub use ring::ring;

/// A property.
pub type Property = fn(&[u8]);

/// All of them, by the names of their fuzz targets.
pub const ALL: [(&str, Property); 9] = [
    ("formats", formats),
    ("btf", btf),
    ("ring", ring),
    ("diag", diag),
    ("surroundings", surroundings),
    ("command_line", command_line),
    ("guard", guard),
    ("lives", lives),
    ("filter", filter),
];

/// Hands out bytes as numbers; zeros at the end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    fn half(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn word(&mut self) -> u32 {
        u32::from(self.half()) | u32::from(self.half()) << 16
    }

    fn long(&mut self) -> u64 {
        u64::from(self.word()) | u64::from(self.word()) << 32
    }

    /// One of the numbers that matter, or any.
    fn time(&mut self) -> u64 {
        match self.byte() {
            0 => 0,
            1 => u64::MAX,
            2 => u64::MAX - u64::from(self.byte()),
            3 => self.long(),
            _ => u64::from(self.word()),
        }
    }
}
