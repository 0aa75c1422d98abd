//! Where events come from: programs, rings and attachments as one thing.
//!
//! Contract: [`Source::open`] returns when everything is attached; from then on
//! no event is missed. However the events are obtained, they leave here as
//! [`Event`]s, in the order of time, and what got lost is asked for here.

use crate::btf::Btf;
use crate::error::{Error, Kind};
use crate::event::{Event, Known};
use crate::loss::Losses;
use crate::output::{Lost, Reason, notice};
use crate::perf::{Ring, Rings, Sample};
use crate::program::{Extras, Maps, Program, Target, check_capabilities};
use crate::programs;
use crate::sandbox::{self, Enforced, LogAccess, Mode, Needs};
use crate::sys;
use crate::tracepoint::{Attached, TraceFs};
use crate::wire::{DecodeError, WIRE_CLOSE_LEN};
use std::ffi::CStr;
use std::os::fd::AsFd;

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

/// What is attached in the kernel; all of it is gone when this is dropped.
#[derive(Debug)]
pub struct Source {
    rings: Rings,
    maps: Maps,
    programs: Vec<Program>,
    attached: Vec<Attached>,
    losses: Losses,
    /// CPUs that were said to have no ring.
    ringless: Vec<u32>,
    known: Known,
}

impl Source {
    /// Loads and attaches everything. `buffer` is the ring size in bytes per
    /// CPU, `None` for the default; `transport` the rung to use, `None` for the
    /// first that works. Says which one it is if it is not the first.
    pub fn open(buffer: Option<usize>, transport: Option<Transport>) -> Result<Source, Error> {
        if transport == Some(Transport::Perf) {
            return Err(Error::new(
                Kind::Unsupported,
                "plain perf samples are not among what this version can do; leave out --transport",
            ));
        }
        check_capabilities(transport == Some(Transport::Tracepoint))?;
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
        let (programs, attached) = match transport {
            Some(Transport::Btf) => {
                let all = by_btf(&maps)?;
                notice("note: tracing by BTF (--transport btf)");
                all
            }
            Some(_) => by_tracefs(&maps, &rings.cpus())?,
            None => by_tracefs(&maps, &rings.cpus()).or_else(|first| match by_btf(&maps) {
                Ok(all) => {
                    notice(&format!("note: tracing by BTF: {first}"));
                    Ok(all)
                }
                Err(second) => Err(Error::new(
                    first.kind(),
                    format!("{first}; nor by BTF: {second}"),
                )),
            })?,
        };
        // The first program is that of the state changes, which reads most.
        let known = programs.first().map_or(Known::empty(), Program::known);
        Ok(Source {
            known,
            rings,
            maps,
            programs,
            attached,
            losses: Losses::default(),
            ringless: Vec::new(),
        })
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
        self.attached.clear();
    }

    /// Hands out every event older than `until` (CLOCK_MONOTONIC, nanoseconds)
    /// in the order of time, until `sink` returns false. Returns whether events
    /// are left.
    pub fn drain(&mut self, until: u64, sink: &mut dyn FnMut(&Event) -> bool) -> bool {
        let (losses, known) = (&mut self.losses, self.known);
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
        self.losses
            .poll(&self.rings, &self.maps, &self.programs, wall, &mut note);
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

/// Programs, and what keeps them attached.
type Loaded = (Vec<Program>, Vec<Attached>);

fn by_tracefs(maps: &Maps, cpus: &[u32]) -> Result<Loaded, Error> {
    let tracefs = TraceFs::open()?;
    let btf = Btf::of_kernel().ok();
    let extras = Extras {
        members: btf.as_ref(),
        cgroup: true,
    };
    let (mut programs, mut attached) = (Vec::new(), Vec::new());
    for template in [&programs::STATE, &programs::RETRANSMIT] {
        let tracepoint = tracefs.event(template.group, template.event)?;
        let program = Program::load(template, Target::Record(&tracepoint), maps, extras)?;
        attached.push(tracepoint.attach(program.as_fd(), cpus)?);
        programs.push(program);
    }
    Ok((programs, attached))
}

fn by_btf(maps: &Maps) -> Result<Loaded, Error> {
    let btf = Btf::of_kernel()?;
    let extras = Extras {
        members: Some(&btf),
        cgroup: true,
    };
    let (mut programs, mut attached) = (Vec::new(), Vec::new());
    for template in [&programs::STATE_BTF, &programs::RETRANSMIT_BTF] {
        let what = format!("{}:{}", template.group, template.event);
        let tracepoint = btf.tracepoint(template.event).ok_or_else(|| {
            Error::new(
                Kind::Unsupported,
                format!(
                    "the BTF of this kernel has no tracepoint {what}; it needs Linux 5.9 or later"
                ),
            )
        })?;
        let program = Program::load(template, Target::Arguments(&tracepoint), maps, extras)?;
        attached.push(program.attach(&what)?);
        programs.push(program);
    }
    Ok((programs, attached))
}

fn decode(sample: Sample<'_>, known: Known) -> Result<Event, DecodeError> {
    let mut buffer = [0; WIRE_CLOSE_LEN];
    let bytes = sample.data.flatten(&mut buffer);
    Event::decode(sample.time, sample.cpu, bytes, known)
}
