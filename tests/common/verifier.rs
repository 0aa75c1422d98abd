//! What every kernel asks of a program, as far as it can be seen without one:
//! also what the newest kernels don't ask any more, such as that every byte
//! that is handed to a helper has been written (before about 6.3).

use socket_snoop::bpf::layout::{LI_SIZE, LK_SIZE, LOST_SIZE, OW_HOLDS, OW_KEPT};
use socket_snoop::bpf_insn::{CLASS, FP, Insn, JMP32, LDX, ST, STX};
use std::collections::BTreeMap;

/// The largest program before Linux 5.2, in instructions.
const LONGEST: usize = 4096;

/// Bytes of the stack.
const STACK: usize = 512;

const LOOKUP: i32 = 1;
const UPDATE: i32 = 2;
const DELETE: i32 = 3;
const COMM: i32 = 16;
const OUTPUT: i32 = 25;
const PROBE_READ_KERNEL: i32 = 113;

/// Bytes of a map's key and value, by its descriptor; see tests/common/layouts.rs.
pub fn sizes(fd: i64) -> (usize, usize) {
    match fd {
        4 => (4, LOST_SIZE),
        5 => (8, OW_KEPT),
        6 => (LK_SIZE, LI_SIZE),
        7 => (4, 8192),
        8 => (24, 1),
        9 => (4, 4),
        10 => (8, OW_HOLDS),
        _ => panic!("a map with descriptor {fd}"),
    }
}

/// How many bytes an instruction loads or stores.
pub fn width(insn: &Insn) -> i32 {
    match insn.code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

/// What a register is known to hold.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Value {
    Anything,
    Number(i64),
    /// The stack at this offset from r10.
    Stack(i64),
    Map(i64),
}

#[derive(Clone, PartialEq)]
struct State {
    registers: [Value; 11],
    written: [bool; STACK],
}

impl State {
    fn meet(&mut self, other: &State) {
        for (mine, theirs) in self.registers.iter_mut().zip(&other.registers) {
            if mine != theirs {
                *mine = Value::Anything;
            }
        }
        for (mine, theirs) in self.written.iter_mut().zip(&other.written) {
            *mine &= theirs;
        }
    }

    fn stack(&mut self, at: i64, len: usize) -> &mut [bool] {
        let from = usize::try_from(at + STACK as i64).expect("on the stack");
        &mut self.written[from..from + len]
    }

    /// Where a register points to on the stack.
    fn pointer(&self, register: usize, at: usize) -> i64 {
        match self.registers[register] {
            Value::Stack(offset) => offset,
            other => panic!("{at}: r{register} is {other:?}, not on the stack"),
        }
    }

    fn number(&self, register: usize, at: usize) -> usize {
        match self.registers[register] {
            Value::Number(n) => usize::try_from(n).expect("a length"),
            other => panic!("{at}: r{register} is {other:?}, not a number"),
        }
    }

    fn wants(&mut self, register: usize, len: usize, at: usize) {
        let from = self.pointer(register, at);
        let missing = self.stack(from, len).iter().position(|w| !w);
        if let Some(n) = missing {
            panic!("{at}: r10{:+} may not have been written", from + n as i64);
        }
    }

    /// What a call reads and writes; the sizes that it sends.
    fn call(&mut self, helper: i32, at: usize, sent: &mut Vec<usize>) {
        let sizes = |state: &State| match state.registers[1] {
            Value::Map(fd) => sizes(fd),
            other => panic!("{at}: r1 is {other:?}, not a map"),
        };
        match helper {
            LOOKUP | DELETE => {
                let (key, _) = sizes(self);
                self.wants(2, key, at);
            }
            UPDATE => {
                let (key, value) = sizes(self);
                self.wants(2, key, at);
                self.wants(3, value, at);
            }
            COMM | PROBE_READ_KERNEL => {
                let (to, len) = (self.pointer(1, at), self.number(2, at));
                self.stack(to, len).fill(true);
            }
            OUTPUT => {
                let len = self.number(5, at);
                assert_eq!(self.registers[2], Value::Map(3), "{at}");
                self.wants(4, len, at);
                sent.push(len);
            }
            _ => {}
        }
        self.registers[..6].fill(Value::Anything);
    }

    fn step(&mut self, insn: &Insn, next: Option<&Insn>, at: usize, sent: &mut Vec<usize>) {
        let dst = insn.dst as usize;
        let number = Value::Number(insn.imm.into());
        if *insn == Insn::kernel_call(insn.imm) {
            // bpf_rdonly_cast() wants a type's number.
            self.number(2, at);
            return self.registers[..6].fill(Value::Anything);
        }
        if insn.code == 0x85 {
            return self.call(insn.imm, at, sent);
        }
        if insn.is_wide() {
            let low = i64::from(insn.imm as u32);
            let high = i64::from(next.expect("two slots").imm);
            self.registers[dst] = match insn.src {
                1 => Value::Map(low),
                _ => Value::Number(high << 32 | low),
            };
            return;
        }
        match insn.code & CLASS {
            ST | STX => {
                if let (Value::Stack(base), true) = (self.registers[dst], insn.code & 0xe0 == 0x60)
                {
                    let to = base + i64::from(insn.off);
                    self.stack(to, width(insn) as usize).fill(true);
                }
            }
            LDX => {
                if let Value::Stack(base) = self.registers[insn.src as usize] {
                    let from = base + i64::from(insn.off);
                    let all = self.stack(from, width(insn) as usize).iter().all(|w| *w);
                    assert!(all, "{at}: {insn} reads what may not have been written");
                }
                self.registers[dst] = Value::Anything;
            }
            5 | 6 => {}
            _ => {
                self.registers[dst] = match (insn.code, self.registers[dst]) {
                    (0xb7, _) => number,
                    (0xbf, _) => self.registers[insn.src as usize],
                    (0x07, Value::Stack(base)) => Value::Stack(base + i64::from(insn.imm)),
                    (0x07, Value::Number(n)) => Value::Number(n + i64::from(insn.imm)),
                    _ => Value::Anything,
                };
            }
        }
    }
}

/// Checks a whole program; the sizes of the events that it may send, in bytes.
pub fn check(insns: &[Insn]) -> Vec<usize> {
    assert!(insns.len() <= LONGEST, "{} instructions", insns.len());
    let mut start = State {
        registers: [Value::Anything; 11],
        written: [false; STACK],
    };
    start.registers[FP as usize] = Value::Stack(0);
    // By what r5 and r8 hold, so that an event of one size isn't taken for one of the other.
    let mut states: Vec<BTreeMap<String, State>> = vec![BTreeMap::new(); insns.len()];
    states[0].insert(String::new(), start);
    let mut sent = Vec::new();
    let mut second = false;
    for (at, insn) in insns.iter().enumerate() {
        if std::mem::replace(&mut second, insn.is_wide()) {
            continue;
        }
        assert_eq!(insn.check(), Ok(()), "{at}: {insn}");
        assert_ne!(insn.code & CLASS, JMP32, "{at}: {insn} needs Linux 5.1");
        assert!(!insn.is_jump() || insn.off >= 0, "{at}: {insn} is a loop");
        let memory = matches!(insn.code & CLASS, ST | STX | LDX);
        let through = match insn.code & CLASS {
            LDX => insn.src,
            _ => insn.dst,
        };
        if memory && through == FP {
            let aligned = i32::from(insn.off) % width(insn) == 0;
            assert!(aligned, "{at}: {insn} is not aligned");
        }
        let before = std::mem::take(&mut states[at]);
        assert!(!before.is_empty(), "{at}: {insn} can't be reached");
        for mut state in before.into_values() {
            state.step(insn, insns.get(at + 1), at, &mut sent);
            let mut go = |to: usize| {
                let key = format!("{:?} {:?}", state.registers[5], state.registers[8]);
                states[to]
                    .entry(key)
                    .and_modify(|there| there.meet(&state))
                    .or_insert_with(|| state.clone());
            };
            let after = at + if insn.is_wide() { 2 } else { 1 };
            let jump = insn.is_jump();
            if jump {
                go((after as i64 + i64::from(insn.off)) as usize);
            }
            // 0x05 goes always, 0x95 is the end.
            if insn.code != 0x05 && insn.code != 0x95 {
                assert!(after < insns.len(), "it runs off its end");
                go(after);
            }
        }
    }
    sent.sort_unstable();
    sent.dedup();
    sent
}
