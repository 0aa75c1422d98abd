//! Changes of state that were held back, taken without an event of each.
//!
//! Contract: it comes to the same as by [`Connections::observe`], with what is known of
//! processes then, which is nothing, and a change of the same socket that is observed next:
//! whose the connection is at each is not told.

use super::adopt::ask;
use super::connection::Seen;
use super::{Connection, Connections};
use crate::bpf::changes::Changes;
use crate::model::ability::Abilities;
use crate::model::event::What;
use crate::model::tcp::Endpoint;

impl Connections {
    /// Feeds changes to the connection that they belong to; `wall` says what time it was.
    /// The connection. `None` where they are to be taken as events.
    #[inline]
    pub fn take_held(
        &mut self,
        changes: &Changes<'_>,
        wall: &dyn Fn(u64) -> u64,
    ) -> Option<&mut Connection> {
        let card = changes.card;
        let slot = self.by_socket.get(changes.socket)?;
        let connection = &mut self.slots[slot];
        let usual = !connection.seen.intersects(Seen::ENDED | Seen::LISTENER)
            && connection.owner.follows(card.owner.task.pid)
            && self.requests.is_empty()
            && !self.tells.contains(Abilities::DESTROYS);
        if !usual {
            return None;
        }
        let netns = Some(card.netns).filter(|n| *n != 0);
        for (n, change) in changes.each().enumerate() {
            let Some((old, new)) = change.states() else {
                continue;
            };
            let connection = &mut self.slots[slot];
            if n == 0 {
                let local = &Endpoint {
                    addr: card.local,
                    port: change.port(),
                };
                connection.place((local, &card.peer), card.wire, netns);
            } else if change.port() != 0 {
                connection.local.port = change.port();
            }
            let (time, how) = (change.time(), change.how());
            if let Some(how) = how {
                let by = (how, change.has_user());
                connection.owner.learn_held(&card.owner, by, new);
            }
            self.opened_child(slot, What::State { old, new });
            let connection = &mut self.slots[slot];
            let existed = ask(&mut self.existing, connection, time, false);
            self.birth_missed = self.birth_missed.saturating_sub(u64::from(existed));
            connection.change((old, new), how, (time, wall(time)), None);
        }
        Some(&mut self.slots[slot])
    }
}

#[cfg(test)]
mod tests;
