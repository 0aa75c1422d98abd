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
use crate::perf::feed::Feed;
use crate::perf::record::Body;
use crate::perf::{Ring, Rings, Sample};
use crate::program::{Extras, Maps, Program, Target, check_capabilities};
use crate::programs;
use crate::sampler::Sampler;
use crate::sys::{self, Errno};
use crate::tracepoint::{Attached, TraceFs};
use crate::wire::{DecodeError, WIRE_CLOSE_LEN};
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

impl Transport {
    /// Its name on the command line and in the output.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tracepoint => "tracepoint",
            Transport::Btf => "btf",
            Transport::Perf => "perf",
        }
    }

    fn check_capabilities(self) -> Result<(), Error> {
        check_capabilities(self != Transport::Perf, self != Transport::Btf)
    }
}

/// What is attached in the kernel; all of it is gone when this is dropped.
#[derive(Debug)]
pub struct Source {
    rings: Rings,
    transport: Transport,
    way: Way,
    losses: Losses,
}

/// How the rings are filled.
#[derive(Debug)]
enum Way {
    /// By programs.
    Programs(Programs),
    /// By the tracepoints themselves.
    Samples(Box<Sampler>),
}

#[derive(Debug)]
struct Programs {
    maps: Maps,
    programs: Vec<Program>,
    attached: Vec<Attached>,
    known: Known,
}

impl Source {
    /// Loads and attaches everything. `buffer` is the ring size in bytes per
    /// CPU, `None` for the default; `transport` the rung to use, `None` for the
    /// first that works. Says which one it is if it is not the first.
    pub fn open(buffer: Option<usize>, transport: Option<Transport>) -> Result<Source, Error> {
        let (source, why) = match transport {
            Some(transport) => {
                transport.check_capabilities()?;
                let source = match transport {
                    Transport::Perf => Source::by_samples(buffer)?,
                    _ => Source::by_programs(buffer, &[transport])?.0,
                };
                (source, format!("(--transport {})", transport.name()))
            }
            None => Source::first_that_works(buffer)?,
        };
        let (size, wanted) = (source.rings.size(), source.rings.wanted());
        if size < wanted {
            notice(&format!(
                "warning: rings of {} KiB per CPU instead of {} KiB: locked memory is limited; \
                 raise kernel.perf_event_mlock_kb or give CAP_IPC_LOCK",
                size / 1024,
                wanted / 1024
            ));
        }
        match source.transport {
            Transport::Tracepoint => {}
            Transport::Btf => notice(&format!("note: tracing by BTF {why}")),
            Transport::Perf => notice(&format!("note: tracing by plain perf samples {why}")),
        }
        Ok(source)
    }

    /// Also says why it isn't the first, where it isn't.
    fn first_that_works(buffer: Option<usize>) -> Result<(Source, String), Error> {
        let all = [Transport::Tracepoint, Transport::Btf, Transport::Perf];
        // Without the rights to any of them, one line tells of the best one.
        if !all.iter().any(|t| t.check_capabilities().is_ok()) {
            Transport::Tracepoint.check_capabilities()?;
        }
        Source::by_programs(buffer, &all[..2]).or_else(|first| {
            match Source::by_samples(buffer) {
                Ok(source) => Ok((source, format!("({first})"))),
                Err(last) => {
                    let (first_said, last) = (first.to_string(), last.to_string());
                    // The same may stand in the way of both.
                    let last = match first_said.contains(&last) {
                        true => "for the same reason",
                        false => &last,
                    };
                    let message = format!("{first_said}; nor by plain perf samples: {last}");
                    Err(Error::new(first.kind(), message))
                }
            }
        })
    }

    /// By the first of these ways that works, and why not by those before it.
    fn by_programs(buffer: Option<usize>, ways: &[Transport]) -> Result<(Source, String), Error> {
        // What must hold for any of them.
        check_capabilities(true, false)?;
        let rings = Rings::open(buffer, Feed::Programs)?;
        let maps = Maps::create(&rings)?;
        let mut failed: Option<Error> = None;
        for &transport in ways {
            let loaded = transport
                .check_capabilities()
                .and_then(|()| match transport {
                    Transport::Btf => by_btf(&maps),
                    _ => by_tracefs(&maps, &rings.cpus()),
                });
            match (loaded, failed) {
                (Ok((programs, attached)), failed) => {
                    // The first program is that of the state changes, which
                    // reads most.
                    let known = programs.first().map_or(Known::empty(), Program::known);
                    let programs = Programs {
                        maps,
                        programs,
                        attached,
                        known,
                    };
                    let source = Source {
                        rings,
                        transport,
                        way: Way::Programs(programs),
                        losses: Losses::default(),
                    };
                    return Ok((source, failed.map_or(String::new(), |e| format!("({e})"))));
                }
                (Err(error), None) => failed = Some(error),
                (Err(second), Some(first)) => {
                    let message = format!("{first}; nor by BTF: {second}");
                    failed = Some(Error::new(first.kind(), message));
                }
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(Kind::Usage, "no way to trace was asked for")))
    }

    fn by_samples(buffer: Option<usize>) -> Result<Source, Error> {
        Transport::Perf.check_capabilities()?;
        let (sampler, rings) = Sampler::open(buffer)?;
        Ok(Source {
            rings,
            transport: Transport::Perf,
            way: Way::Samples(Box::new(sampler)),
            losses: Losses::default(),
        })
    }

    /// The rung in use.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The rings, to be waited for.
    pub fn rings(&self) -> std::slice::Iter<'_, Ring> {
        self.rings.iter()
    }

    /// Detaches: what is in the rings then is all there will be.
    pub fn detach(&mut self) {
        match &mut self.way {
            Way::Programs(programs) => programs.attached.clear(),
            Way::Samples(_) => {
                // A CPU that has gone has taken its tracepoints with it.
                let _ = self.rings.switch(false);
                self.rings.count_lost();
            }
        }
    }

    /// Hands out every event older than `until` (CLOCK_MONOTONIC, nanoseconds)
    /// in the order of time, until `sink` returns false. Returns whether events
    /// are left.
    pub fn drain(&mut self, until: u64, sink: &mut dyn FnMut(&Event) -> bool) -> bool {
        let (losses, way) = (&mut self.losses, &mut self.way);
        self.rings.drain(until, &mut |sample| {
            let decoded = match way {
                Way::Programs(programs) => decode(sample, programs.known).map(Some),
                Way::Samples(sampler) => sampler.decode(sample),
            };
            match decoded {
                Ok(Some(event)) => sink(&event),
                Ok(None) => true,
                Err(_) => {
                    losses.undecodable();
                    true
                }
            }
        })
    }

    /// Hands out what was lost since the last call; `wall` is the time to give.
    /// A CPU that came up gets a ring: an output that failed tells of it, or a
    /// look once in a while. Returns whether there are new rings to be waited
    /// for.
    pub fn losses(&mut self, wall: u64, tell: &mut dyn FnMut(Lost)) -> bool {
        let mut came = Vec::new();
        let mut note = |lost: Lost| {
            if lost.reason == Reason::OutputFailed {
                came.extend(lost.cpu);
            }
            tell(lost);
        };
        let (unsent, skipped) = match &mut self.way {
            Way::Programs(Programs { maps, programs, .. }) => {
                let skipped = programs.iter().map(Program::recursion_misses).sum();
                (maps.unsent(), skipped)
            }
            Way::Samples(_) => (Vec::new(), 0),
        };
        self.losses
            .poll(&self.rings, &unsent, skipped, wall, &mut note);
        if let Way::Samples(sampler) = &mut self.way {
            came = sampler.came(&mut self.rings);
        }
        let mut new = false;
        for cpu in came {
            match self.revive(cpu) {
                Ok(revived) => new |= revived,
                Err(errno) => notice(&format!(
                    "warning: CPU {cpu} has no ring ({errno}); its events are lost until a restart"
                )),
            }
        }
        new
    }

    fn revive(&mut self, cpu: u32) -> sys::Result<bool> {
        let new = match (self.rings.revive(cpu), &self.way) {
            // Not up yet, which is no news here.
            (Err(Errno::ENODEV), Way::Samples(_)) => false,
            (result, _) => result?,
        };
        if let (true, Some(ring)) = (new, self.rings.of(cpu)) {
            match &self.way {
                Way::Programs(programs) => programs.maps.connect(ring)?,
                Way::Samples(_) => notice(&format!(
                    "warning: CPU {cpu} has come up; up to a second of its events is missing"
                )),
            }
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
    let Body::Sample { data, .. } = sample.body else {
        return Err(DecodeError::Kind);
    };
    let bytes = data.flatten(&mut buffer);
    Event::decode(sample.time, sample.cpu, bytes, known)
}
