//! Independent witnesses in the kernel: a counter and a sampler on a
//! tracepoint (plain perf events without any BPF program) and the list of
//! loaded BPF programs.
//!
//! # Safety
//! The system calls here get pointers to live, zero-initialised memory of the
//! size they are told; the mapped ring is unmapped with the size it was mapped
//! with and is only read through atomics and raw reads inside its bounds.
#![allow(unsafe_code, reason = "makes system calls")]

use std::fs::{self, File};
use std::io::{Error, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::mount::{MsFlags, mount};

use super::net::in_mount_ns;

/// Mounts tracefs where it belongs, unless it is there; for use in a mount
/// namespace of the test's own.
pub fn show_tracefs() {
    const PLACE: &str = "/sys/kernel/tracing";
    if fs::metadata(format!("{PLACE}/events")).is_err() {
        let (kind, none) = (Some("tracefs"), None::<&str>);
        mount(kind, PLACE, kind, MsFlags::empty(), none).expect("mount tracefs");
    }
}

/// A file under tracefs, mounted only for this look.
pub fn tracefs(path: &str) -> String {
    let path = format!("/sys/kernel/tracing/{path}");
    let read = move || {
        show_tracefs();
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    in_mount_ns(read).expect("a mount namespace of our own")
}

/// The CPUs that are online.
pub fn online_cpus<T: TryFrom<i32>>() -> Vec<T> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").expect("online CPUs");
    text.trim()
        .split(',')
        .flat_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            from.parse::<i32>().unwrap()..=to.parse::<i32>().unwrap()
        })
        .map(|cpu| T::try_from(cpu).ok().expect("a CPU's number"))
        .collect()
}

/// PERF_TYPE_TRACEPOINT on one CPU, all processes (perf_event_open(2)).
fn open(id: u64, cpu: i32, sample: bool) -> File {
    const PERF_TYPE_TRACEPOINT: u64 = 2;
    const PERF_ATTR_SIZE_VER0: u64 = 64;
    const PERF_SAMPLE_RAW: u64 = 1 << 10;
    const PERF_FLAG_FD_CLOEXEC: u64 = 1 << 3;
    let mut attr = [0u64; 8];
    attr[0] = PERF_TYPE_TRACEPOINT | PERF_ATTR_SIZE_VER0 << 32;
    attr[1] = id;
    if sample {
        attr[2] = 1;
        attr[3] = PERF_SAMPLE_RAW;
    }
    // SAFETY: the attributes live as long as the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attr.as_ptr(),
            -1,
            cpu,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    assert!(fd >= 0, "perf_event_open: {}", Error::last_os_error());
    // SAFETY: a new descriptor that nothing else owns.
    unsafe { File::from_raw_fd(fd as i32) }
}

fn id_of(event: &str) -> u64 {
    tracefs(&format!("events/{event}/id"))
        .trim()
        .parse()
        .unwrap()
}

/// The tracepoints whose events are lines of the output.
pub const LINES: [&str; 3] = [
    "sock/inet_sock_set_state",
    "tcp/tcp_retransmit_skb",
    "tcp/tcp_retransmit_synack",
];

/// All tracepoints that are traced: an event of each can be lost.
pub const ALL: [&str; 6] = [
    LINES[0],
    LINES[1],
    LINES[2],
    "tcp/tcp_send_reset",
    "tcp/tcp_receive_reset",
    "tcp/tcp_destroy_sock",
];

/// Whether this kernel has the tracepoint.
pub fn has_tracepoint(event: &str) -> bool {
    let place = format!("/sys/kernel/tracing/events/{event}/id");
    let there = move || {
        show_tracefs();
        fs::metadata(place).is_ok()
    };
    in_mount_ns(there).expect("a mount namespace of our own")
}

/// The kernel's own count of the passes through tracepoints, host-wide.
pub struct Counter(Vec<File>);

impl Counter {
    /// Starts to count; `events` such as `sock/inet_sock_set_state`.
    pub fn new(events: &[&str]) -> Counter {
        let mut files = Vec::new();
        for event in events {
            let id = id_of(event);
            files.extend(
                online_cpus()
                    .into_iter()
                    .map(|cpu: i32| open(id, cpu, false)),
            );
        }
        Counter(files)
    }

    /// Starts to count those of one event whose fields are so, as the tracepoint's
    /// `filter` file takes it.
    pub fn filtered(event: &str, filter: &str) -> Counter {
        const PERF_EVENT_IOC_SET_FILTER: u64 = 0x4008_2406;
        let counter = Counter::new(&[event]);
        let filter = std::ffi::CString::new(filter).expect("a text");
        for file in &counter.0 {
            // SAFETY: the filter lives as long as the call.
            let set = unsafe {
                libc::ioctl(
                    file.as_raw_fd(),
                    PERF_EVENT_IOC_SET_FILTER as _,
                    filter.as_ptr(),
                )
            };
            assert!(set == 0, "{filter:?}: {}", Error::last_os_error());
        }
        counter
    }

    /// The count so far.
    pub fn read(&self) -> u64 {
        let one = |mut file: &File| {
            let mut count = [0; 8];
            file.read_exact(&mut count).expect("read the counter");
            u64::from_ne_bytes(count)
        };
        self.0.iter().map(one).sum()
    }
}

/// Another perf user: samples of a tracepoint with their raw data.
pub struct Sampler(Vec<Ring>);

struct Ring {
    _event: File,
    base: *mut u8,
    tail: u64,
}

const PAGE: usize = 4096;
const RING: usize = 256 * PAGE;

impl Sampler {
    /// Starts to sample one event such as `sock/inet_sock_set_state`.
    pub fn new(event: &str) -> Sampler {
        let id = id_of(event);
        let ring = |cpu| {
            let file = open(id, cpu, true);
            // SAFETY: a new mapping, placed by the kernel.
            let base = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    PAGE + RING,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED,
                    file.as_raw_fd(),
                    0,
                )
            };
            assert!(base != libc::MAP_FAILED, "{}", Error::last_os_error());
            Ring {
                _event: file,
                base: base.cast(),
                tail: 0,
            }
        };
        Sampler(online_cpus().into_iter().map(ring).collect())
    }

    /// Samples since the last call; none may be lost.
    pub fn drain(&mut self) -> u64 {
        self.0.iter_mut().map(Ring::drain).sum()
    }
}

impl Ring {
    fn drain(&mut self) -> u64 {
        const DATA_HEAD: usize = 1024;
        const DATA_TAIL: usize = 1032;
        const PERF_RECORD_LOST: u32 = 2;
        const PERF_RECORD_SAMPLE: u32 = 9;
        // SAFETY: an aligned word of the control page.
        let at = |offset| unsafe { &*self.base.add(offset).cast::<AtomicU64>() };
        let head = at(DATA_HEAD).load(Ordering::Acquire);
        let mut samples = 0;
        while self.tail < head {
            // Records are 8-byte aligned, so their header never straddles.
            let offset = PAGE + (self.tail as usize & (RING - 1));
            // SAFETY: an aligned word within the mapping.
            let header = unsafe { self.base.add(offset).cast::<u64>().read() };
            let kind = header as u32;
            assert_ne!(kind, PERF_RECORD_LOST, "the sampler's own ring was full");
            samples += u64::from(kind == PERF_RECORD_SAMPLE);
            let size = header >> 48;
            assert!(size >= 8, "a record of {size} bytes");
            self.tail += size;
        }
        at(DATA_TAIL).store(self.tail, Ordering::Release);
        samples
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: base and length are of the mapping made in `new`.
        unsafe { libc::munmap(self.base.cast(), PAGE + RING) };
    }
}

fn bpf(command: i32, attr: &mut [u64; 8]) -> Result<i32, Error> {
    let size = size_of_val(attr);
    // SAFETY: the attributes live as long as the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size) };
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(result as i32)
}

const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;

/// While this lives, the kernel measures what programs cost
/// (BPF_ENABLE_STATS, Linux 5.8).
pub fn measure_programs() -> Result<File, Error> {
    const BPF_ENABLE_STATS: i32 = 32;
    // Type BPF_STATS_RUN_TIME is 0.
    let fd = bpf(BPF_ENABLE_STATS, &mut [0; 8])?;
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// The ids of the BPF programs that a process holds, by its descriptors, of which
/// there may be one of the program and one of what attaches it.
pub fn programs_of(pid: u32) -> Vec<u32> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("fdinfo");
    let id = |text: String| {
        let line = text.lines().find_map(|l| l.strip_prefix("prog_id:"))?;
        line.trim().parse().ok()
    };
    let mut ids: Vec<u32> = files
        .flatten()
        .filter_map(|file| fs::read_to_string(file.path()).ok())
        .filter_map(id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Name of a program, the nanoseconds it ran and how often.
pub fn program_runs(id: u32) -> Result<(String, u64, u64), Error> {
    let info = Program::held(id)?.info()?;
    Ok((program_name(&info), number(&info, 192), number(&info, 200)))
}

/// A program that is kept in the kernel, for it to be asked after its end.
pub struct Program(File);

impl Program {
    /// That of this descriptor.
    pub fn of(file: File) -> Program {
        Program(file)
    }

    /// That with this id.
    pub fn held(id: u32) -> Result<Program, Error> {
        const BPF_PROG_GET_FD_BY_ID: i32 = 13;
        let mut attr = [0; 8];
        attr[0] = u64::from(id);
        let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut attr)?;
        // SAFETY: a new descriptor that nothing else owns.
        Ok(Program(unsafe { File::from_raw_fd(fd) }))
    }

    /// Its name, how often it ran while [`measure_programs`] lived, and how often
    /// the kernel says that it left it out (Linux 5.12).
    pub fn runs(&self) -> Result<(String, u64, u64), Error> {
        let info = self.info()?;
        Ok((program_name(&info), number(&info, 200), number(&info, 208)))
    }

    /// Its instructions as the kernel runs them (`bpftool prog dump xlated`).
    pub fn xlated(&self) -> Result<Vec<u64>, Error> {
        let len = number(&self.info()?, 16) >> 32;
        let mut insns = vec![0u64; len as usize / 8];
        let mut info = [0u8; 216];
        info[20..24].copy_from_slice(&(len as u32).to_ne_bytes());
        info[32..40].copy_from_slice(&(insns.as_mut_ptr() as u64).to_ne_bytes());
        self.ask(&mut info)?;
        Ok(insns)
    }

    fn info(&self) -> Result<ProgramInfo, Error> {
        let mut info = [0u8; 216];
        self.ask(&mut info)?;
        Ok(info)
    }

    fn ask(&self, info: &mut ProgramInfo) -> Result<(), Error> {
        let mut attr = [0; 8];
        attr[0] = self.0.as_raw_fd() as u64 | (info.len() as u64) << 32;
        attr[1] = info.as_mut_ptr() as u64;
        bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
    }
}

/// The name of the map with this id, if there is one.
pub fn map_name(id: u32) -> Option<String> {
    const BPF_MAP_GET_FD_BY_ID: i32 = 14;
    let mut attr = [0; 8];
    attr[0] = u64::from(id);
    let fd = bpf(BPF_MAP_GET_FD_BY_ID, &mut attr).ok()?;
    // SAFETY: a new descriptor that nothing else owns.
    let map = unsafe { File::from_raw_fd(fd) };
    // struct bpf_map_info up to its name.
    let mut info = [0u8; 40];
    let mut attr = [0; 8];
    attr[0] = map.as_raw_fd() as u64 | (info.len() as u64) << 32;
    attr[1] = info.as_mut_ptr() as u64;
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).ok()?;
    let name = info[24..].iter().copied().take_while(|&b| b != 0);
    String::from_utf8(name.collect()).ok()
}

/// struct bpf_prog_info, include/uapi/linux/bpf.h.
type ProgramInfo = [u8; 216];

fn number(info: &ProgramInfo, at: usize) -> u64 {
    u64::from_ne_bytes(info[at..at + 8].try_into().unwrap())
}

fn program_name(info: &ProgramInfo) -> String {
    let name = info[64..80].iter().copied().take_while(|&b| b != 0);
    String::from_utf8_lossy(&name.collect::<Vec<u8>>()).into_owned()
}

/// Id and name of every loaded BPF program, as `bpftool prog` lists them.
pub fn programs() -> Result<Vec<(u32, String)>, Error> {
    const BPF_PROG_GET_NEXT_ID: i32 = 11;
    let mut list = Vec::new();
    let mut id = 0u32;
    loop {
        let mut attr = [0; 8];
        attr[0] = u64::from(id);
        match bpf(BPF_PROG_GET_NEXT_ID, &mut attr) {
            Ok(_) => id = (attr[0] >> 32) as u32,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(list),
            Err(e) => return Err(e),
        }
        // One that went away in the meantime is none of ours.
        let Ok(info) = Program::held(id).and_then(|program| program.info()) else {
            continue;
        };
        list.push((id, program_name(&info)));
    }
}
