//! The processes that are there at the start, by /proc/PID/stat.

use super::process::{NEVER, Process};
use super::{LIVING, Processes};
use crate::host::proc::{Name, Proc};
use crate::model::event::COMM_LEN;
use crate::model::sort;
use crate::sys::time;

/// PF_KTHREAD (include/linux/sched.h), since Linux 2.6.37.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What a `stat` file says (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    name: Name,
    /// Whether the first thread has ended.
    ended: bool,
    parent: u32,
    kernel: bool,
    threads: u32,
    /// When it started, in clock ticks since the boot.
    start: u64,
}

/// The name in there may hold anything, also parentheses and spaces.
fn parse(stat: &[u8]) -> Option<Stat> {
    let from = stat.iter().position(|&b| b == b'(')? + 1;
    let end = stat.iter().rposition(|&b| b == b')')?;
    let comm = stat.get(from..end)?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    // Field 3, the state, is the first one here.
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let flags: u64 = fields.nth(4)?.parse().ok()?;
    let threads = fields.nth(10)?.parse().ok()?;
    let start = fields.nth(1)?.parse().ok()?;
    let mut name = [0; COMM_LEN];
    let len = comm.len().min(COMM_LEN - 1);
    name.get_mut(..len)?.copy_from_slice(comm.get(..len)?);
    Some(Stat {
        name,
        ended: matches!(state, "Z" | "X" | "x"),
        parent,
        kernel: flags & KERNEL_THREAD != 0,
        threads,
        start,
    })
}

impl Processes {
    /// A table of the processes that are there, where /proc can be read. What
    /// becomes of tasks must already be recorded; it is taken later. `kernels_ids`
    /// says that the records' ids, or the events', are those of the kernel's
    /// first PID namespace: then `proc` must be of that, too.
    pub fn open(proc: Option<&Proc>, kernels_ids: bool) -> Processes {
        let first = proc.is_some_and(Proc::is_first_namespace);
        let mut all = Processes::empty(kernels_ids && !first);
        all.first_namespace = first;
        let Some(proc) = proc.filter(|_| !all.blind) else {
            return all;
        };
        let tick = time::tick();
        let slept = time::boottime().saturating_sub(time::monotonic());
        let mut parents = Vec::new();
        let mut whole = true;
        proc.processes(&mut |pid| {
            let before = time::monotonic();
            let stat = match proc.stat(pid) {
                Ok(stat) => parse(&stat),
                // Gone meanwhile.
                Err(gone) => {
                    whole &= gone;
                    return true;
                }
            };
            let after = time::monotonic();
            let Some(stat) = stat else {
                whole = false;
                return true;
            };
            let born = stat.start.saturating_mul(tick).saturating_sub(slept);
            let threads = stat.threads.saturating_sub(u32::from(stat.ended));
            if threads > 0 {
                all.seed(pid, born.min(before), (before, after), threads, &stat);
                parents.push((born, pid, stat.parent));
            }
            all.living < LIVING
        });
        // A /proc with hidepid= hides what is not one's own.
        whole &= all.by_pid.get(1).is_some() && all.living < LIVING;
        sort::by_key(&mut parents, |parent| *parent);
        for (born, pid, parent) in parents {
            let (child, maker) = (all.by_pid.get(pid), all.by_pid.get(parent));
            if let (Some(child), Some(maker)) = (child, maker) {
                all.tree.attach(child, maker, born);
                if let Some(process) = all.tree.get_mut(maker) {
                    process.forked = process.forked.max(born);
                }
            }
        }
        all.whole_since = match whole {
            true => time::monotonic(),
            false => NEVER,
        };
        all
    }

    fn seed(&mut self, pid: u32, born: u64, read: (u64, u64), threads: u32, stat: &Stat) {
        let (before, after) = read;
        let Some(process) = self.insert(pid, born) else {
            return;
        };
        *process = Process {
            news_from: before,
            read_until: after,
            threads: Some(threads),
            kernel: stat.kernel,
            name: stat.name,
            // Field 2 of a worker of the kernel says what it is working at.
            named: if stat.kernel { NEVER } else { after },
            seen: before,
            ..*process
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_hides_nothing() {
        for name in ["plain", "a) R 9 9", "((", ") (", "x y\u{1b}", ""] {
            let line =
                format!("7 ({name}) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 12 0 4711 9 10\n");
            let stat = parse(line.as_bytes()).expect("whole");
            assert_eq!((stat.parent, stat.threads, stat.start), (3, 12, 4711));
            assert_eq!((stat.ended, stat.kernel), (false, false));
            assert_eq!(&stat.name[..name.len()], name.as_bytes());
        }
        let line = b"2 (kthreadd) Z 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 2 0 0";
        let stat = parse(line).expect("whole");
        assert_eq!((stat.ended, stat.kernel), (true, true));
        for broken in [&b""[..], b")(", b"7 (cut) S 3 7", b"7 (x) S -1"] {
            assert_eq!(parse(broken), None);
        }
    }

    #[test]
    fn this_process_is_there() {
        let proc = Proc::open().expect("/proc");
        let all = Processes::open(Some(&proc), false);
        let (pid, parent) = (std::process::id(), std::os::unix::process::parent_id());
        let now = time::monotonic();
        assert_eq!(all.lives(pid, now), Some(true));
        let born = all.born(pid).expect("born");
        assert!(born > 0 && born < now && now - born < 3_600_000_000_000);
        assert_eq!(all.parent(pid), Some(parent));
        assert!(!all.is_kernel_thread(pid));
        assert_eq!(all.is_kernel_thread(2), proc.is_first_namespace());
        // Nobody has that.
        assert_eq!(all.lives(u32::MAX - 1, now), Some(false));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(&text);
        }
    }
}
