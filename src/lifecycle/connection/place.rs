//! Where a connection's ends are, as its events tell it.
//!
//! Contract: what is known is not forgotten where an event tells less.

use super::Connection;
use crate::model::event::Event;
use crate::model::tcp::{Endpoint, Wire};

impl Connection {
    /// Takes what is better known now than before.
    #[inline]
    pub(in crate::lifecycle) fn complete(&mut self, event: &Event) {
        self.place((&event.local, &event.peer), event.wire, event.netns);
        self.owner.tell(event);
    }

    /// Takes its ends and its network namespace.
    #[inline]
    pub(in crate::lifecycle) fn place(
        &mut self,
        (local, peer): (&Endpoint, &Endpoint),
        wire: Wire,
        netns: Option<u32>,
    ) {
        let better = |known: &mut Endpoint, seen: &Endpoint| {
            if known.port == 0 || !seen.addr.is_unspecified() {
                known.addr = seen.addr;
            }
            if seen.port != 0 {
                known.port = seen.port;
            }
        };
        better(&mut self.local, local);
        better(&mut self.peer, peer);
        self.wire = wire;
        self.netns = netns.unwrap_or(self.netns);
    }
}
