//! Events from the programs of bpf-asm/.
//!
//! Contract: what they send is whole, but for what belongs to a socket and was told before: that is filled in here. The
//! owner and the task are in it.

use super::attach::Loaded;
use super::loss::Elsewhere;
use super::way::Way;
use crate::bpf::cards::Cards;
use crate::bpf::changes::{self, Tell};
use crate::bpf::held;
use crate::bpf::layout::{EV_CLOSE_SIZE, EV_COMM_SIZE};
use crate::bpf::maps::{Listener, Maps, OWNERS};
use crate::bpf::tally::Tally;
use crate::bpf::wire::DecodeError;
use crate::error::Error;
use crate::filter::tree::Expr;
use crate::host::proc::Proc;
use crate::model::ability::Abilities;
use crate::model::event::Event;
use crate::order::Order;
use crate::owner::processes::Processes;
use crate::perf::record::Body;
use crate::perf::{Ring, Rings, Sample};
use crate::sys;

/// Programs, and the maps that they share.
#[derive(Debug)]
pub(super) struct Programs {
    maps: Maps,
    loaded: Loaded,
    cards: Cards,
    /// For an event that lies around the end of its ring.
    buffer: [u8; EV_CLOSE_SIZE + EV_COMM_SIZE as usize],
    /// Programs that have the filter that is to be in force, while it is not.
    renewed: Option<usize>,
}

impl Programs {
    /// Those that are attached.
    pub(super) fn new(maps: Maps, loaded: Loaded) -> Programs {
        let cards = Cards::new(OWNERS as usize);
        Programs {
            maps,
            loaded,
            cards,
            buffer: [0; EV_CLOSE_SIZE + EV_COMM_SIZE as usize],
            renewed: None,
        }
    }

    /// Tells of those that are still held back when it has ended.
    #[inline]
    pub(super) fn waiting(&mut self, tell: &mut dyn Tell) {
        let abilities = self.loaded.given.abilities();
        if abilities.contains(Abilities::HELD) {
            let (cards, mut event) = (&mut self.cards, Event::blank());
            self.maps.each_held(&mut |socket, entry| {
                for held in held::waiting(Order::NATIVE, socket, entry) {
                    changes::tell_of(&mut event, held, 0, abilities, cards, tell);
                }
            });
        }
    }
}

impl Way for Programs {
    #[inline]
    fn decode(
        &mut self,
        event: &mut Event,
        sample: &Sample<'_>,
        _processes: &Processes,
        tell: &mut dyn Tell,
    ) -> Result<(), DecodeError> {
        let Body::Sample { data, .. } = sample.body else {
            return Err(DecodeError::Kind);
        };
        let bytes = data.flatten(&mut self.buffer);
        let (abilities, cards) = (self.loaded.given.abilities(), &mut self.cards);
        let at = (sample.time, sample.cpu);
        changes::decode(event, at, bytes, abilities, cards, tell)
    }

    fn reset_reasons(&self) -> &[(u32, String)] {
        &self.loaded.reset_reasons
    }

    fn processes(&self) -> Processes {
        // Programs tell the kernel's ids, whatever namespace this is.
        Processes::open(Proc::open().as_ref(), true)
    }

    fn detach(&mut self, _rings: &Rings) {
        self.loaded.detach(self.maps.tally());
    }

    fn add_listener(&self, listener: &Listener) -> sys::Result<()> {
        self.maps.add_listener(listener)
    }

    fn forget_listener(&self, listener: &Listener) {
        self.maps.forget_listener(listener);
    }

    fn open_guard(&self) -> sys::Result<bool> {
        self.maps
            .guarded()
            .map_or(Ok(false), |guarded| guarded.open())
    }

    fn renew_guard(&mut self, expr: &Expr) -> Result<bool, Error> {
        self.renewed = None;
        if self.maps.renew_guard(expr)? {
            self.renewed = Some(0);
        }
        Ok(self.is_renewing())
    }

    fn is_renewing(&self) -> bool {
        self.renewed.is_some()
    }

    fn step_guard(&mut self) -> Result<bool, Error> {
        let Some(done) = self.renewed.take() else {
            return Ok(false);
        };
        if let Some(program) = self.loaded.programs.get_mut(done) {
            program.renew(&self.maps)?;
            self.renewed = Some(done + 1);
            return Ok(false);
        }
        self.maps.close_guard()?;
        Ok(true)
    }

    fn kept_away(&self) -> Option<u64> {
        self.maps.guard().map(|_| self.maps.tally().kept())
    }

    fn try_losses(&self, connect: Option<&Ring>) -> sys::Result<()> {
        self.maps.tally().readable()?;
        self.loaded.may_ask()?;
        connect.map_or(Ok(()), |ring| self.maps.connect(ring))
    }

    fn tally(&self) -> Option<&Tally> {
        Some(self.maps.tally())
    }

    fn count(&self, elsewhere: &mut Elsewhere) {
        elsewhere.skipped = self.loaded.skipped(self.maps.tally());
        elsewhere.cards = self.cards.missing();
    }

    fn tells_of_cpus(&self) -> bool {
        true
    }

    fn connect(&self, ring: &Ring) -> sys::Result<Option<&'static str>> {
        self.maps.connect(ring).map(|()| None)
    }
}
