//! Connections steered to a listener that their address does not tell.
//!
//! # Safety
//! Attributes of bpf(2) are arrays of numbers, as long as the kernel is told;
//! what they point to outlives the call.
#![allow(unsafe_code, reason = "makes system calls")]

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use socket_snoop::bpf::made::lift_memlock;
use socket_snoop::bpf_insn::{Alu, Cmp, Insn, Operand, Size};

const MAP_CREATE: i32 = 0;
const MAP_UPDATE: i32 = 2;
const PROG_LOAD: i32 = 5;
const LINK_CREATE: i32 = 28;
const SOCKMAP: u32 = 15;
const PROG_TYPE_SK_LOOKUP: u32 = 30;
const ATTACH_SK_LOOKUP: u32 = 36;

/// In this network namespace every connection to a port goes to this listener,
/// whoever else listens there, for as long as both that are returned live.
pub(super) fn steer(listener: &OwnedFd, port: u16) -> Result<[OwnedFd; 2], Errno> {
    // Before Linux 5.11 maps and programs count as locked memory.
    let _ = lift_memlock();
    let map = bpf(MAP_CREATE, &mut [SOCKMAP, 4, 8, 1, 0])?;
    let map = own(map);
    let key = 0u32;
    let socket = u64::try_from(listener.as_raw_fd()).unwrap();
    let mut update = [number(&map), 0, 0, 0, 0, 0, 0, 0];
    put(&mut update, 2, (&raw const key) as u64);
    put(&mut update, 4, (&raw const socket) as u64);
    bpf(MAP_UPDATE, &mut update)?;
    let code: Vec<u64> = program(port, map.as_raw_fd()).map(Insn::encode).collect();
    let mut load = [0; 18];
    load[..2].copy_from_slice(&[PROG_TYPE_SK_LOOKUP, code.len() as u32]);
    put(&mut load, 2, code.as_ptr() as u64);
    put(&mut load, 4, c"Dual MIT/GPL".as_ptr() as u64);
    load[17] = ATTACH_SK_LOOKUP;
    let program = own(bpf(PROG_LOAD, &mut load)?);
    let netns = File::open("/proc/thread-self/ns/net").expect("this network namespace");
    let netns = u32::try_from(netns.as_raw_fd()).map(|fd| (netns, fd));
    let (_netns, fd) = netns.expect("a descriptor");
    let link = bpf(
        LINK_CREATE,
        &mut [number(&program), fd, ATTACH_SK_LOOKUP, 0],
    )?;
    Ok([map, own(link)])
}

/// `struct bpf_sk_lookup` has the local port at 60, in host order.
fn program(port: u16, map: i32) -> impl Iterator<Item = Insn> {
    const LOOKUP: i32 = 1;
    const RELEASE: i32 = 86;
    const ASSIGN: i32 = 124;
    let mov = |to, from| Insn::alu(true, Alu::Mov, to, from);
    let [map, end] = Insn::map_fd(1, map);
    [
        mov(6, Operand::Reg(1)),
        Insn::load(Size::W, 2, 6, 60),
        Insn::branch(true, Cmp::Ne, 2, Operand::Imm(port.into()), 14),
        Insn::store(Size::W, 10, -4, Operand::Imm(0)),
        mov(2, Operand::Reg(10)),
        Insn::alu(true, Alu::Add, 2, Operand::Imm(-4)),
        map,
        end,
        Insn::call(LOOKUP),
        Insn::branch(true, Cmp::Eq, 0, Operand::Imm(0), 7),
        mov(7, Operand::Reg(0)),
        mov(1, Operand::Reg(6)),
        mov(2, Operand::Reg(7)),
        mov(3, Operand::Imm(0)),
        Insn::call(ASSIGN),
        mov(1, Operand::Reg(7)),
        Insn::call(RELEASE),
        mov(0, Operand::Imm(1)),
        Insn::exit(),
    ]
    .into_iter()
}

fn number(fd: &OwnedFd) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("a descriptor")
}

fn put(attr: &mut [u32], at: usize, value: u64) {
    let bytes = value.to_ne_bytes();
    for (half, word) in bytes.chunks_exact(4).zip(&mut attr[at..at + 2]) {
        *word = u32::from_ne_bytes(half.try_into().unwrap());
    }
}

fn bpf(command: i32, attr: &mut [u32]) -> Result<libc::c_long, Errno> {
    // SAFETY: see the module's documentation.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    Errno::result(result)
}

fn own(fd: libc::c_long) -> OwnedFd {
    let fd = i32::try_from(fd).expect("a descriptor");
    // SAFETY: it has just been made for this process.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
