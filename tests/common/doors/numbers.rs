//! Every call number, held against the list of calls.
//!
//! Contract: a number that the list lets through only with some arguments counts as
//! refused, for it is called with none that are of use.

use std::path::Path;

use libc::c_long;
use socket_snoop::sandbox::calls::{self, Granted};
use socket_snoop::sys::seccomp;

use super::{Answer, Args, NUMBER, SWEEP, attempt, call};

/// Arguments that no check lets through, and with which no call does anything.
pub(super) const SENSELESS: Args = [-1; 6];
/// Call numbers: more than both architectures' tables have.
const TABLE: std::ops::RangeInclusive<c_long> = 0..=520;

/// uretprobe and uprobe: the kernel's own trampolines, which no filter gets to see
/// since Linux 6.14; from elsewhere they do nothing, or end the process (v6.14
/// arch/x86/kernel/uprobes.c, kernel/seccomp.c).
fn is_trampoline(number: c_long) -> bool {
    cfg!(target_arch = "x86_64") && matches!(number, 335 | 336)
}

/// Whether the list lets a call through whatever its arguments. (What it asks of
/// the arguments of others, no such number fulfils.)
fn is_free(number: c_long) -> bool {
    let rules = calls::rules(&Granted::default());
    rules
        .iter()
        .any(|rule| rule.call == number && rule.checks.is_empty())
}

/// Makes every call that must be refused; those that were not.
pub(super) fn sweep() -> Vec<c_long> {
    let beyond = [1000, 4095, 1 << 20, i32::MAX.into()];
    let numbers = TABLE.chain(beyond);
    let numbers = numbers.filter(|n| !is_free(*n) && !is_trampoline(*n));
    #[cfg(target_arch = "x86_64")]
    let numbers = numbers.chain(TABLE.map(|n| 0x4000_0000 | n));
    let fails = |number: &c_long| {
        let answer = call(*number, SENSELESS);
        let refused = seccomp::take_refused();
        (answer, refused) == (-i64::from(libc::EPERM), Some(*number as i32))
    };
    numbers.filter(|number| !fails(number)).collect()
}

/// Makes every call of the table, and holds what comes of it against the list;
/// how many there were. Err: why it can't be tried here.
pub fn every_number(program: &Path, folder: &Path) -> Result<usize, String> {
    let mut wrong = Vec::new();
    let (swept, said) = attempt(program, "on", SWEEP, folder);
    match swept {
        Answer::NoFilter => return Err(said),
        swept => assert_eq!(swept, Answer::Done, "{said}"),
    }
    let mut count = 0;
    for number in TABLE {
        let modes: &[&str] = match is_free(number) {
            true => &["on", "strict"],
            false => &["strict"],
        };
        for mode in modes {
            let (answer, _) = attempt(program, mode, &format!("{NUMBER}{number}"), folder);
            let refused = matches!(answer, Answer::Refused(_) | Answer::Signal(libc::SIGSYS))
                || is_trampoline(number);
            if refused == is_free(number) {
                wrong.push(format!("{mode} {number}: {answer:?}"));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(count)
}
