//! bpf(2): maps, program loading, program information.
//!
//! Contract: attributes are `repr(C)` without padding and as long as their
//! last used field, so that kernels which know fewer fields accept them.
//! Layouts: include/uapi/linux/bpf.h, union bpf_attr.
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Errno, Result, check, own};
use std::ffi::CStr;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BPF_MAP_GET_NEXT_KEY: libc::c_int = 4;
const BPF_BTF_LOAD: libc::c_int = 18;

/// The commands that a running tracer needs: none makes or loads anything.
pub const LATER: [u32; 5] = [
    BPF_MAP_LOOKUP_ELEM as u32,
    BPF_MAP_GET_NEXT_KEY as u32,
    BPF_MAP_UPDATE_ELEM as u32,
    BPF_MAP_DELETE_ELEM as u32,
    BPF_OBJ_GET_INFO_BY_FD as u32,
];

/// Map types (enum bpf_map_type).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MapType {
    /// BPF_MAP_TYPE_HASH
    Hash = 1,
    /// BPF_MAP_TYPE_ARRAY
    Array = 2,
    /// BPF_MAP_TYPE_PROG_ARRAY: programs to go on to.
    ProgArray = 3,
    /// BPF_MAP_TYPE_PERF_EVENT_ARRAY: one perf event a CPU, the output rings.
    PerfEventArray = 4,
    /// BPF_MAP_TYPE_LPM_TRIE: the longest of the prefixes that a key begins with.
    LpmTrie = 11,
}

/// BPF_F_NO_PREALLOC: memory for an entry is taken when it comes, as a trie
/// wants it.
pub const NO_PREALLOC: u32 = 1;

/// BPF_F_MMAPABLE: an array's values can be mapped (Linux 5.5 and later;
/// `EINVAL` before).
pub const MMAPABLE: u32 = 1 << 10;

/// Program types (enum bpf_prog_type) with what they are attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgType {
    /// BPF_PROG_TYPE_TRACEPOINT
    Tracepoint,
    /// BPF_PROG_TYPE_RAW_TRACEPOINT (Linux 4.17 and later)
    RawTracepoint,
    /// BPF_PROG_TYPE_TRACING (Linux 5.5 and later)
    Tracing {
        /// BPF_TRACE_…
        attach_type: u32,
        /// The type in the kernel's BTF: a function, or the typedef of a tracepoint.
        btf_id: u32,
    },
}

const BPF_PROG_TYPE_TRACEPOINT: u32 = 5;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const BPF_PROG_TYPE_TRACING: u32 = 26;
/// BPF_TRACE_RAW_TP (enum bpf_attach_type): a tracepoint by its BTF typedef.
pub const TRACE_RAW_TP: u32 = 23;

/// BPF_TRACE_FEXIT (enum bpf_attach_type): the return of a function.
pub const TRACE_FEXIT: u32 = 25;

/// BPF_OBJ_NAME_LEN: an object's name with its terminating NUL, in bytes.
pub const OBJ_NAME_LEN: usize = 16;

fn obj_name(name: &str) -> [u8; OBJ_NAME_LEN] {
    let mut out = [0; OBJ_NAME_LEN];
    let len = name.len().min(OBJ_NAME_LEN - 1);
    out[..len].copy_from_slice(&name.as_bytes()[..len]);
    out
}

/// Calls bpf(2) with an attribute.
///
/// # Safety
/// Every pointer in `attr` must be valid for what `cmd` reads or writes there.
unsafe fn bpf<T>(cmd: libc::c_int, attr: &mut T) -> Result<libc::c_long> {
    // SAFETY: the caller's promise.
    unsafe { bpf_part(cmd, attr, size_of::<T>()) }
}

/// Calls bpf(2) with the first `size` bytes of an attribute.
///
/// # Safety
/// As for [`bpf`].
unsafe fn bpf_part<T>(cmd: libc::c_int, attr: &mut T, size: usize) -> Result<libc::c_long> {
    let size = size.min(size_of::<T>());
    // SAFETY: attr is a live object of at least that size; its pointers are the caller's promise.
    check(unsafe { libc::syscall(libc::SYS_bpf, cmd, attr as *mut T, size) })
}

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; OBJ_NAME_LEN],
}

#[repr(C)]
struct MapElem {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; OBJ_NAME_LEN],
    // From here on for BPF_PROG_TYPE_TRACING, or with lines.
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    // From here on for BPF_PROG_TYPE_TRACING only.
    attach_btf_id: u32,
}

#[repr(C)]
struct BtfLoad {
    btf: u64,
    btf_log_buf: u64,
    btf_size: u32,
}

#[repr(C)]
struct RawTracepoint {
    name: u64,
    prog_fd: u32,
    pad: u32,
}

#[repr(C)]
struct ObjInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// A map. An array's keys are `u32`, as the host orders them.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    key_size: u32,
    value_size: u32,
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What an update does where the key is there already, or is not (flags of
/// BPF_MAP_UPDATE_ELEM).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Update {
    /// BPF_ANY: adds or replaces.
    Any = 0,
    /// BPF_NOEXIST: only adds; `EEXIST` where it is there.
    Add = 1,
    /// BPF_EXIST: only replaces; `ENOENT` where it is not there.
    Replace = 2,
}

impl Map {
    /// Creates a map. Sizes are in bytes; `flags` are of [`MMAPABLE`] and
    /// [`NO_PREALLOC`].
    pub fn create(
        map_type: MapType,
        name: &str,
        (key_size, value_size): (u32, u32),
        entries: u32,
        flags: u32,
    ) -> Result<Map> {
        let mut attr = MapCreate {
            map_type: map_type as u32,
            key_size,
            value_size,
            max_entries: entries,
            map_flags: flags,
            inner_map_fd: 0,
            numa_node: 0,
            map_name: obj_name(name),
        };
        // SAFETY: the attribute holds no pointer; the result is a new descriptor.
        let fd = unsafe { own(bpf(BPF_MAP_CREATE, &mut attr)?) };
        Ok(Map {
            fd,
            key_size,
            value_size,
        })
    }

    /// Stores a value.
    pub fn update(&self, key: &[u8], value: &[u8], how: Update) -> Result<()> {
        if value.len() != self.value_size as usize || key.len() != self.key_size as usize {
            return Err(Errno::EINVAL);
        }
        let mut attr = MapElem {
            map_fd: self.fd.as_raw_fd() as u32,
            pad: 0,
            key: key.as_ptr() as u64,
            value: value.as_ptr() as u64,
            flags: how as u64,
        };
        // SAFETY: key and value are as long as the map's (checked above).
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
    }

    /// Removes a key; `ENOENT` where it is not there.
    pub fn remove(&self, key: &[u8]) -> Result<()> {
        if key.len() != self.key_size as usize {
            return Err(Errno::EINVAL);
        }
        let mut attr = MapElem {
            map_fd: self.fd.as_raw_fd() as u32,
            pad: 0,
            key: key.as_ptr() as u64,
            value: 0,
            flags: 0,
        };
        let used = offset_of!(MapElem, value);
        // SAFETY: the key is as long as the map's (checked above); no value is used.
        unsafe { bpf_part(BPF_MAP_DELETE_ELEM, &mut attr, used) }.map(drop)
    }

    /// Reads a value.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<()> {
        if value.len() != self.value_size as usize || key.len() != self.key_size as usize {
            return Err(Errno::EINVAL);
        }
        let mut attr = MapElem {
            map_fd: self.fd.as_raw_fd() as u32,
            pad: 0,
            key: key.as_ptr() as u64,
            value: value.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: key and value are as long as the map's (checked above).
        unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) }.map(drop)
    }

    /// The key behind this one, in an order of the kernel's; the first one behind none.
    pub fn next_key(&self, key: Option<&[u8; 8]>, next: &mut [u8; 8]) -> Result<()> {
        if self.key_size as usize != next.len() {
            return Err(Errno::EINVAL);
        }
        let mut attr = MapElem {
            map_fd: self.fd.as_raw_fd() as u32,
            pad: 0,
            key: key.map_or(0, |key| key.as_ptr() as u64),
            value: next.as_mut_ptr() as u64,
            flags: 0,
        };
        let used = offset_of!(MapElem, flags);
        // SAFETY: both keys are as long as the map's (checked above).
        unsafe { bpf_part(BPF_MAP_GET_NEXT_KEY, &mut attr, used) }.map(drop)
    }
}

/// Gives the kernel BTF (Linux 4.18 and later), for the programs that are loaded
/// with it.
pub fn btf_load(btf: &[u8]) -> Result<OwnedFd> {
    let mut attr = BtfLoad {
        btf: btf.as_ptr() as u64,
        btf_log_buf: 0,
        btf_size: btf.len() as u32,
    };
    let used = offset_of!(BtfLoad, btf_size) + size_of::<u32>();
    // SAFETY: the bytes outlive the call and have the length given; no log is
    // asked for. The result is a new descriptor.
    Ok(unsafe { own(bpf_part(BPF_BTF_LOAD, &mut attr, used)?) })
}

/// Where a program's instructions come from (Linux 5.0 and later).
#[derive(Clone, Copy, Debug)]
pub struct LineInfo<'a> {
    /// The BTF that has the function and the strings.
    pub btf: BorrowedFd<'a>,
    /// The function: struct bpf_func_info.
    pub function: &'a [u32; 2],
    /// The lines: struct bpf_line_info.
    pub lines: &'a [[u32; 4]],
}

/// Loads a program. `insns` are instructions of 8 bytes as the host orders
/// them. With a `log`, the verifier writes its log there (level 1), ended by a
/// NUL; `ENOSPC` says that it was too small.
pub fn prog_load(
    prog_type: ProgType,
    name: &str,
    insns: &[u64],
    license: &CStr,
    info: Option<LineInfo<'_>>,
    log: Option<&mut [u8]>,
) -> Result<OwnedFd> {
    let (log_level, log_size, log_buf) = match log {
        Some(buf) => (1, buf.len() as u32, buf.as_mut_ptr() as u64),
        None => (0, 0, 0),
    };
    let (kind, expected_attach_type, attach_btf_id, size) = match prog_type {
        ProgType::Tracepoint => (
            BPF_PROG_TYPE_TRACEPOINT,
            0,
            0,
            offset_of!(ProgLoad, prog_ifindex),
        ),
        ProgType::RawTracepoint => (
            BPF_PROG_TYPE_RAW_TRACEPOINT,
            0,
            0,
            offset_of!(ProgLoad, prog_ifindex),
        ),
        ProgType::Tracing {
            attach_type,
            btf_id,
        } => (
            BPF_PROG_TYPE_TRACING,
            attach_type,
            btf_id,
            size_of::<ProgLoad>(),
        ),
    };
    let mut attr = ProgLoad {
        prog_type: kind,
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level,
        log_size,
        log_buf,
        kern_version: 0,
        prog_flags: 0,
        prog_name: obj_name(name),
        prog_ifindex: 0,
        expected_attach_type,
        prog_btf_fd: 0,
        func_info_rec_size: 0,
        func_info: 0,
        func_info_cnt: 0,
        line_info_rec_size: 0,
        line_info: 0,
        line_info_cnt: 0,
        attach_btf_id,
    };
    let mut size = size;
    if let Some(LineInfo {
        btf,
        function,
        lines,
    }) = info
    {
        attr.prog_btf_fd = btf.as_raw_fd() as u32;
        attr.func_info_rec_size = size_of_val(function) as u32;
        attr.func_info = function.as_ptr() as u64;
        attr.func_info_cnt = 1;
        attr.line_info_rec_size = size_of::<[u32; 4]>() as u32;
        attr.line_info = lines.as_ptr() as u64;
        attr.line_info_cnt = lines.len() as u32;
        size = size.max(offset_of!(ProgLoad, attach_btf_id));
    }
    // SAFETY: insns, license, the function, the lines and the log buffer outlive
    // the call and have the lengths given; the result is a new descriptor.
    Ok(unsafe { own(bpf_part(BPF_PROG_LOAD, &mut attr, size)?) })
}

/// Attaches a program to the tracepoint or function that it was loaded for
/// ([`ProgType::Tracing`]), or to the one of this name
/// ([`ProgType::RawTracepoint`]); detached when the descriptor is closed.
pub fn raw_tracepoint_open(prog: BorrowedFd<'_>, name: Option<&CStr>) -> Result<OwnedFd> {
    let mut attr = RawTracepoint {
        name: name.map_or(0, |name| name.as_ptr() as u64),
        prog_fd: prog.as_raw_fd() as u32,
        pad: 0,
    };
    // SAFETY: the name is NULL, as for every program that names its tracepoint
    // by BTF, or a string that outlives the call; the result is a new descriptor.
    Ok(unsafe { own(bpf(BPF_RAW_TRACEPOINT_OPEN, &mut attr)?) })
}

/// The first `N` words of struct bpf_prog_info; what the kernel doesn't know
/// of is 0.
fn prog_info<const N: usize>(prog: BorrowedFd<'_>) -> Result<[u64; N]> {
    let mut info = [0u64; N];
    let mut attr = ObjInfo {
        bpf_fd: prog.as_raw_fd() as u32,
        info_len: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: info has the length given; all its inner lengths are zero, so the
    // kernel follows no inner pointer.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// Runs of a program that the kernel skipped because another BPF program was
/// active on that CPU (`bpf_prog_info.recursion_misses`, Linux 5.12 and later;
/// 0 before).
pub fn recursion_misses(prog: BorrowedFd<'_>) -> Result<u64> {
    /// Where it is in struct bpf_prog_info, in words.
    const RECURSION_MISSES: usize = 208 / 8;
    Ok(prog_info::<{ RECURSION_MISSES + 1 }>(prog)?[RECURSION_MISSES])
}

/// Whether a program runs as machine code, not interpreted
/// (`bpf_prog_info.jited_prog_len`, the u32 at byte 16).
pub fn is_jited(prog: BorrowedFd<'_>) -> Result<bool> {
    Ok(prog_info::<3>(prog)?[2] as u32 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_the_kernels_layout() {
        assert_eq!(size_of::<MapCreate>(), 44);
        assert_eq!(size_of::<MapElem>(), 32);
        assert_eq!(offset_of!(ProgLoad, prog_name), 48);
        assert_eq!(offset_of!(ProgLoad, prog_ifindex), 64);
        assert_eq!(offset_of!(ProgLoad, expected_attach_type), 68);
        assert_eq!(offset_of!(ProgLoad, attach_btf_id), 108);
        assert_eq!(size_of::<ProgLoad>(), 112);
        assert_eq!(offset_of!(ProgLoad, func_info), 80);
        assert_eq!(offset_of!(ProgLoad, line_info), 96);
        assert_eq!(offset_of!(BtfLoad, btf_size), 16);
        assert_eq!(size_of::<RawTracepoint>(), 16);
        assert_eq!(size_of::<ObjInfo>(), 16);
    }

    #[test]
    fn names_are_cut_and_terminated() {
        assert_eq!(&obj_name("events")[..7], b"events\0");
        assert_eq!(obj_name("a_name_that_is_too_long")[15], 0);
    }
}
