//! The user's filter in the kernel: its maps, and which one is in force.
//!
//! Contract: a filter keeps events away only while its number is in force. Where the kernel lets maps be mapped (Linux 5.5),
//! that is changed without bpf(2), which would keep the programs from running meanwhile.

use crate::bpf::guard::Guard;
use crate::bpf::layout::GUARD_OPEN;
use crate::bpf::made::{Shape, bpf_error, with_memlock};
use crate::error::{Error, Kind};
use crate::filter::tree::Expr;
use crate::sys::bpf::{MMAPABLE, Map, MapType, NO_PREALLOC, Update};
use crate::sys::table::Table;
use crate::sys::{self, Errno};
use std::os::fd::{AsFd, BorrowedFd};

/// The map whose only value says which filter is in force.
const FORCE: &str = "guard";

const OPEN: u64 = GUARD_OPEN as u64;

/// The maps that only programs with a filter use.
pub(crate) fn shapes(guard: &Guard) -> Vec<Shape> {
    let shape = |name, kind, sizes, entries| Shape {
        name,
        kind,
        sizes,
        entries,
    };
    let (ports, nets) = guard.sizes();
    let mut all = vec![shape(FORCE, MapType::Array, (4, 8), 1)];
    if ports > 0 {
        all.push(shape("ports", MapType::Array, (4, 8192), ports));
    }
    if nets > 0 {
        all.push(shape("nets", MapType::LpmTrie, (24, 1), nets));
    }
    all
}

/// The filter.
#[derive(Debug)]
pub(crate) struct Guarded {
    guard: Guard,
    force: (Map, Option<Table>),
    maps: Vec<(&'static str, Map)>,
}

fn create(of: &Shape, flags: u32) -> sys::Result<Map> {
    with_memlock(|| Map::create(of.kind, of.name, of.sizes, of.entries, flags))
}

fn failed(name: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| bpf_error(&format!("create the map {name}"), errno)
}

/// The map [`FORCE`].
fn force(of: &Shape) -> sys::Result<(Map, Option<Table>)> {
    match create(of, MMAPABLE) {
        Ok(map) => {
            let table = Table::writable(map.as_fd(), 1)?;
            Ok((map, Some(table)))
        }
        Err(Errno::EINVAL) => Ok((create(of, 0)?, None)),
        Err(errno) => Err(errno),
    }
}

impl Guarded {
    /// The first one, which is in force at once.
    pub(crate) fn create(mut guard: Guard) -> Result<Guarded, Error> {
        let shapes = shapes(&guard);
        let Some((first, others)) = shapes.split_first() else {
            return Err(Error::new(Kind::Runtime, "the filter has no map"));
        };
        let force = force(first).map_err(failed(FORCE))?;
        let mut maps = Vec::new();
        for of in others {
            let flags = match of.kind {
                MapType::LpmTrie => NO_PREALLOC,
                _ => 0,
            };
            maps.push((of.name, create(of, flags).map_err(failed(of.name))?));
        }
        for (name, key, value) in guard.entries() {
            let own = maps.iter().find(|(known, _)| *known == name);
            let Some((_, map)) = own else { continue };
            let update = || map.update(&key, &value, Update::Any);
            let failed = |errno| bpf_error(&format!("fill the map {name}"), errno);
            with_memlock(update).map_err(failed)?;
        }
        guard.forget_entries();
        Ok(Guarded { guard, force, maps })
    }

    /// What the programs are completed with.
    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// A map's descriptor.
    pub(crate) fn fd(&self, name: &str) -> Option<BorrowedFd<'_>> {
        if name == FORCE {
            return Some(self.force.0.as_fd());
        }
        let mut maps = self.maps.iter();
        Some(maps.find(|(known, _)| *known == name)?.1.as_fd())
    }

    /// Another filter, which is not in force yet: for programs that are completed from
    /// here on.
    pub(crate) fn renew(&mut self, expr: &Expr) -> Result<(), Error> {
        let next = self.guard.next(expr);
        let next = next.filter(|next| next.entries().next().is_none());
        self.guard = next.ok_or_else(|| {
            let why =
                "it has more ports or networks than the kernel can be told while programs run";
            Error::new(Kind::Runtime, why)
        })?;
        Ok(())
    }

    /// Which one is in force.
    fn in_force(&self) -> sys::Result<u64> {
        let (map, table) = &self.force;
        if let Some(table) = table {
            return Ok(table.get(0));
        }
        let mut number = [0; 8];
        map.lookup(&[0; 4], &mut number)?;
        Ok(u64::from_ne_bytes(number))
    }

    fn set(&self, number: u64) -> sys::Result<()> {
        let (map, table) = &self.force;
        match table {
            Some(table) => table.set(0, number),
            None => map.update(&[0; 4], &number.to_ne_bytes(), Update::Any)?,
        }
        Ok(())
    }

    /// From here on the programs let through what the filter refuses; whether they
    /// did not before.
    pub(crate) fn open(&self) -> sys::Result<bool> {
        let was = self.in_force()?;
        self.set(OPEN)?;
        Ok(was != OPEN)
    }

    /// From here on the filter is in force.
    pub(crate) fn close(&self) -> sys::Result<()> {
        self.set(self.guard.number().into())
    }
}
