//! A search that nobody wants to hear of: for what a search would go without,
//! and to listen to the kernel alone.

use super::broadcast::Broadcasts;
use super::modules::Modules;
use super::{Limits, Purpose, Sink, Stock, take};
use crate::lifecycle::existing::Existing;
use crate::model::event::Owner;

/// Searches as a run does, with room for so many connections, and forgets what it
/// finds. Afterwards all is as it was before.
pub fn try_out(purpose: Purpose, room: usize, limits: Limits) -> Stock {
    let modules = Modules::now();
    let mut nobody = Nobody {
        room,
        told: 0,
        go_on: &mut || true,
    };
    let stock = take(&mut nobody, true, purpose, limits);
    modules.restore();
    stock
}

/// Listens, in every network namespace that can be entered in time, to what the
/// kernel says of sockets that it destroys. `go_on` is called in between, and
/// says whether to.
pub fn hear(until: u64, go_on: &mut dyn FnMut() -> bool) -> Broadcasts {
    let purpose = Purpose {
        list: false,
        hear: true,
    };
    let limits = Limits {
        list: until,
        owners: until,
    };
    let mut nobody = Nobody {
        room: 0,
        told: 0,
        go_on,
    };
    let stock = take(&mut nobody, true, purpose, limits);
    stock.broadcasts.unwrap_or_default()
}

/// Who takes nothing.
struct Nobody<'a> {
    room: usize,
    told: usize,
    go_on: &'a mut dyn FnMut() -> bool,
}

impl Sink for Nobody<'_> {
    fn connection(&mut self, _: &Existing) -> Option<u32> {
        let number = u32::try_from(self.told).ok();
        self.told += 1;
        number.filter(|_| self.told <= self.room)
    }
    fn owner(&mut self, _: u32, _: &Owner) {}
    fn breathe(&mut self, _: u64) -> bool {
        (self.go_on)()
    }
}
