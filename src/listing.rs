//! What enters the kernel, for somebody who wants to know before: every program
//! that a run would load on this host or another, as it is linked for it.
//!
//! Contract: nothing is loaded or attached. What could not be read is assumed,
//! and said in a line that starts with `; assumed:`.

mod elsewhere;
mod filter;
mod object;
mod plan;

use crate::bpf::guard::Guard;
use crate::bpf::guarded;
use crate::bpf::load::{Onto, Target, door};
use crate::bpf::made::Shape;
use crate::bpf::maps;
use crate::bpf_link::Template;
use crate::cli::{Config, Listing};
use crate::error::{Error, Kind};
use crate::filter::tree::Expr;
use crate::sys::bpf::MapType;
use elsewhere::Host;
use plan::{Planned, Program, Subject};
use std::fmt::Write as _;
use std::path::Path;

/// Prints, writes, or both: what is to be printed.
pub fn run(config: &Config, listing: &Listing) -> Result<String, Error> {
    let expr = &config.filter.expr;
    let guard = config.guard();
    let alone = match (listing.print, expr) {
        (1, Expr::All) => None,
        (1, _) => Some(filter::list(expr, guard.as_ref())?),
        _ => None,
    };
    if let (Some(text), None) = (&alone, &listing.export) {
        return Ok(text.clone());
    }
    let host = Host::read(listing, config.transport)?;
    let mut out = String::new();
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(
        out,
        "; socket-snoop {version}: what a run would load, by {}",
        host.way()
    );
    for note in host.notes() {
        let _ = writeln!(out, "; {note}");
    }
    let (mut programs, mut left_out) = (Vec::new(), Vec::new());
    for planned in host.plan(config.wants) {
        match link(&host, &planned, guard.as_ref(), &mut programs) {
            Ok(()) => {}
            Err(why) if planned.required => return Err(why),
            Err(why) => left_out.push((planned, why)),
        }
    }
    for (_, why) in &left_out {
        let _ = writeln!(out, "; left out: {why}");
    }
    let mut shapes = maps::shapes(host.cpus(), host.memory(), config.wants).to_vec();
    shapes.extend(guard.iter().flat_map(guarded::shapes));
    if programs.iter().any(|program| program.before.is_some()) {
        shapes.push(door::turn());
    }
    if let Some(dir) = &listing.export {
        for program in &programs {
            object::write(Path::new(dir), program, &shapes)?;
        }
    }
    if let Some(text) = alone {
        return Ok(text);
    }
    if listing.print == 0 {
        return Ok(String::new());
    }
    for Program {
        template,
        linked,
        subject,
        text,
        before,
    } in &programs
    {
        let Template {
            name,
            group,
            event,
            license,
            ..
        } = template;
        let slots = linked.insns.len();
        let on = match subject {
            Subject::Record => format!("tracepoint {group}:{event}, its record"),
            Subject::Arguments => format!("tracepoint {group}:{event}, its arguments"),
            Subject::Return => format!("the return of {event}()"),
            Subject::Every => "the same tracepoints, raw".to_string(),
        };
        let on = match before {
            Some(behind) => on + ", before " + behind,
            None => on,
        };
        let _ = write!(
            out,
            "\n; {name} on {on}; licence {license}; {slots} slots\n{text}"
        );
    }
    out.push_str("\n; maps\n");
    shapes.iter().for_each(|shape| map(&mut out, shape, &host));
    Ok(out)
}

fn map(out: &mut String, shape: &Shape, host: &Host) {
    let kind = match shape.kind {
        MapType::Hash => "hash",
        MapType::Array => "array",
        MapType::ProgArray => "prog_array",
        MapType::PerfEventArray => "perf_event_array",
        MapType::LpmTrie => "lpm_trie",
    };
    let (key, value) = shape.sizes;
    let entries = match shape.entries {
        0 => "one for each possible CPU".to_string(),
        most if host.is_another() && shape.kind == MapType::Hash => {
            format!("{most}, fewer with less than 512 MiB of memory")
        }
        known => known.to_string(),
    };
    let name = shape.name;
    let _ = writeln!(
        out,
        "{name:<10} {kind:<17} key {key:>2}  value {value:>2}  entries {entries}"
    );
}

/// The door before a program.
fn before(behind: &Template, subject: Subject) -> Result<Program, Error> {
    let damaged = || Error::new(Kind::Runtime, "the door of a program can't be made");
    let template = door::template(behind).ok_or_else(damaged)?;
    let linked = template.linked(&filter::Nowhere).map_err(|_| damaged())?;
    Ok(Program {
        text: template.listing(&linked, &|_| None),
        linked,
        subject,
        before: Some(behind.name.clone()),
        template,
    })
}

/// Adds a program, behind the door before it where it has one.
fn link(
    host: &Host,
    planned: &Planned,
    guard: Option<&Guard>,
    programs: &mut Vec<Program>,
) -> Result<(), Error> {
    let mut template = host.programs().get(planned.name)?;
    let has_door = door::is_wanted(&template, guard);
    let (group, event) = (&template.group.clone(), &template.event.clone());
    let missing = |what: String| Error::new(Kind::Unsupported, what);
    let btf = || host.btf().ok_or_else(|| missing("there is no BTF".into()));
    let record;
    let (arguments, function);
    let target = match planned.subject {
        Subject::Record => {
            record = host.tracepoint(group, event)?;
            Target::Record(&record)
        }
        Subject::Arguments => {
            let found = btf()?.tracepoint(event);
            arguments = found
                .ok_or_else(|| missing(format!("the BTF has no tracepoint {group}:{event}")))?;
            Target::Arguments(&arguments)
        }
        Subject::Return => {
            let found = btf()?.function(event);
            function = found.ok_or_else(|| missing(format!("the BTF has no function {event}")))?;
            Target::Return(&function)
        }
        Subject::Every => Target::Every,
    };
    let extras = host.extras(planned);
    let onto = Onto {
        target,
        extras,
        // Numbers that the kernel gives: 0.
        maps: &|_| Some(0),
        guard,
    };
    let linked = onto.link(&mut template)?;
    let text = template.listing(&linked, &|name| target.find(name, extras));
    if has_door {
        programs.push(before(&template, planned.subject)?);
    }
    programs.push(Program {
        template,
        linked,
        subject: planned.subject,
        text,
        before: None,
    });
    Ok(())
}
