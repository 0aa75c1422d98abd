//! Processes, and the lanes in each: one for as many connections as do not overlap.
//!
//! Contract: a lane has one slice at a time, and each begins later than the one before
//! has ended. A lane's number is no other's, nor that of any process. Memory is bounded:
//! where there are too many processes, all of them are forgotten, and get other lanes.

use super::lines::called;
use crate::model::event::{COMM_LEN, comm};
use crate::model::hash::ByNumber;
use crate::model::text;
use std::hash::{BuildHasher, RandomState};

/// No process has this number (PID_MAX_LIMIT, include/linux/threads.h): it stands for
/// what belongs to none that is known. Lanes have the numbers from there on.
pub(super) const NOBODY: u32 = 4 << 20;

/// Processes that are known at once.
const PROCESSES: usize = 8192;

/// A lane.
#[derive(Debug)]
struct Lane {
    number: u32,
    /// When its latest slice ended; [`TAKEN`] while there is one.
    last: u64,
}

/// A time that never comes.
const TAKEN: u64 = u64::MAX;

/// A process.
#[derive(Debug)]
struct Process {
    pid: u32,
    name: [u8; COMM_LEN],
    lanes: Vec<Lane>,
}

/// A number that nobody outside can foresee, of one that others may choose: once, for it
/// is long.
#[inline(never)]
pub(super) fn hash(keys: &RandomState, number: u64) -> u64 {
    keys.hash_one(number)
}

/// All of them.
#[derive(Debug)]
pub(super) struct Processes {
    all: Vec<Process>,
    /// Their places.
    places: ByNumber<u64, u32>,
    keys: RandomState,
    lanes: u32,
}

impl Default for Processes {
    fn default() -> Processes {
        Processes {
            all: Vec::new(),
            places: ByNumber::default(),
            keys: RandomState::new(),
            lanes: NOBODY,
        }
    }
}

impl Processes {
    fn find(&mut self, pid: u32) -> Option<&mut Process> {
        let place = self.places.get(&hash(&self.keys, pid.into()))?;
        let process = self.all.get_mut(*place as usize);
        process.filter(|process| process.pid == pid)
    }

    /// A process, whose name is said where it is new.
    pub(super) fn name(&mut self, to: &mut Vec<u8>, pid: u32, name: &[u8; COMM_LEN]) {
        match self.find(pid) {
            Some(process) if process.name == *name => return,
            Some(process) => process.name = *name,
            None => {
                if self.all.len() >= PROCESSES {
                    self.all.clear();
                    self.places.clear();
                }
                let place = self.all.len() as u32;
                self.places.insert(hash(&self.keys, pid.into()), place);
                let (name, lanes) = (*name, Vec::new());
                self.all.push(Process { pid, name, lanes });
            }
        }
        let text: &[u8] = match (pid, comm(name)) {
            (NOBODY, _) => b"owner not known",
            (_, name) => name,
        };
        if !text.is_empty() {
            called(to, (pid, pid), "process_name", text);
        }
    }

    /// A lane of a process for what begins at this time; what is new of both is said.
    pub(super) fn take(
        &mut self,
        to: &mut Vec<u8>,
        (pid, name): (u32, &[u8; COMM_LEN]),
        from: u64,
    ) -> u32 {
        self.name(to, pid, name);
        let number = self.lanes + 1;
        let Some(process) = self.find(pid) else {
            return NOBODY;
        };
        if let Some(lane) = process.lanes.iter_mut().find(|lane| lane.last < from) {
            lane.last = TAKEN;
            return lane.number;
        }
        let last = TAKEN;
        process.lanes.push(Lane { number, last });
        let mut name = b"connections ".to_vec();
        text::number(&mut name, process.lanes.len() as u64);
        called(to, (pid, number), "thread_name", &name);
        self.lanes = number;
        number
    }

    /// The slice in a lane has ended.
    pub(super) fn give_back(&mut self, pid: u32, number: u32, last: u64) {
        if let Some(process) = self.find(pid) {
            let mut lanes = process.lanes.iter_mut();
            if let Some(lane) = lanes.find(|lane| lane.number == number) {
                lane.last = last;
            }
        }
    }
}
