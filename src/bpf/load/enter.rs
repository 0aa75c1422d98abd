//! A program that is complete enters the kernel. A private part of `load`.
//!
//! Contract: a load is tried without the verifier's log first; only a refusal is repeated with it.

use super::verifier;
use crate::bpf::debug::Debug;
use crate::bpf::made::{bpf_error, with_memlock};
use crate::bpf_link::{Linked, Template};
use crate::error::Error;
use crate::sys::Errno;
use crate::sys::bpf::{self, LineInfo, ProgType};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// The verifier's log is tried with this size first, then doubled.
const LOG_FIRST: usize = 64 * 1024;
/// The largest log that the kernels before 5.2 accept, in bytes.
const LOG_LAST: usize = (16 << 20) - 1;
/// Tries of a load that is interrupted (`EAGAIN`, kernel/bpf/verifier.c:
/// a pending signal).
const TRIES: u32 = 10;

/// What a program enters as: its type, and what it takes, as [`super::Target`] says.
pub(super) type As = (ProgType, (&'static str, &'static str));

/// Loads a program.
pub(super) fn load(
    (prog_type, takes): As,
    template: &Template,
    linked: &Linked,
) -> Result<OwnedFd, Error> {
    let insns: Vec<u64> = linked.insns.iter().map(|insn| insn.native()).collect();
    let license = CString::new(template.license.as_str()).unwrap_or_default();
    let name = &template.name;
    let load = |info, mut log: Option<&mut [u8]>| {
        let mut tries = 0;
        loop {
            let log = log.as_deref_mut();
            match bpf::prog_load(prog_type, name, &insns, &license, info, log) {
                Err(Errno::EAGAIN) if tries < TRIES => tries += 1,
                result => return result,
            }
        }
    };
    // What tools show of it is no reason to go without a program.
    let debug = Debug::of(template, linked);
    let btf = debug.as_ref().map(|debug| bpf::btf_load(&debug.btf));
    if let (
        Some(Debug {
            function, lines, ..
        }),
        Some(Ok(btf)),
    ) = (&debug, &btf)
    {
        let btf = btf.as_fd();
        let info = LineInfo {
            btf,
            function,
            lines,
        };
        if let Ok(fd) = with_memlock(|| load(Some(info), None)) {
            return Ok(fd);
        }
    }
    match with_memlock(|| load(None, None)) {
        Ok(fd) => Ok(fd),
        Err(
            errno @ (Errno::EPERM | Errno::ENOSYS | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM),
        ) => Err(bpf_error(&format!("load the program {name}"), errno)),
        Err(errno) => {
            let mut size = LOG_FIRST;
            let log = loop {
                let mut log = vec![0; size];
                match load(None, Some(&mut log)) {
                    Ok(fd) => return Ok(fd),
                    Err(Errno::ENOSPC) if size < LOG_LAST => size = (size * 2).min(LOG_LAST),
                    Err(_) => break log,
                }
            };
            Err(verifier::refusal(name, takes, errno, &log))
        }
    }
}
