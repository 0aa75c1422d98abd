//! Where events come from: programs, rings and attachments as one thing.
//!
//! Contract: [`Source::open`] returns when everything is attached; from then on
//! no event is missed. However the events are obtained, they leave here as
//! [`Event`]s, in the order of time, and what got lost is asked for here.

use crate::attach::{self, Loaded, Part, Wants};
use crate::error::{Error, Kind};
use crate::event::{Event, Known};
use crate::loss::Losses;
use crate::maps::Maps;
use crate::output::{Lost, Reason, notice};
use crate::perf::{Ring, Rings, Sample};
use crate::program::check_capabilities;
use crate::sandbox::{self, Enforced, LogAccess, Mode, Needs};
use crate::sys;
use crate::wire::{DecodeError, WIRE_CLOSE_LEN};
use std::ffi::CStr;

/// How the events are obtained: the rungs of a ladder, the first one best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// BPF programs on the tracepoints of tracefs.
    Tracepoint,
    /// BPF programs on the same tracepoints by BTF, where tracefs is refused or
    /// empty (lockdown=confidentiality).
    Btf,
    /// Plain perf samples of the tracepoints, where bpf(2) is refused.
    Perf,
}

impl Transport {
    /// The rungs, the best first.
    pub const LADDER: [Transport; 2] = [Transport::Tracepoint, Transport::Btf];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tracepoint => "tracepoint",
            Transport::Btf => "btf",
            Transport::Perf => "perf",
        }
    }
}

/// What is attached in the kernel; all of it is gone when this is dropped.
#[derive(Debug)]
pub struct Source {
    rings: Rings,
    maps: Maps,
    loaded: Loaded,
    losses: Losses,
    transport: Transport,
    absent: Vec<(Part, Error)>,
    notes: Vec<String>,
    /// CPUs that were said to have no ring.
    ringless: Vec<u32>,
}

impl Source {
    /// Loads and attaches everything. `buffer` is the ring size in bytes per
    /// CPU, `None` for the default; `transport` the rung to use, `None` for the
    /// first that works. [`Source::notes`] say which one it is if it is not the
    /// first.
    pub fn open(
        buffer: Option<usize>,
        transport: Option<Transport>,
        wants: Wants,
    ) -> Result<Source, Error> {
        if transport == Some(Transport::Perf) {
            return Err(Error::new(
                Kind::Unsupported,
                "plain perf samples are not among what this version can do; leave out --transport",
            ));
        }
        check_capabilities(transport == Some(Transport::Tracepoint))?;
        let rings = Rings::open(buffer)?;
        let (mut absent, mut notes) = (Vec::new(), Vec::new());
        if let Some(why) = rings.shortfall() {
            notes.push(format!("warning: {why}"));
            absent.push((Part::Rings, why));
        }
        let maps = Maps::create(&rings)?;
        let by_tracefs = || attach::by_tracefs(&maps, &rings.cpus(), wants);
        let by_btf = || attach::by_btf(&maps, wants);
        let (transport, mut loaded) = match transport {
            Some(Transport::Btf) => {
                notes.push("note: tracing by BTF (--transport btf)".into());
                (Transport::Btf, by_btf()?)
            }
            Some(_) => (Transport::Tracepoint, by_tracefs()?),
            None => match by_tracefs() {
                Ok(all) => (Transport::Tracepoint, all),
                Err(first) => {
                    let all = by_btf().map_err(|second| {
                        Error::new(first.kind(), format!("{first}; nor by BTF: {second}"))
                    })?;
                    notes.push(format!("note: tracing by BTF: {first}"));
                    (Transport::Btf, all)
                }
            },
        };
        absent.append(&mut loaded.absent);
        Ok(Source {
            rings,
            maps,
            loaded,
            losses: Losses::default(),
            transport,
            absent,
            notes,
            ringless: Vec::new(),
        })
    }

    /// The way that was taken.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// What this run goes without, and why.
    pub fn absent(&self) -> &[(Part, Error)] {
        &self.absent
    }

    /// What a person should know from the start, a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Bytes of the ring of each CPU.
    pub fn ring_size(&self) -> usize {
        self.rings.size()
    }

    /// The rings, to be waited for.
    pub fn rings(&self) -> std::slice::Iter<'_, Ring> {
        self.rings.iter()
    }

    /// Shuts the doors; see [`sandbox::shut`]. `log` is to be reopened later, by
    /// the name returned, where one is.
    pub fn shut_doors(
        &mut self,
        mode: Mode,
        log: Option<LogAccess<'_>>,
    ) -> (Enforced, Option<&'static CStr>) {
        let open_ring = || self.rings.try_another();
        let (enforced, pinned) = sandbox::shut(
            mode,
            &Needs {
                log,
                ring: self.rings.attr(),
                open_ring: self.rings.may_grow().then_some(&open_ring),
                read_counters: &|| self.maps.readable(),
            },
        );
        if let Some(attr) = pinned.ring {
            self.rings.pin(attr);
        }
        (enforced, pinned.name)
    }

    /// Detaches: what is in the rings then is all there will be.
    pub fn detach(&mut self) {
        self.loaded.attached.clear();
    }

    /// Hands out every event older than `until` (CLOCK_MONOTONIC, nanoseconds)
    /// in the order of time, until `sink` returns false. Returns whether events
    /// are left.
    pub fn drain(&mut self, until: u64, sink: &mut dyn FnMut(&Event) -> bool) -> bool {
        let (losses, known) = (&mut self.losses, self.loaded.known);
        self.rings
            .drain(until, &mut |sample| match decode(sample, known) {
                Ok(event) => sink(&event),
                Err(_) => {
                    losses.undecodable();
                    true
                }
            })
    }

    /// Hands out what was lost since the last call; `wall` is the time to give.
    /// An output that failed may mean that a CPU came up: it gets a ring.
    /// Returns whether there are new rings to be waited for.
    pub fn losses(&mut self, wall: u64, tell: &mut dyn FnMut(Lost)) -> bool {
        let mut failing = Vec::new();
        let mut note = |lost: Lost| {
            if lost.reason == Reason::OutputFailed {
                failing.extend(lost.cpu);
            }
            tell(lost);
        };
        self.losses.poll(
            &self.rings,
            &self.maps,
            &self.loaded.programs,
            wall,
            &mut note,
        );
        let mut new = false;
        for cpu in failing {
            match self.revive(cpu) {
                Ok(revived) => new |= revived,
                Err(_) if self.ringless.contains(&cpu) => {}
                Err(errno) => {
                    self.ringless.push(cpu);
                    notice(&format!(
                        "warning: CPU {cpu} has no ring ({errno}); its events are lost until a restart"
                    ));
                }
            }
        }
        new
    }

    fn revive(&mut self, cpu: u32) -> sys::Result<bool> {
        let new = self.rings.revive(cpu)?;
        if let (true, Some(ring)) = (new, self.rings.of(cpu)) {
            self.maps.connect(ring)?;
        }
        Ok(new)
    }

    /// Events lost so far, as far as handed out.
    pub fn lost(&self) -> u64 {
        self.losses.total()
    }
}

fn decode(sample: Sample<'_>, known: Known) -> Result<Event, DecodeError> {
    let mut buffer = [0; WIRE_CLOSE_LEN];
    let bytes = sample.data.flatten(&mut buffer);
    Event::decode(sample.time, sample.cpu, bytes, known)
}
