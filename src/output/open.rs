//! The record of a connection that is still open.
//!
//! Contract: as for the formats it serves: what isn't known is left out.

use super::format::Shape;
use super::keys;
use super::members::{Ids, counted, ends, known, plain, time};
use super::owners::Owners;
use super::{connection, words};
use crate::lifecycle::open::Open;
use crate::model::text::{self, Stamps};
use crate::sys::append::append;

/// The members of the JSON object behind its event.
pub(super) fn json(
    (stamps, owners, ids): (&mut Stamps, &mut Owners, &mut Ids),
    out: &mut Vec<u8>,
    open: &Open,
    now: u64,
) {
    ends(out, (&open.local, &open.peer, open.wire));
    if let Some(state) = open.state {
        plain(out, keys::TCP_STATE_CURRENT, state.name());
    }
    if let Some(of) = open.id {
        ids.append(out, of);
    }
    owners.append(out, open.owner.as_ref(), open.netns);
    plain(out, keys::CONNECTION_DIRECTION, open.direction.name());
    if let Some((wall, _)) = open.start {
        time(out, keys::CONNECTION_START, stamps, wall);
    }
    let (counters, since) = (&open.counters, &open.since);
    let lived = open.start.map(|(_, start)| now.saturating_sub(start));
    let resent = counters.retransmits.map(u64::from);
    known(out, keys::CONNECTION_DURATION_NS, lived);
    known(out, keys::TCP_CONNECT_NS, open.connect);
    known(out, keys::TCP_ACCEPT_DELAY_NS, open.accept_delay);
    known(out, keys::TCP_RETRANSMITS_TOTAL, resent);
    counted(out, counters);
    known(out, keys::INTERVAL_DURATION_NS, since.duration);
    known(out, keys::INTERVAL_BYTES_SENT, since.sent);
    known(out, keys::INTERVAL_BYTES_RECEIVED, since.received);
    known(out, keys::INTERVAL_RETRANSMITS, since.resent);
}

/// `Dec 30 2024 22:05:25.454 Open: SRC=… DST=… PID=… COMM=… …`
pub(super) fn classic(stamps: &mut Stamps, out: &mut Vec<u8>, shape: Shape, open: &Open, now: u64) {
    stamps.local(out, open.wall);
    append(out, b" Open: SRC=");
    text::endpoint(out, &open.local);
    append(out, b" DST=");
    text::endpoint(out, &open.peer);
    words::owner(out, open.owner.as_ref());
    append(out, b" DIRECTION=");
    append(out, open.direction.name().as_bytes());
    if let Some((_, start)) = open.start {
        append(out, b" SECONDS=");
        connection::seconds(out, now.saturating_sub(start));
    }
    let counters = &open.counters;
    words::known(out, " SENT=", counters.bytes_sent);
    words::known(out, " RECEIVED=", counters.bytes_received);
    words::known(out, " RTT_US=", counters.rtt_us.map(u64::from));
    words::known(out, " RETRANSMITS=", counters.retransmits.map(u64::from));
    if let Some(state) = open.state {
        words::state(out, state);
    }
    words::elsewhere(out, shape, open.netns, open.owner.as_ref());
    out.push(b'\n');
}
