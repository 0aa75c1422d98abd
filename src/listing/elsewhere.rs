//! The host that the programs are linked for: this one, or another whose files
//! were brought here.
//!
//! Contract: a file that was named is read or the error says why not; of this
//! host what can't be read is gone without, which [`Host::notes`] tell.

use super::plan::{Given, Planned, plan};
use crate::bpf::load::{self, Extras, Onto, Target};
use crate::bpf::misses;
use crate::btf::Btf;
use crate::capture::Transport;
use crate::cli::Listing;
use crate::error::{Error, Kind};
use crate::host::lockdown::{self, Lockdown};
use crate::model::ability::Abilities;
use crate::programs::{self, Assembled};
use crate::sys::{Errno, file, memory};
use crate::tracepoint::{FILE_LIMIT, Format, TraceFs, Tracepoint};
use nix::fcntl::OFlag;
use std::path::{Path, PathBuf};

/// The helper that reads members by tracefs (Linux 5.5 and later).
const READER: &str = "BPF_FUNC_probe_read_kernel";

/// Where records are described.
enum Formats {
    TraceFs(TraceFs),
    Folder(PathBuf),
    None,
}

/// A host.
pub(super) struct Host {
    programs: Assembled,
    formats: Formats,
    btf: Option<Btf>,
    given: Given,
    another: bool,
    notes: Vec<String>,
}

impl Host {
    /// Reads what there is to know of it.
    pub(super) fn read(listing: &Listing, way: Option<Transport>) -> Result<Host, Error> {
        let programs = Assembled::unpack()?;
        let another = listing.formats.is_some() || listing.btf.is_some();
        let mut notes = Vec::new();
        if way == Some(Transport::Perf) {
            let what = "by perf samples no program is loaded";
            return Err(Error::new(Kind::Usage, what));
        }
        let formats = match &listing.formats {
            Some(folder) => Formats::Folder(folder.into()),
            None if another || way == Some(Transport::Btf) => Formats::None,
            None => match TraceFs::open() {
                Ok(tracefs) => Formats::TraceFs(tracefs),
                Err(why) => {
                    notes.push(format!("assumed: a run can't, either: {why}"));
                    Formats::None
                }
            },
        };
        let btf = match &listing.btf {
            Some(file) => Some(btf_of(Path::new(file), &programs)?),
            None if another => None,
            None => match Btf::of_kernel(&programs) {
                Ok(btf) => Some(btf),
                Err(why) => {
                    notes.push(format!("without BTF: {why}"));
                    None
                }
            },
        };
        let mut host = Host {
            programs,
            formats,
            btf,
            given: Given {
                way: way.unwrap_or(Transport::Tracepoint),
                members: false,
                loads: Abilities::empty(),
                counters: false,
                counts: true,
            },
            another,
            notes,
        };
        host.decide(way)?;
        Ok(host)
    }

    fn decide(&mut self, way: Option<Transport>) -> Result<(), Error> {
        let state = self.programs.get(programs::STATE)?;
        let by_record = self.tracepoint(&state.group, &state.event);
        match (way, by_record) {
            (Some(Transport::Btf), _) => self.given.way = Transport::Btf,
            (_, Ok(_)) => self.given.way = Transport::Tracepoint,
            (None, Err(why)) if self.btf.is_some() => {
                self.given.way = Transport::Btf;
                self.notes.push(format!("by BTF, for: {why}"));
            }
            (_, Err(why)) => return Err(why),
        }
        let by_record = self.given.way == Transport::Tracepoint;
        if self.another {
            self.notes
                .push("assumed: that kernel counts what it keeps from programs (Linux 6.7)".into());
        } else {
            self.given.counts = misses::kernel_counts();
        }
        self.notes
            .push("assumed: the kernel takes all that it tells of, and knows cgroups".into());
        let Some(btf) = &self.btf else {
            return Ok(());
        };
        let confidential = !self.another && lockdown::stated() == Some(Lockdown::Confidentiality);
        self.given.members =
            !by_record || btf.has_enumerator("bpf_func_id", READER) && !confidential;
        if btf.cast("sock").is_some() {
            self.given.loads = Abilities::LOADS;
        }
        let whole = load::reads(
            &state,
            &Onto {
                target: Target::Every,
                extras: Extras {
                    members: Some(btf),
                    may: Abilities::empty(),
                },
                maps: &|_| None,
                guard: None,
            },
        );
        self.given.counters = self.given.members && whole.contains(Abilities::COUNTERS);
        Ok(())
    }

    /// The programs.
    pub(super) fn programs(&self) -> &Assembled {
        &self.programs
    }

    /// Its BTF.
    pub(super) fn btf(&self) -> Option<&Btf> {
        self.btf.as_ref()
    }

    /// How the events are had there.
    pub(super) fn way(&self) -> &'static str {
        match self.given.way {
            Transport::Btf => "BTF",
            _ => "tracefs",
        }
    }

    /// What was assumed, and what is gone without.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether it is not this one.
    pub(super) fn is_another(&self) -> bool {
        self.another
    }

    /// Its possible CPUs; 0 if they are not known.
    pub(super) fn cpus(&self) -> u32 {
        match self.another {
            true => 0,
            false => possible_cpus().unwrap_or(0),
        }
    }

    /// Its memory in bytes.
    pub(super) fn memory(&self) -> u64 {
        match self.another {
            true => u64::MAX,
            false => memory::total(),
        }
    }

    /// What a run would load there.
    pub(super) fn plan(&self, wants: Abilities) -> Vec<Planned> {
        plan(self.given, wants)
    }

    /// What a program may use.
    pub(super) fn extras(&self, planned: &Planned) -> Extras<'_> {
        Extras {
            members: self.btf.as_ref().filter(|_| planned.members),
            may: planned.may,
        }
    }

    /// A tracepoint with its record.
    pub(super) fn tracepoint(&self, group: &str, name: &str) -> Result<Tracepoint, Error> {
        match &self.formats {
            Formats::TraceFs(tracefs) => tracefs.event(group, name),
            Formats::Folder(folder) => in_folder(folder, group, name),
            Formats::None => {
                let what = "no tracepoint's record is known";
                Err(Error::new(Kind::Unsupported, what).advise("give --formats, or --btf"))
            }
        }
    }
}

/// The `format` file of a tracepoint in a folder: as it lies in tracefs, from
/// its `events` or from above it, or as `NAME.format`.
fn in_folder(folder: &Path, group: &str, name: &str) -> Result<Tracepoint, Error> {
    let places = [
        format!("{group}/{name}/format"),
        format!("events/{group}/{name}/format"),
        format!("{group}/{name}.format"),
    ];
    let mut found = None;
    for place in &places {
        let path = folder.join(place);
        match file::open(&path, OFlag::O_RDONLY) {
            Ok(file) => {
                found = Some((path, file));
                break;
            }
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(unreadable(&path, errno)),
        }
    }
    let Some((path, open)) = found else {
        let what = format!("{} has no {}", folder.display(), places[0]);
        return Err(Error::new(Kind::Unsupported, what));
    };
    let text = file::rest(&open, FILE_LIMIT).map_err(|errno| unreadable(&path, errno))?;
    let format = Format::parse(&text).map_err(|why| {
        let what = format!("cannot use {}: {why}", path.display());
        Error::new(Kind::Unsupported, what)
    })?;
    Ok(Tracepoint {
        group: group.into(),
        name: name.into(),
        id: 0,
        format,
    })
}

fn unreadable(path: &Path, errno: Errno) -> Error {
    let what = format!("cannot read {}: {errno}", path.display());
    Error::new(Kind::Runtime, what)
}

/// The BTF of a file.
fn btf_of(path: &Path, programs: &Assembled) -> Result<Btf, Error> {
    let file = file::open(path, OFlag::O_RDONLY).map_err(|errno| unreadable(path, errno))?;
    Btf::of_copy(file, programs).map_err(|why| {
        let what = format!("cannot use {}: {why}", path.display());
        Error::new(Kind::Unsupported, what).advise("give a kernel's BTF, or a vmlinux that has it")
    })
}

/// Possible CPUs of this host (v6.12 drivers/base/cpu.c, `possible`).
fn possible_cpus() -> Option<u32> {
    let text = file::text("/sys/devices/system/cpu/possible").ok()?;
    let last = std::str::from_utf8(&text)
        .ok()?
        .trim()
        .rsplit(['-', ','])
        .next()?;
    last.parse::<u32>().ok()?.checked_add(1)
}
