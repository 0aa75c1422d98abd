//! A door: a program that is attached in the place of another one, and goes on to it. A private part of `load`.
//!
//! Contract: each event goes to one program, the one before or the one after, also while another takes its place: that is one
//! write of one pointer in the kernel (v6.12 kernel/bpf/arraymap.c, bpf_fd_array_map_update_elem), which keeps no program from
//! running (kernel/bpf/syscall.c, bpf_map_update_value).

use super::{Extras, Onto, Target, enter};
use crate::bpf::maps::{bpf_error, with_memlock};
use crate::bpf_insn::{Alu, Insn, Operand};
use crate::bpf_link::builder::Builder;
use crate::bpf_link::{Item, Template};
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
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Its instructions.
fn template() -> Option<Template> {
    let mut b = Builder::default();
    b.line("on to the program that is there now".into());
    b.map(2, TURN);
    b.alu(Alu::Mov, 3, Operand::Imm(0));
    b.call(TAIL_CALL);
    b.line("never: there is always one".into());
    b.alu(Alu::Mov, 0, Operand::Imm(1));
    let own = Template {
        name: "socket_snoop_in".into(),
        license: "Dual MIT/GPL".into(),
        items: vec![Item::Filter { part: 0 }, Item::Insn(Insn::exit())],
        lines: vec![0; 2],
        ..Template::default()
    };
    own.with(&[b.finish()?])
}

impl Door {
    /// One that goes on to this program, for the same target.
    pub(super) fn before(target: Target<'_>, program: BorrowedFd<'_>) -> Result<Door, Error> {
        let create = || Map::create(MapType::ProgArray, TURN, (4, 4), 1, 0);
        let failed = |errno| bpf_error("create the map turn", errno);
        let turn = with_memlock(create).map_err(failed)?;
        let damaged = || Error::new(Kind::Runtime, "the door of a program can't be made");
        let mut template = template().ok_or_else(damaged)?;
        let onto = Onto {
            target,
            extras: Extras::NONE,
            maps: &|_| Some(turn.as_fd().as_raw_fd()),
            guard: None,
        };
        let linked = onto.link(&mut template)?;
        let fd = enter::load(target, &template, &linked)?;
        let door = Door { fd, turn };
        let failed = |errno| bpf_error("fill the map turn", errno);
        door.open_to(program).map_err(failed)?;
        Ok(door)
    }

    /// From here on it goes on to this one.
    pub(super) fn open_to(&self, program: BorrowedFd<'_>) -> sys::Result<()> {
        let fd = program.as_raw_fd().to_ne_bytes();
        self.turn.update(&[0; 4], &fd, Update::Any)
    }
}
