//! Where events come from: programs, rings and attachments as one thing.
//!
//! Contract: [`Source::open`] returns when everything is attached; from then on
//! no event is missed. However the events are obtained, they leave here as
//! [`Event`]s, in the order of time, and what got lost is asked for here.

use crate::error::Error;
use crate::event::{DecodeError, Event, WIRE_LEN};
use crate::loss::Losses;
use crate::output::{Lost, notice};
use crate::perf::{Ring, Rings, Sample};
use crate::program::{Maps, Program, check_capabilities};
use crate::programs;
use crate::tracepoint::{Attached, TraceFs};
use std::os::fd::AsFd;

/// What is attached in the kernel; all of it is gone when this is dropped.
#[derive(Debug)]
pub struct Source {
    rings: Rings,
    maps: Maps,
    programs: Vec<Program>,
    attached: Vec<Attached>,
    losses: Losses,
}

impl Source {
    /// Loads and attaches everything. `buffer` is the ring size in bytes per
    /// CPU, `None` for the default.
    pub fn open(buffer: Option<usize>) -> Result<Source, Error> {
        check_capabilities()?;
        let tracefs = TraceFs::open()?;
        let rings = Rings::open(buffer)?;
        if rings.size() < rings.wanted() {
            notice(&format!(
                "warning: rings of {} KiB per CPU instead of {} KiB: locked memory is limited; \
                 raise kernel.perf_event_mlock_kb or give CAP_IPC_LOCK",
                rings.size() / 1024,
                rings.wanted() / 1024
            ));
        }
        let maps = Maps::create(&rings)?;
        let cpus = rings.cpus();
        let mut programs = Vec::new();
        let mut attached = Vec::new();
        for template in [&programs::STATE, &programs::RETRANSMIT] {
            let tracepoint = tracefs.event(template.group, template.event)?;
            let program = Program::load(template, &tracepoint, &maps)?;
            attached.push(tracepoint.attach(program.as_fd(), &cpus)?);
            programs.push(program);
        }
        Ok(Source {
            rings,
            maps,
            programs,
            attached,
            losses: Losses::default(),
        })
    }

    /// The rings, to be waited for.
    pub fn rings(&self) -> std::slice::Iter<'_, Ring> {
        self.rings.iter()
    }

    /// Detaches: what is in the rings then is all there will be.
    pub fn detach(&mut self) {
        self.attached.clear();
    }

    /// Hands out every event older than `until` (CLOCK_MONOTONIC, nanoseconds)
    /// in the order of time, until `sink` returns false. Returns whether events
    /// are left.
    pub fn drain(&mut self, until: u64, sink: &mut dyn FnMut(&Event) -> bool) -> bool {
        let losses = &mut self.losses;
        self.rings.drain(until, &mut |sample| match decode(sample) {
            Ok(event) => sink(&event),
            Err(_) => {
                losses.undecodable();
                true
            }
        })
    }

    /// Hands out what was lost since the last call; `wall` is the time to give.
    pub fn losses(&mut self, wall: u64, tell: &mut dyn FnMut(Lost)) {
        self.losses
            .poll(&self.rings, &self.maps, &self.programs, wall, tell);
    }

    /// Events lost so far, as far as handed out.
    pub fn lost(&self) -> u64 {
        self.losses.total()
    }
}

fn decode(sample: Sample<'_>) -> Result<Event, DecodeError> {
    let mut buffer = [0; WIRE_LEN];
    Event::decode(sample.time, sample.cpu, sample.data.flatten(&mut buffer))
}
