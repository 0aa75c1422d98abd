//! Programs with another filter take the place of those that run.
//!
//! Contract: it goes in steps, each of which loads one program at most, so that the rings are drained in between. The filter
//! before is not in force when it begins, the new one is when it has ended; in between all is let through.

use super::attach::{Loaded, OPTIONAL, RECORD, REQUIRED, for_arguments};
use crate::bpf::load::{Extras, Program, Target};
use crate::bpf::maps::{Maps, bpf_error};
use crate::btf::Btf;
use crate::error::{Error, Kind};
use crate::filter::tree::Expr;
use crate::programs::Assembled;
use crate::tracepoint::TraceFs;

/// What is under way.
#[derive(Debug)]
pub(super) struct Renewal {
    programs: Assembled,
    btf: Option<Btf>,
    tracefs: Option<TraceFs>,
    /// Programs that are replaced.
    done: usize,
}

impl Renewal {
    /// Begins it; `None` if the programs that run are to stay.
    pub(super) fn begin(
        loaded: &Loaded,
        maps: &mut Maps,
        expr: &Expr,
    ) -> Result<Option<Renewal>, Error> {
        let Some(guarded) = maps.guarded_mut() else {
            return Ok(None);
        };
        if !guarded.guard().is_renewable() {
            return Ok(None);
        }
        let failed = |why| Error::new(Kind::Runtime, why);
        let guard = guarded.guard().next(expr);
        let guard = guard.ok_or_else(|| failed("there were too many filters in this run"))?;
        if guard.entries().next().is_some() {
            return Err(failed(
                "it has more ports or networks than can be told to the kernel without a loss",
            ));
        }
        guarded.renew(guard);
        let programs = Assembled::unpack()?;
        let (_, members) = loaded.may;
        let btf = members.then(|| Btf::of_kernel(&programs)).transpose()?;
        let tracefs = (loaded.which == RECORD).then(TraceFs::open).transpose()?;
        Ok(Some(Renewal {
            programs,
            btf,
            tracefs,
            done: 0,
        }))
    }

    /// The next step; whether it was the last.
    pub(super) fn step(&mut self, loaded: &mut Loaded, maps: &Maps) -> Result<bool, Error> {
        let (may, _) = loaded.may;
        let members = self.btf.as_ref();
        let extras = Extras { members, may };
        let which = loaded.which;
        let old = loaded.programs.iter_mut();
        let old = old.filter(|program| program.renewable_at().is_some());
        let Some(old) = old.skip(self.done).next() else {
            let close = maps.guarded().map_or(Ok(()), |guarded| guarded.close());
            let failed = |errno| bpf_error("put the filter into force", errno);
            return close.map_err(failed).map(|()| true);
        };
        let pairs = OPTIONAL.iter().map(|(_, pair)| pair);
        let mut names = REQUIRED.iter().chain(pairs).map(|pair| pair[which]);
        let template = names.find_map(|name| {
            let template = self.programs.get(name).ok();
            template.filter(|template| Some(template.event.as_str()) == old.renewable_at())
        });
        let gone = || Error::new(Kind::Runtime, "a program has gone");
        let template = &template.ok_or_else(gone)?;
        let new = match (&self.tracefs, members) {
            (Some(tracefs), _) => {
                let tracepoint = tracefs.event(&template.group, &template.event)?;
                Program::load(template, Target::Record(&tracepoint), maps, extras)?
            }
            (None, Some(btf)) => for_arguments(btf, template, maps, extras)?,
            (None, None) => return Err(gone()),
        };
        let failed = |errno| bpf_error("replace a program", errno);
        old.renew(new).map_err(failed)?;
        self.done += 1;
        Ok(false)
    }
}
