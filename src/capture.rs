//! Where events come from: programs, rings and attachments as one thing.
//!
//! Contract: [`Source::open`] returns when everything is attached; from then on
//! no event is missed. However the events are obtained, they leave here as
//! [`Event`]s, in the order of time, and what got lost is asked for here.

pub mod attach;
pub mod decoder;
mod drain;
pub(crate) mod given;
pub mod loss;
mod mixes;
#[cfg(test)]
mod needs;
mod programs;
pub(crate) mod samples;
mod transport;
mod way;
mod ways;

pub use drain::Sink;
pub use transport::Transport;

use crate::bpf::guard::Guard;
use crate::bpf::load::check_capabilities;
use crate::bpf::made::lift_memlock;
use crate::bpf::maps::{Listener, Maps};
use crate::capture::loss::{Elsewhere, Losses};
use crate::capture::samples::Sampler;
use crate::error::{Error, Kind};
use crate::filter::tree::Expr;
use crate::host::timens;
use crate::host::user::User;
use crate::model::ability::Abilities;
use crate::model::loss::{Lost, Reason};
use crate::model::text::cut;
use crate::owner::processes::Processes;
use crate::perf::Rings;
use crate::perf::feed::Feed;
use crate::sandbox::{self, Enforced, Mode, Names, Needs, OutputAccess};
use crate::sys::{self, Errno, time};
use given::Given;
use programs::Programs;
use std::os::fd::{BorrowedFd, RawFd};
use ways::Ways;

/// How often to look for what is missing and for CPUs that came up, in
/// nanoseconds. Each look interrupts every CPU for a moment.
const LOOK: u64 = 1_000_000_000;
/// The same where programs tell of a CPU without a ring when an event comes: it
/// is for tasks alone.
const LOOK_FOR_TASKS: u64 = 5_000_000_000;

/// Said where accepts are not seen. The figure is that of `make bench` on Linux 6.18.
const UNSEEN_ACCEPTS: &str = "note: who accepts a connection is not seen here: --accept-owner tells \
    it from the first read on (about 70 ns a read with BTF)";

/// What is attached in the kernel; all of it is gone when this is dropped.
pub struct Source {
    rings: Rings,
    way: Ways,
    processes: Processes,
    /// What is known of them as they were when an event was held back: nothing.
    past: Processes,
    losses: Losses,
    /// When CPUs were last looked for that came up.
    looked: u64,
    transport: Transport,
    given: Given,
    notes: Vec<String>,
    /// CPUs that were said to have no ring.
    ringless: Vec<u32>,
}

/// How the sandbox is to be.
#[derive(Clone, Debug)]
pub struct Confinement<'a> {
    /// How tightly.
    pub mode: Mode,
    /// The user to become.
    pub user: Option<User>,
    /// Where lines go; the log is to be reopened later.
    pub outputs: OutputAccess<'a>,
    /// Whether sockets are to be received from.
    pub receive: bool,
    /// The process that may be killed later, by its descriptor.
    pub kill: Option<RawFd>,
    /// Whether children are waited for.
    pub wait: bool,
}

/// A source, and why it is none of those that would be better.
type Found = (Source, Option<Error>);

impl Source {
    /// Loads and attaches everything. `buffer` is the ring size in bytes per
    /// CPU, `None` for the default; `transport` the rung to use, `None` for the
    /// first that works; `guard` the user's filter, by which programs keep events
    /// away. [`Source::take_notes`] say which one it is if it is not the
    /// first.
    pub fn open(
        buffer: Option<usize>,
        transport: Option<Transport>,
        wants: Abilities,
        guard: Option<Guard>,
    ) -> Result<Source, Error> {
        timens::align()?;
        let (mut source, why) = match transport {
            Some(Transport::Perf) => (Source::by_samples(buffer, wants)?, None),
            Some(way) => Source::by_programs(buffer, &[way], wants, guard)?,
            None => Source::by_the_first(buffer, wants, guard)?,
        };
        if let Some(why) = source.rings.shortfall() {
            source.notes.push(format!("warning: {why}"));
            source.given.lack(Abilities::RINGS, why);
        } else {
            source.given.gain(Abilities::RINGS);
        }
        if let Some(why) = source.rings.without_news() {
            source.notes.push(format!(
                "note: the owner of a socket may be a process that has ended: {why}"
            ));
        }
        let unseen = source.given.why_not(Abilities::ACCEPTS).is_some();
        let reads = wants.contains(Abilities::READS);
        if unseen && !reads && source.transport != Transport::Perf {
            source.notes.push(UNSEEN_ACCEPTS.into());
        }
        source.notes.extend(source.given.short_of());
        let name = match source.transport {
            Transport::Tracepoint => return Ok(source),
            Transport::Btf => "by BTF",
            Transport::Perf => "by perf samples",
        };
        source.notes.push(match why {
            Some(why) => format!("note: tracing {name}: {why}"),
            None => format!(
                "note: tracing {name} (--transport {})",
                source.transport.name()
            ),
        });
        Ok(source)
    }

    fn by_the_first(
        buffer: Option<usize>,
        wants: Abilities,
        guard: Option<Guard>,
    ) -> Result<Found, Error> {
        // Without the rights to any of them, one line tells of the best one.
        if Transport::LADDER
            .iter()
            .all(|t| t.check_capabilities().is_err())
        {
            Transport::Tracepoint.check_capabilities()?;
        }
        let programs = [Transport::Tracepoint, Transport::Btf];
        Source::by_programs(buffer, &programs, wants, guard).or_else(|first| {
            // A filter that no program has room for.
            if first.kind() == Kind::Usage {
                return Err(first);
            }
            match Source::by_samples(buffer, wants) {
                Ok(source) => Ok((source, Some(first))),
                Err(last) => Err(nor(first, "by perf samples", last)),
            }
        })
    }

    /// By the first of these ways that works.
    fn by_programs(
        buffer: Option<usize>,
        ways: &[Transport],
        wants: Abilities,
        guard: Option<Guard>,
    ) -> Result<Found, Error> {
        check_capabilities(true, ways == [Transport::Tracepoint])?;
        let mut failed: Option<Error> = None;
        let mut rings = Rings::open(buffer, Feed::Programs)?;
        let maps = Maps::create(&rings, guard, wants)?;
        for &transport in ways {
            let loaded = match transport {
                Transport::Btf => attach::by_btf(&maps, wants),
                _ => attach::by_tracefs(&maps, &rings.cpus(), wants),
            };
            match (loaded, failed) {
                (Ok(loaded), failed) => {
                    let given = loaded.given.clone();
                    let ids = loaded.ids.get(..attach::REQUIRED.len());
                    rings.hang_bells(ids.unwrap_or_default());
                    let way = Ways::Programs(Box::new(Programs::new(maps, loaded)));
                    return Ok((Source::new(rings, way, transport, given), failed));
                }
                (Err(error), _) if error.kind() == Kind::Usage => return Err(error),
                (Err(error), None) => failed = Some(error),
                (Err(second), Some(first)) => failed = Some(nor(first, "by BTF", second)),
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(Kind::Usage, "no way to the events was asked for")))
    }

    fn by_samples(buffer: Option<usize>, wants: Abilities) -> Result<Source, Error> {
        Transport::Perf.check_capabilities()?;
        let (sampler, rings) = Sampler::open(buffer)?;
        // A ring for a CPU that comes up later is to need no more rights than
        // it does where programs were tried before.
        let _ = lift_memlock();
        let given = sampler.given(wants);
        Ok(Source::new(
            rings,
            Ways::Samples(Box::new(sampler)),
            Transport::Perf,
            given,
        ))
    }

    fn new(rings: Rings, way: Ways, transport: Transport, given: Given) -> Source {
        let processes = match rings.without_news() {
            Some(_) => Processes::empty(true),
            None => way.processes(),
        };
        Source {
            processes,
            past: Processes::empty(true),
            rings,
            way,
            losses: Losses::default(),
            looked: time::monotonic(),
            transport,
            given,
            notes: Vec::new(),
            ringless: Vec::new(),
        }
    }

    /// The names of the reasons of resets, by number, where they are known.
    pub fn reset_reasons(&self) -> Vec<(u32, String)> {
        self.way.reset_reasons().to_vec()
    }

    /// The way that was taken.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// What this host gives, and what this run goes without.
    pub fn given(&self) -> &Given {
        &self.given
    }

    /// Tells the programs of listeners that were there before them.
    pub fn add_listener(&self, listener: &Listener) -> sys::Result<()> {
        self.way.add_listener(listener)
    }

    /// Takes that back: the listener had gone already.
    pub fn forget_listener(&self, listener: &Listener) {
        self.way.forget_listener(listener);
    }

    /// From here on no event is kept away in the kernel; whether any was.
    pub fn open_guard(&self) -> sys::Result<bool> {
        self.way.open_guard()
    }

    /// This filter is to keep events away from here on, in the steps of
    /// [`Source::step_guard`]; it is to be opened before. Whether it will: else all is
    /// let through.
    pub fn renew_guard(&mut self, expr: &Expr) -> Result<bool, Error> {
        self.way.renew_guard(expr)
    }

    /// Whether [`Source::step_guard`] has something to do.
    pub fn is_renewing(&self) -> bool {
        self.way.is_renewing()
    }

    /// A step that takes some milliseconds; whether the filter is in force now.
    pub fn step_guard(&mut self) -> Result<bool, Error> {
        self.way.step_guard()
    }

    /// Changes of state and retransmissions that the guard has kept away, where there
    /// is one: they are not among the events that come from here.
    pub fn kept_away(&self) -> Option<u64> {
        self.way.kept_away()
    }

    /// Lets the next event wake who waits for the rings; whether it will: see
    /// [`Rings::sleep`].
    pub fn sleep(&mut self) -> bool {
        self.rings.sleep()
    }

    /// Whether a ring is filling up, and should be drained soon.
    pub fn is_filling(&self) -> bool {
        self.rings.is_filling()
    }

    /// What a person should know since the last call, a line each.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Bytes of the ring of each CPU.
    pub fn ring_size(&self) -> usize {
        self.rings.size()
    }

    /// The rings to be waited for, with their CPUs.
    pub fn watched(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        self.rings.watched()
    }

    /// CPUs that have a ring.
    pub fn cpus(&self) -> usize {
        self.rings.iter().len()
    }

    /// Enters the sandbox; see [`sandbox::enter`]. Also returns the names by which the
    /// log has to be opened from here on, where it has. It fails only if the user
    /// can't be had.
    pub fn enter_sandbox(&mut self, how: Confinement<'_>) -> Result<(Enforced, Names), Error> {
        let mode = how.mode;
        if let Some(user) = how.user {
            let log = how.outputs.log.as_ref();
            user.become_it(log.map(|log| (log.file, log.folder)))?;
        }
        if mode != Mode::Off {
            if let Err(errno) = self.way.hand_over() {
                self.notes.push(format!(
                    "warning: names and users of tasks can't be read any more (fork: {errno})"
                ));
            }
        }
        let open_ring = || self.rings.try_another();
        let open_ring: Option<&dyn Fn() -> sys::Result<()>> =
            self.rings.may_grow().then_some(&open_ring);
        // What a ring that is opened later needs.
        let later = self.rings.iter().next();
        let later = later.filter(|_| open_ring.is_some() && mode != Mode::Strict);
        let tell_losses = || {
            self.way.try_losses(later)?;
            match open_ring {
                Some(open_ring) if !self.way.tells_of_cpus() => open_ring(),
                _ => Ok(()),
            }
        };
        let needs = Needs {
            outputs: how.outputs,
            user: how.user.map(|user| user.uid),
            receive: how.receive,
            kill: how.kill,
            wait: how.wait,
            events: &self.rings.events(),
            open_ring,
            tell_losses: &tell_losses,
        };
        Ok(sandbox::enter(mode, &needs))
    }

    /// Detaches: what is in the rings then is all there will be.
    pub fn detach(&mut self) {
        self.way.detach(&self.rings);
    }

    /// Hands out what was lost since the last call; `wall` is the time to give.
    /// A CPU that came up gets a ring: an output that failed tells of it, or a
    /// look once in a while. Returns whether there are new rings to be waited
    /// for.
    pub fn losses(&mut self, wall: u64, tell: &mut dyn FnMut(Lost)) -> bool {
        let mut came = Vec::new();
        // By samples it says nothing of the ring: the kernel took none.
        let tells_of_cpus = self.way.tells_of_cpus();
        let mut note = |lost: Lost| {
            if tells_of_cpus && lost.reason == Reason::OutputFailed {
                came.extend(lost.cpu);
            }
            tell(lost);
        };
        let mut elsewhere = Elsewhere {
            processes: self.processes.refused(),
            ..Elsewhere::default()
        };
        self.way.count(&mut elsewhere);
        let tally = self.way.tally();
        self.losses
            .poll(&self.rings, tally, elsewhere, wall, &mut note);
        let told = came.len();
        let looked = self.look().into_iter();
        let looked: Vec<u32> = looked.filter(|cpu| !came.contains(cpu)).collect();
        came.extend(looked);
        self.rings.release_retired();
        let mut new = false;
        for (at, cpu) in came.into_iter().enumerate() {
            match self.revive(cpu) {
                Ok(()) => new = true,
                // Not up yet, which is no news to who looks once in a while; and
                // no event is known to be missing.
                Err(Errno::ENODEV) if at >= told => {}
                Err(_) if at >= told && tells_of_cpus => {}
                Err(_) if self.ringless.contains(&cpu) => {}
                Err(errno) => {
                    self.ringless.push(cpu);
                    self.notes.push(format!(
                        "warning: CPU {cpu} has no ring ({errno}); its events are lost until a restart"
                    ));
                }
            }
        }
        new
    }

    /// The CPUs that may have come up since the last look, if it is time for
    /// one; by samples it is asked then, too, what is missing.
    fn look(&mut self) -> Vec<u32> {
        let every = match self.way.tells_of_cpus() {
            true => LOOK_FOR_TASKS,
            false => LOOK,
        };
        let now = time::monotonic();
        if now.saturating_sub(self.looked) < every {
            return Vec::new();
        }
        self.looked = now;
        if !self.way.tells_of_cpus() {
            self.rings.count_missing();
        }
        self.rings.without_ring()
    }

    fn revive(&mut self, cpu: u32) -> sys::Result<()> {
        let ring = self.rings.revive(cpu)?;
        if let Some(missing) = self.way.connect(ring)? {
            let note = format!("warning: CPU {cpu} has come up; {missing}");
            self.notes.push(note);
        }
        Ok(())
    }

    /// The processes, as they are after what was handed out last.
    pub fn processes(&self) -> &Processes {
        &self.processes
    }

    /// Events lost so far, as far as handed out.
    pub fn lost(&self) -> u64 {
        self.losses.total()
    }
}

/// Two ways that failed, the first one's kind counting.
fn nor(first: Error, how: &str, second: Error) -> Error {
    let (first_said, second) = (first.to_string(), second.to_string());
    // The same may stand in the way of both.
    let second = match cut(&first_said, &second).is_some() {
        true => "for the same reason",
        false => &second,
    };
    Error::new(first.kind(), format!("{first_said}; nor {how}: {second}"))
}
