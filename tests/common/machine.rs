//! A machine that runs a linked program, of either byte order: memory, maps and
//! the helpers that the programs call.

use socket_snoop::bpf_insn::{
    ALU, ALU64, CLASS, Insn, JMP, JMP32, LD, LDX, PSEUDO_MAP_FD, ST, STX,
};
use socket_snoop::order::{Order, Value};
use std::collections::HashMap;

/// Where things are.
const CONTEXT: u64 = 0x1000_0000;
const STACK_END: u64 = 0x2000_0200;
const VALUES: u64 = 0x3000_0000;
/// The time, always.
pub const NOW: u64 = 0x0102_0304_0506_0708;
pub const TASK: u64 = 0xffff_8881_0000_0000;

/// The task on the CPU.
#[derive(Clone, Copy)]
pub struct OnCpu {
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    pub comm: [u8; 16],
}

impl OnCpu {
    /// None in particular.
    pub const NOBODY: OnCpu = OnCpu {
        pid: 0,
        tid: 0,
        uid: 0,
        comm: [0; 16],
    };
}

pub struct Machine {
    pub order: Order,
    /// Pieces of memory by where they start.
    memory: Vec<(u64, Vec<u8>)>,
    /// Values of maps, by descriptor and key: where they are.
    pub maps: HashMap<(i32, Vec<u8>), u64>,
    pub on_cpu: OnCpu,
    /// What was sent.
    pub sent: Vec<Vec<u8>>,
    /// Whether there is no room for more.
    pub full: bool,
    next: u64,
}

impl Machine {
    pub fn new(order: Order, on_cpu: OnCpu) -> Machine {
        Machine {
            order,
            memory: vec![(STACK_END - 512, vec![0xa5; 512])],
            maps: HashMap::new(),
            on_cpu,
            sent: Vec::new(),
            full: false,
            next: VALUES,
        }
    }

    /// Puts memory there, in place of what was.
    pub fn map(&mut self, at: u64, bytes: Vec<u8>) {
        self.memory.retain(|(start, _)| *start != at);
        self.memory.push((at, bytes));
    }

    fn bytes(&mut self, at: u64, len: usize) -> Option<&mut [u8]> {
        let inside =
            |start: u64, all: &[u8]| at >= start && at + len as u64 <= start + all.len() as u64;
        let piece = self
            .memory
            .iter_mut()
            .find(|(start, all)| inside(*start, all));
        piece.map(|(start, all)| &mut all[(at - *start) as usize..][..len])
    }

    /// What is there.
    pub fn copy(&mut self, at: u64, len: usize) -> Vec<u8> {
        let bytes = self.bytes(at, len);
        bytes
            .unwrap_or_else(|| panic!("nothing at {at:#x}"))
            .to_vec()
    }

    /// Puts bytes on the stack, at this place from r10.
    pub fn stack(&mut self, at: i16, bytes: &[u8]) {
        let at = STACK_END.wrapping_add(at as u64);
        let to = self.bytes(at, bytes.len()).expect("on the stack");
        to.copy_from_slice(bytes);
    }

    /// Gives a map an entry.
    pub fn entry(&mut self, fd: i32, key: Vec<u8>, value: Vec<u8>) {
        self.next += value.len().max(0x1000) as u64;
        self.memory.push((self.next, value));
        self.maps.insert((fd, key), self.next);
    }

    /// The value of the longest prefix that a key has: struct bpf_lpm_trie_key.
    fn longest(&self, fd: i32, key: &[u8]) -> u64 {
        let of = |key: &[u8]| {
            (
                u32::read(key, self.order),
                u128::from_be_bytes(key[8..].try_into().expect("an address")),
            )
        };
        let (_, address) = of(key);
        let own = self
            .maps
            .iter()
            .filter(|((of, other), _)| *of == fd && other[4..8] == key[4..8]);
        let own = own.filter_map(|((_, other), at)| {
            let (len, net) = of(other);
            let alike = (address ^ net).leading_zeros() >= len - 32;
            alike.then_some((len, *at))
        });
        own.max().map_or(0, |(_, at)| at)
    }

    /// Zero for what can't be read, as the kernel does it for members.
    fn load(&mut self, at: u64, len: usize) -> u64 {
        let order = self.order;
        let bytes = self
            .bytes(at, len)
            .map_or(vec![0; len], |bytes| bytes.to_vec());
        match len {
            1 => u8::read(&bytes, order).into(),
            2 => u16::read(&bytes, order).into(),
            4 => u32::read(&bytes, order).into(),
            _ => u64::read(&bytes, order),
        }
    }

    /// Puts the low bytes of a number there.
    pub fn store(&mut self, at: u64, len: usize, value: u64) {
        let order = self.order;
        let to = self
            .bytes(at, len)
            .unwrap_or_else(|| panic!("nothing at {at:#x}"));
        match len {
            1 => (value as u8).write(to, order),
            2 => (value as u16).write(to, order),
            4 => (value as u32).write(to, order),
            _ => value.write(to, order),
        }
    }

    fn call(&mut self, helper: i32, r: [u64; 6]) -> u64 {
        // Descriptors and sizes as in layouts.rs and verifier.rs.
        let sizes = |fd: u64| super::verifier::sizes(fd as i64);
        let key = |m: &mut Machine| (r[1] as i32, m.copy(r[2], sizes(r[1]).0));
        let OnCpu {
            pid,
            tid,
            uid,
            comm,
        } = self.on_cpu;
        match helper {
            1 if r[1] == 4 => {
                let key = key(self);
                *self.maps.entry(key).or_insert_with(|| {
                    self.next += 0x1000;
                    self.memory.push((self.next, vec![0; sizes(4).1]));
                    self.next
                })
            }
            1 if r[1] == 8 => {
                let (_, key) = key(self);
                self.longest(8, &key)
            }
            1 => {
                let key = key(self);
                self.maps.get(&key).copied().unwrap_or(0)
            }
            2 => {
                let (key, value) = (key(self), self.copy(r[3], sizes(r[1]).1));
                if r[4] == 1 && self.maps.contains_key(&key) {
                    return -17i64 as u64;
                }
                self.next += 0x1000;
                self.memory.push((self.next, value));
                self.maps.insert(key, self.next);
                0
            }
            3 => {
                let key = key(self);
                self.maps.remove(&key).map_or(-2i64 as u64, |_| 0)
            }
            5 => NOW,
            8 => 0,
            14 => u64::from(pid) << 32 | u64::from(tid),
            15 => 77 << 32 | u64::from(uid),
            16 => {
                let to = self.bytes(r[1], 16).expect("on the stack");
                to.copy_from_slice(&comm);
                0
            }
            25 if self.full => -28i64 as u64,
            25 => {
                let record = self.copy(r[4], r[5] as usize);
                self.sent.push(record);
                0
            }
            35 | 158 => TASK,
            80 => 4711,
            // Zeros for what can't be read.
            113 => {
                let len = r[2] as usize;
                let from = self.bytes(r[3], len).map(|b| b.to_vec());
                let from = from.unwrap_or_else(|| vec![0; len]);
                self.bytes(r[1], len)
                    .expect("on the stack")
                    .copy_from_slice(&from);
                0
            }
            137 => r[1],
            _ => panic!("helper {helper}"),
        }
    }

    /// Runs a program with this context; gives what it returns.
    pub fn run(&mut self, insns: &[Insn], context: Vec<u8>) -> u64 {
        self.map(CONTEXT, context);
        let mut r = [0u64; 11];
        (r[1], r[10]) = (CONTEXT, STACK_END);
        let mut at = 0;
        loop {
            let insn = insns[at];
            at += 1;
            let (dst, src) = (usize::from(insn.dst), usize::from(insn.src));
            let imm = i64::from(insn.imm) as u64;
            let by_register = insn.code & 8 != 0;
            let len = super::verifier::width(&insn) as usize;
            let place = |base: u64| base.wrapping_add(insn.off as u64);
            match insn.code & CLASS {
                LD => {
                    let high = u64::from(insns[at].imm as u32) << 32;
                    at += 1;
                    r[dst] = match insn.src {
                        PSEUDO_MAP_FD => imm,
                        _ => high | u64::from(insn.imm as u32),
                    };
                }
                LDX => r[dst] = self.load(place(r[src]), len),
                ST => self.store(place(r[dst]), len, imm),
                STX if insn.code & 0xe0 == 0xc0 => {
                    let sum = self.load(place(r[dst]), len).wrapping_add(r[src]);
                    self.store(place(r[dst]), len, sum);
                }
                STX => self.store(place(r[dst]), len, r[src]),
                class @ (ALU | ALU64) => {
                    let value = if by_register { r[src] } else { imm };
                    let result = match insn.code & 0xf0 {
                        0x00 => r[dst].wrapping_add(value),
                        0x10 => r[dst].wrapping_sub(value),
                        0x40 => r[dst] | value,
                        0x50 => r[dst] & value,
                        0x60 => r[dst] << value,
                        0x70 => r[dst] >> value,
                        0xb0 => value,
                        0xc0 if class == ALU64 => (r[dst] as i64 >> value) as u64,
                        0xd0 if by_register && insn.imm == 32 => match self.order {
                            Order::Little => (r[dst] as u32).swap_bytes().into(),
                            Order::Big => u64::from(r[dst] as u32),
                        },
                        // To network order: nothing to do where that is the host's.
                        0xd0 if by_register && insn.imm == 16 => match self.order {
                            Order::Little => (r[dst] as u16).swap_bytes().into(),
                            Order::Big => u64::from(r[dst] as u16),
                        },
                        _ => panic!("{insn}"),
                    };
                    let narrow = class == ALU && insn.code & 0xf0 != 0xd0;
                    r[dst] = if narrow {
                        u64::from(result as u32)
                    } else {
                        result
                    };
                }
                _ if insn == Insn::exit() => return r[0],
                // bpf_rdonly_cast(): the kernel puts a move in its place.
                _ if insn == Insn::kernel_call(insn.imm) => {
                    r[0] = r[1];
                    r[1..6].fill(0xdead_beef);
                }
                _ if insn == Insn::call(insn.imm) => {
                    let arguments = [r[0], r[1], r[2], r[3], r[4], r[5]];
                    r[0] = self.call(insn.imm, arguments);
                    r[1..6].fill(0xdead_beef);
                }
                JMP | JMP32 => {
                    let (a, b) = (r[dst], if by_register { r[src] } else { imm });
                    let taken = match insn.code & 0xf0 {
                        0x00 => true,
                        0x10 => a == b,
                        0x20 => a > b,
                        0x40 => a & b != 0,
                        0x50 => a != b,
                        0x60 => a as i64 > b as i64,
                        0xc0 => (a as i64) < b as i64,
                        0xd0 => a as i64 <= b as i64,
                        _ => panic!("{insn}"),
                    };
                    if taken {
                        at = (at as i64 + i64::from(insn.off)) as usize;
                    }
                }
                _ => panic!("{insn}"),
            }
        }
    }
}
