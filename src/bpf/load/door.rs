//! A door: a program that is attached in the place of another one, and goes on to it. A private part of `load`.
//!
//! Contract: each event goes to one program, the one before or the one after, also while another takes its place: that is one
//! write of one pointer in the kernel (v6.12 kernel/bpf/arraymap.c, bpf_fd_array_map_update_elem), which keeps no program from
//! running (kernel/bpf/syscall.c, bpf_map_update_value).

use super::enter::{self, As};
use super::link::link;
use crate::bpf::guard::Guard;
use crate::bpf::made::{Shape, bpf_error, with_memlock};
use crate::bpf::maps::Maps;
use crate::bpf_insn::{Alu, Insn, Operand};
use crate::bpf_link::builder::Builder;
use crate::bpf_link::{Host, HostField, Item, Template};
use crate::error::{Error, Kind};
use crate::sys;
use crate::sys::bpf::{Map, MapType, Update};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The map that has the program behind it.
const TURN: &str = "turn";
const TAIL_CALL: i32 = 12;

/// The door.
#[derive(Debug)]
pub(super) struct Door {
    fd: OwnedFd,
    turn: Map,
    behind: Behind,
}

/// What the program behind it is made of, whatever the filter is.
#[derive(Debug)]
struct Behind {
    template: Template,
    /// What the host has of the template's fields.
    fields: Vec<Option<HostField>>,
    loads_members: bool,
    hidden: u16,
    kind: As,
}

/// The same host, with these maps.
struct Again<'a>(&'a Behind, &'a dyn Fn(&str) -> Option<i32>);

impl Host for Again<'_> {
    fn field(&self, name: &str) -> Option<HostField> {
        let fields = &self.0.template.fields;
        let at = fields.iter().position(|field| field.name == name)?;
        *self.0.fields.get(at)?
    }

    fn loads_members(&self) -> bool {
        self.0.loads_members
    }

    fn hidden(&self) -> u16 {
        self.0.hidden
    }

    fn map_fd(&self, name: &str) -> Option<i32> {
        (self.1)(name)
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether there is one before a program of this template, with this filter.
pub(crate) fn is_wanted(template: &Template, guard: Option<&Guard>) -> bool {
    guard.is_some_and(Guard::is_renewable) && template.wants_filter()
}

/// The map.
pub(crate) fn turn() -> Shape {
    Shape {
        name: TURN,
        kind: MapType::ProgArray,
        sizes: (4, 4),
        entries: 1,
    }
}

/// Its instructions, for one before a program of this template.
pub(crate) fn template(behind: &Template) -> Option<Template> {
    let mut b = Builder::default();
    b.line("on to the program that is there now".into());
    b.map(2, TURN);
    b.alu(Alu::Mov, 3, Operand::Imm(0));
    b.call(TAIL_CALL);
    b.line("never: there is always one".into());
    b.alu(Alu::Mov, 0, Operand::Imm(1));
    let own = Template {
        name: "socket_snoop_in".into(),
        group: behind.group.clone(),
        event: behind.event.clone(),
        license: "Dual MIT/GPL".into(),
        items: vec![Item::Filter { part: 0 }, Item::Insn(Insn::exit())],
        lines: vec![0; 2],
        ..Template::default()
    };
    own.with(&[b.finish()?])
}

impl Door {
    /// One that goes on to this program, which is of this template on this host.
    pub(super) fn before(
        template: &Template,
        onto: &dyn Host,
        kind: As,
        program: BorrowedFd<'_>,
    ) -> Result<Door, Error> {
        let of = self::turn();
        let create = || Map::create(of.kind, of.name, of.sizes, of.entries, 0);
        let failed = |errno| bpf_error("create the map turn", errno);
        let turn = with_memlock(create).map_err(failed)?;
        let fields = template.fields.iter();
        let behind = Behind {
            fields: fields.map(|field| onto.field(&field.name)).collect(),
            template: template.clone(),
            loads_members: onto.loads_members(),
            hidden: onto.hidden(),
            kind,
        };
        let turned = |_: &str| Some(turn.as_fd().as_raw_fd());
        let damaged = || Error::new(Kind::Runtime, "the door of a program can't be made");
        let mut own = self::template(template).ok_or_else(damaged)?;
        let linked = link(&Again(&behind, &turned), None, &mut own)?;
        let fd = enter::load(behind.kind, &own, &linked)?;
        let door = Door { fd, turn, behind };
        let failed = |errno| bpf_error("fill the map turn", errno);
        door.open_to(program).map_err(failed)?;
        Ok(door)
    }

    /// From here on it goes on to the same program with the filter that these maps
    /// have, which is returned.
    pub(super) fn renew(&self, maps: &Maps) -> Result<OwnedFd, Error> {
        let mut template = self.behind.template.clone();
        let fd = |name: &str| maps.fd(name);
        let linked = link(&Again(&self.behind, &fd), maps.guard(), &mut template)?;
        let new = enter::load(self.behind.kind, &template, &linked)?;
        let failed = |errno| bpf_error("replace a program", errno);
        self.open_to(new.as_fd()).map_err(failed)?;
        Ok(new)
    }

    fn open_to(&self, program: BorrowedFd<'_>) -> sys::Result<()> {
        let fd = program.as_raw_fd().to_ne_bytes();
        self.turn.update(&[0; 4], &fd, Update::Any)
    }
}
