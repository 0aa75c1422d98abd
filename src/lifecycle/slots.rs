//! The places of connections.
//!
//! Contract: a place is called by its number, which is one of those that were given.

use super::connection::Connection;
use std::ops::{Deref, DerefMut, Index, IndexMut};

/// All places.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<Connection>);

impl Index<u32> for Slots {
    type Output = Connection;

    // Else it is a call each time.
    #[inline(always)]
    fn index(&self, slot: u32) -> &Connection {
        &self.0.as_slice()[slot as usize]
    }
}

impl IndexMut<u32> for Slots {
    #[inline(always)]
    fn index_mut(&mut self, slot: u32) -> &mut Connection {
        &mut self.0.as_mut_slice()[slot as usize]
    }
}

impl Deref for Slots {
    type Target = Vec<Connection>;

    fn deref(&self) -> &Vec<Connection> {
        &self.0
    }
}

impl DerefMut for Slots {
    #[inline]
    fn deref_mut(&mut self) -> &mut Vec<Connection> {
        &mut self.0
    }
}
