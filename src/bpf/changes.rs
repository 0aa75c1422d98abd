//! Changes of state that the programs held back ([`super::held`]), told of before what they were sent with.
//!
//! Contract: they are told of at once where they are such as nearly all are, and each as
//! an event elsewhere: who is told comes to the same.

use super::cards::{Card, Cards};
use super::held::{Held, place, sent_with};
use super::layout::*;
use super::wire::{DecodeError, source};
use crate::model::ability::Abilities;
use crate::model::event::{Event, OwnerSource};
use crate::model::tcp::State;
use crate::order::{Order, Value};

/// Takes what was held back.
pub trait Tell {
    /// Takes an event, or that it can't be decoded: what is in its place then is none.
    fn event(&mut self, event: &mut Event, read: Result<(), DecodeError>);

    /// Takes changes without an event of each, before a change of the same socket that is
    /// told next. False where it can't: then each is told of as an event.
    fn changes(&mut self, changes: &Changes<'_>) -> bool;
}

/// A change of state that was held back.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a>(&'a [u8; HE_SIZE]);

impl Change<'_> {
    #[inline(always)]
    fn first<T: Value>(self, field: &Field<T>) -> T {
        field.get_behind(EV_VERSION.at - HE_CHANGE.at, self.0, Order::NATIVE)
    }

    #[inline(always)]
    fn rest<T: Value>(self, field: &Field<T>) -> T {
        field.get_behind(EV_FLAGS.at - HE_FLAGS.at, self.0, Order::NATIVE)
    }

    /// When it was, on the event clock.
    #[inline(always)]
    pub fn time(self) -> u64 {
        u64::read(&self.0[HE_TIME.at..], Order::NATIVE)
    }

    /// The states before and after, where it is neither to CLOSE nor of a listener.
    #[inline(always)]
    pub fn states(self) -> Option<(State, State)> {
        let old = living(self.first(&EV_OLDSTATE))?;
        Some((old, living(self.first(&EV_NEWSTATE))?))
    }

    /// The local port.
    #[inline(always)]
    pub fn port(self) -> u16 {
        self.rest(&EV_LOCAL_PORT)
    }

    /// How the owner is known at it, if it is.
    #[inline(always)]
    pub fn how(self) -> Option<OwnerSource> {
        source(self.rest(&EV_HOW))
    }

    /// Whether the owner's user is that of then.
    #[inline(always)]
    pub fn has_user(self) -> bool {
        self.rest(&EV_FLAGS) & FLAG_USER != 0
    }

    /// Whether it is a change of state of which the card is known.
    #[inline(always)]
    fn is_usual(self) -> bool {
        let kind = (self.first(&EV_VERSION), self.first(&EV_KIND));
        let brief = self.rest(&EV_FLAGS) & (FLAG_BRIEF | FLAG_LAST) == FLAG_BRIEF;
        // Such is judged by the processes of then, and not held.
        let judged = self.rest(&EV_HOW) == SOURCE_TAKEN;
        kind == (VERSION, KIND_STATE) && brief && !judged && self.states().is_some()
    }
}

/// The state of this number, where it is that of a connection which has begun.
#[inline(always)]
fn living(number: u8) -> Option<State> {
    let state = State::from_number(number)?;
    (!matches!(state, State::Close | State::Listen)).then_some(state)
}

/// Those that these bytes are.
#[inline(always)]
fn each(bytes: &[u8]) -> impl Iterator<Item = Change<'_>> {
    let all = bytes.chunks_exact(HE_SIZE);
    all.filter_map(|change| change.first_chunk().map(Change))
}

/// Changes of one socket, one at least, and its card.
#[derive(Clone, Copy, Debug)]
pub struct Changes<'a> {
    /// The socket.
    pub(crate) socket: u64,
    /// What belongs to it.
    pub(crate) card: &'a Card,
    all: &'a [u8],
}

impl<'a> Changes<'a> {
    /// How many there are.
    #[inline]
    pub fn count(&self) -> u64 {
        (self.all.len() / HE_SIZE) as u64
    }

    /// Each of them, in order.
    #[inline]
    pub(crate) fn each(&self) -> impl Iterator<Item = Change<'a>> {
        each(self.all)
    }

    /// As [`Event::is_noise`].
    #[inline]
    pub(crate) fn is_noise(&self) -> bool {
        self.card.local.is_unspecified() || self.card.peer.addr.is_unspecified()
    }

    /// Those that come with this change, where they and it are such that they need no
    /// events.
    #[inline]
    fn sent_with(bytes: &'a [u8], cards: &'a mut Cards) -> Option<Changes<'a>> {
        let order = Order::NATIVE;
        let (at, count) = place(order, bytes)?;
        let all = bytes.get(at..)?.get(..count as usize * HE_SIZE)?;
        let usual = EV_KIND.get(bytes, order) == KIND_STATE
            && living(EV_OLDSTATE.get(bytes, order)).is_some()
            && count <= HELD_MOST.into()
            && each(all).all(Change::is_usual);
        let socket = EV_SOCKET.get(bytes, order);
        let card = cards.find(socket).filter(|_| usual)?;
        Some(Changes { socket, card, all })
    }
}

/// Decodes the event of a sample into its place, as [`Event::read_from`] does; those that
/// were held back and come with it are told of before, each in that place if it is told
/// as an event. `at`: when it was and on which CPU.
#[inline]
pub fn decode(
    event: &mut Event,
    at: (u64, u32),
    bytes: &[u8],
    known: Abilities,
    cards: &mut Cards,
    tell: &mut dyn Tell,
) -> Result<(), DecodeError> {
    // Of nearly all it is 0: none is held.
    if EV_TOTAL.get(bytes, Order::NATIVE) != 0 && known.contains(Abilities::HELD) {
        let changes = Changes::sent_with(bytes, cards);
        if !changes.is_some_and(|changes| tell.changes(&changes)) {
            one_by_one(event, at, bytes, known, cards, tell);
        }
    }
    event.read_from(Order::NATIVE, at, bytes, known, cards)
}

#[inline]
fn one_by_one(
    event: &mut Event,
    (_, cpu): (u64, u32),
    bytes: &[u8],
    known: Abilities,
    cards: &mut Cards,
    tell: &mut dyn Tell,
) {
    for held in sent_with(Order::NATIVE, bytes) {
        tell_of(event, held, cpu, known, cards, tell);
    }
}

/// Tells of an event that was held back, in its place.
#[inline]
pub(crate) fn tell_of(
    event: &mut Event,
    (time, head): Held,
    cpu: u32,
    known: Abilities,
    cards: &mut Cards,
    tell: &mut dyn Tell,
) {
    let read = event.read_from(Order::NATIVE, (time, cpu), &head, known, cards);
    tell.event(event, read);
}
