//! Changes of state that the programs held back (bpf-asm/held.inc), each as the event that it would have been.
//!
//! Contract: they are handed out in the order in which they were, each with its time, as the bytes of an event without
//! its card. The task that was on the CPU is not known any more, and is told as none.

use super::layout::*;
use crate::order::{Order, Value};

/// An event without its card, and when it was.
pub(crate) type Held = (u64, [u8; EV_HEAD]);

/// Where they stand among the bytes of an event, and how many; `None` where it has none.
#[inline]
pub(super) fn place(order: Order, bytes: &[u8]) -> Option<(usize, u32)> {
    let count = EV_TOTAL.get(bytes, order);
    let brief = EV_FLAGS.get(bytes, order) & FLAG_BRIEF != 0;
    let at = match EV_KIND.get(bytes, order) {
        KIND_HELD => EV_HEAD,
        KIND_STATE if brief => EV_HEAD,
        KIND_STATE => EV_SIZE,
        _ => return None,
    };
    Some((at, count)).filter(|_| count > 0)
}

/// Bytes that stand between the head of an event without its card and its counters.
#[inline]
pub(super) fn before_counters(order: Order, bytes: &[u8]) -> usize {
    match place(order, bytes) {
        Some(_) => HELD_SIZE.into(),
        None => 0,
    }
}

/// Those that were sent with an event, which was after them.
#[inline]
pub(crate) fn sent_with(order: Order, bytes: &[u8]) -> impl Iterator<Item = Held> + '_ {
    let (at, count) = place(order, bytes).unwrap_or_default();
    let socket = EV_SOCKET.get(bytes, order);
    each(order, socket, count, bytes.get(at..).unwrap_or_default())
}

/// Those that wait in the map `owners`.
pub(crate) fn waiting(
    order: Order,
    socket: u64,
    entry: &[u8; OW_HOLDS],
) -> impl Iterator<Item = Held> + '_ {
    each(
        order,
        socket,
        OW_HELD.get(entry, order),
        &entry[OW_CHANGES.at..],
    )
}

#[inline]
fn each(order: Order, socket: u64, count: u32, bytes: &[u8]) -> impl Iterator<Item = Held> + '_ {
    let count = count.min(HELD_MOST.into());
    bytes
        .chunks_exact(HE_SIZE)
        .take(count as usize)
        .map(move |change| {
            let mut head = [0; EV_HEAD];
            EV_SOCKET.put(&mut head, socket, order);
            head[EV_VERSION.at..EV_FLAGS.at].copy_from_slice(&change[HE_CHANGE.at..HE_TIME.at]);
            head[EV_FLAGS.at..].copy_from_slice(&change[HE_FLAGS.at..]);
            (u64::read(&change[HE_TIME.at..], order), head)
        })
}
