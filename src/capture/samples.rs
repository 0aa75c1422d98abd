//! Events from plain perf samples of the tracepoints, where no program may be
//! loaded: what the programs of bpf-asm/ do in the kernel is done here.
//!
//! Contract: samples are given in the order of time. An event has the task that
//! was on the CPU, with a name only where it is known, and the owner as far as
//! the events tell.

use crate::bpf::changes::Tell;
use crate::bpf::wire::DecodeError;
use crate::capture::attach::{REQUIRED, too_old};
use crate::capture::decoder::Decoder;
use crate::capture::given::Given;
use crate::capture::loss::Elsewhere;
use crate::capture::way::Way;
use crate::error::{Error, Kind};
use crate::model::ability::Abilities;
use crate::model::event::Event;
use crate::owner::learned::Owners;
use crate::owner::processes::Processes;
use crate::owner::tasks::Tasks;
use crate::perf::feed::Feed;
use crate::perf::record::{Body, News};
use crate::perf::{Ring, Rings, Sample};
use crate::programs::{self, Assembled, Name};
use crate::sys;
use crate::tracepoint::TraceFs;

/// The tracepoints that a run can do without; each by the program whose fields
/// are read.
const OPTIONAL: [(Abilities, Name); 3] = [
    (Abilities::SYNACKS, programs::SYNACK),
    (Abilities::RESETS_SENT, programs::RESET_SENT),
    (Abilities::RESETS_RECEIVED, programs::RESET_RECEIVED),
];

/// What no sample tells.
pub(super) const UNTOLD: [Abilities; 6] = [
    Abilities::ACCEPTS,
    Abilities::NETNS,
    Abilities::PARENT,
    Abilities::CGROUP,
    Abilities::SOCKET_ERROR,
    Abilities::COUNTERS,
];

/// What turns samples into events.
#[derive(Debug)]
pub(super) struct Sampler {
    decoder: Decoder,
    tasks: Tasks,
    owners: Owners,
    /// For a record that wraps around its ring's end.
    buffer: Vec<u8>,
    /// What this host has of [`OPTIONAL`] and [`Abilities::DESTROYS`], and why not.
    given: Given,
    reset_reasons: Vec<(u32, String)>,
}

impl Sampler {
    /// Opens rings that the tracepoints sample into; see [`Rings::open`] for
    /// `buffer`. From now on no event is missed.
    pub(super) fn open(buffer: Option<usize>) -> Result<(Sampler, Rings), Error> {
        let tracefs = TraceFs::open()?;
        let mut decoder = Decoder::default();
        let mut ids = Vec::new();
        let programs = Assembled::unpack()?;
        let mut add = |name| {
            let template = programs.get(name)?;
            let tracepoint = tracefs.event(&template.group, &template.event)?;
            decoder.add(&tracepoint, &template)?;
            ids.push(tracepoint.id);
            Ok(())
        };
        for [template, _] in REQUIRED {
            add(template)?;
        }
        let mut given = Given::default();
        for (ability, template) in OPTIONAL {
            given.note(ability, add(template).err());
        }
        given.note(Abilities::DESTROYS, add(programs::DESTROY).err());
        let rings = Rings::open(buffer, Feed::tracepoints(ids, decoder.longest()))?;
        // What becomes of tasks is recorded already.
        let tasks = Tasks::open();
        rings.switch(true)?;
        let sampler = Sampler {
            buffer: vec![0; decoder.longest() + 8],
            decoder,
            tasks,
            owners: Owners::default(),
            given,
            reset_reasons: tracefs.symbols("tcp", "tcp_send_reset", "reason"),
        };
        Ok((sampler, rings))
    }

    /// What this way gives, and what it goes without.
    pub(super) fn given(&self, wants: Abilities) -> Given {
        let mut given = self.given.clone();
        let old = |tells: bool, ability| (!tells).then(|| too_old(ability));
        let ability = Abilities::FAILED_RETRANSMISSIONS;
        given.note(ability, old(self.decoder.tells_failures(), ability));
        if given.has(Abilities::RESETS_SENT) {
            let ability = Abilities::RESET_REASONS;
            given.note(ability, old(self.decoder.tells_reasons(), ability));
        }
        // How often it was passed by is asked of each tracepoint.
        given.gain(Abilities::MISSES);
        for ability in UNTOLD.into_iter().chain([wants & Abilities::READS]) {
            if ability.is_empty() {
                continue;
            }
            let why = "perf samples do not tell it";
            let error = Error::new(Kind::Unsupported, why).advise("allow bpf(2)");
            given.lack(ability, error);
        }
        if let Some(why) = given.why_not(Abilities::DESTROYS).cloned() {
            given.no_counters(why);
        }
        given
    }
}

impl Way for Sampler {
    fn decode(
        &mut self,
        event: &mut Event,
        sample: &Sample<'_>,
        processes: &Processes,
        _held: &mut dyn Tell,
    ) -> Result<(), DecodeError> {
        let (task, data) = match sample.body {
            Body::Sample { task, data } => (task, data),
            Body::News(_) => return Err(DecodeError::Foreign),
        };
        let bytes = data.flatten(&mut self.buffer);
        let Some(decoded) = self.decoder.decode(sample.time, sample.cpu, bytes)? else {
            return Err(DecodeError::Foreign);
        };
        *event = decoded.event;
        if let Some(ids) = task {
            event.on_cpu = self.tasks.task(ids, decoded.tid, event.cpu, event.time);
        }
        event.owner = self.owners.observe(event, decoded.own_context, processes);
        Ok(())
    }

    fn reset_reasons(&self) -> &[(u32, String)] {
        &self.reset_reasons
    }

    fn processes(&self) -> Processes {
        Processes::open(self.tasks.proc(), false)
    }

    fn detach(&mut self, rings: &Rings) {
        // A CPU that has gone has taken its tracepoints with it.
        let _ = rings.switch(false);
        rings.count_missing();
    }

    fn look_ahead(&mut self, rings: &Rings, until: u64) {
        self.tasks.look_ahead(rings, until);
    }

    fn observe(&mut self, time: u64, news: &News) {
        self.tasks.observe(time, news);
    }

    fn hand_over(&mut self) -> sys::Result<()> {
        self.tasks.hand_over()
    }

    fn count(&self, elsewhere: &mut Elsewhere) {
        elsewhere.listeners = self.owners.refusals();
    }

    fn tells_of_cpus(&self) -> bool {
        false
    }

    fn connect(&self, _ring: &Ring) -> sys::Result<Option<&'static str>> {
        Ok(Some("up to a second of its events is missing"))
    }
}
