//! One BPF instruction: build, encode, decode, check, display.
//!
//! The text is the dialect that `bpftool prog dump xlated`, llvm-objdump and the verifier's log share, and what
//! [`crate::bpf_asm`] reads back: for every instruction that [`Insn::check`] takes, assembling its text gives the
//! same instruction again. The set is the one every kernel since 4.16 knows, plus the 32-bit compares of 5.1:
//! no sign-extending moves or loads, no `bswap`, no atomics but add (kernel source: v6.12,
//! Documentation/bpf/standardization/instruction-set.rst), and the call of a function by its number in BTF (5.13). Nothing here allocates. Shared with build.rs.

use core::fmt;

// A path, because build.rs includes this file by one.
#[path = "bpf_insn/text.rs"]
mod shown;
pub use shown::text;

/// Class: loads of a 64-bit immediate.
pub const LD: u8 = 0x00;
/// Class: loads from memory.
pub const LDX: u8 = 0x01;
/// Class: stores of an immediate.
pub const ST: u8 = 0x02;
/// Class: stores of a register.
pub const STX: u8 = 0x03;
/// Class: 32-bit arithmetic (`w` registers).
pub const ALU: u8 = 0x04;
/// Class: jumps with 64-bit compares.
pub const JMP: u8 = 0x05;
/// Class: jumps with 32-bit compares (kernel 5.1 and later).
pub const JMP32: u8 = 0x06;
/// Class: 64-bit arithmetic (`r` registers).
pub const ALU64: u8 = 0x07;
/// The mask of the class in [`Insn::code`].
pub const CLASS: u8 = 0x07;

/// Opcode of the first slot of a 64-bit immediate.
pub const LD_IMM64: u8 = 0x18;
/// `src` of a 64-bit immediate that is a map's file descriptor: `BPF_PSEUDO_MAP_FD` (include/uapi/linux/bpf.h).
pub const PSEUDO_MAP_FD: u8 = 1;
/// `src` of a call of a function of the kernel that is no helper: `BPF_PSEUDO_KFUNC_CALL`.
pub const PSEUDO_KFUNC_CALL: u8 = 2;
/// The frame pointer: readable only.
pub const FP: u8 = 10;

const MODE: u8 = 0xe0;
const MEM: u8 = 0x60;
const ATOMIC: u8 = 0xc0;
const SIZE: u8 = 0x18;
const OP: u8 = 0xf0;
const X: u8 = 0x08;
const NEG: u8 = 0x80;
const END: u8 = 0xd0;
const GOTO: u8 = JMP;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// The helpers known by name, with their numbers (include/uapi/linux/bpf.h, `___BPF_FUNC_MAPPER`).
pub const HELPERS: &[(&str, i32)] = &[
    ("bpf_map_lookup_elem", 1),
    ("bpf_map_update_elem", 2),
    ("bpf_map_delete_elem", 3),
    ("bpf_probe_read", 4),
    ("bpf_ktime_get_ns", 5),
    ("bpf_get_smp_processor_id", 8),
    ("bpf_tail_call", 12),
    ("bpf_get_current_pid_tgid", 14),
    ("bpf_get_current_uid_gid", 15),
    ("bpf_get_current_comm", 16),
    ("bpf_perf_event_output", 25),
    ("bpf_get_current_task", 35),
    ("bpf_get_current_cgroup_id", 80),
    ("bpf_probe_read_user", 112),
    ("bpf_probe_read_kernel", 113),
    ("bpf_ktime_get_boot_ns", 125),
    ("bpf_skc_to_tcp_sock", 137),
    ("bpf_get_current_task_btf", 158),
];

/// The width of a load or store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Size {
    /// 1 byte.
    B = 0x10,
    /// 2 bytes.
    H = 0x08,
    /// 4 bytes.
    W = 0x00,
    /// 8 bytes.
    Dw = 0x18,
}

impl Size {
    /// The width of `bytes` bytes, if there is one.
    pub const fn from_bytes(bytes: u16) -> Option<Size> {
        match bytes {
            1 => Some(Size::B),
            2 => Some(Size::H),
            4 => Some(Size::W),
            8 => Some(Size::Dw),
            _ => None,
        }
    }

    /// How many bytes it moves.
    pub const fn bytes(self) -> u16 {
        match self {
            Size::B => 1,
            Size::H => 2,
            Size::W => 4,
            Size::Dw => 8,
        }
    }

    const fn of(code: u8) -> Size {
        match code & SIZE {
            0x10 => Size::B,
            0x08 => Size::H,
            0x00 => Size::W,
            _ => Size::Dw,
        }
    }
}

/// An arithmetic operation with two operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the instruction set's")]
pub enum Alu {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Div = 0x30,
    Or = 0x40,
    And = 0x50,
    Lsh = 0x60,
    Rsh = 0x70,
    Mod = 0x90,
    Xor = 0xa0,
    Mov = 0xb0,
    Arsh = 0xc0,
}

impl Alu {
    /// Every operation with its sign.
    pub const ALL: [(Alu, &'static str); 12] = [
        (Alu::Add, "+="),
        (Alu::Sub, "-="),
        (Alu::Mul, "*="),
        (Alu::Div, "/="),
        (Alu::Or, "|="),
        (Alu::And, "&="),
        (Alu::Lsh, "<<="),
        (Alu::Rsh, ">>="),
        (Alu::Mod, "%="),
        (Alu::Xor, "^="),
        (Alu::Mov, "="),
        (Alu::Arsh, "s>>="),
    ];
}

/// A comparison of a conditional jump. `S…` are signed; `Set` is "any common bit" (`&`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the instruction set's")]
pub enum Cmp {
    Eq = 0x10,
    Gt = 0x20,
    Ge = 0x30,
    Set = 0x40,
    Ne = 0x50,
    Sgt = 0x60,
    Sge = 0x70,
    Lt = 0xa0,
    Le = 0xb0,
    Slt = 0xc0,
    Sle = 0xd0,
}

impl Cmp {
    /// Every comparison with its sign.
    pub const ALL: [(Cmp, &'static str); 11] = [
        (Cmp::Eq, "=="),
        (Cmp::Gt, ">"),
        (Cmp::Ge, ">="),
        (Cmp::Set, "&"),
        (Cmp::Ne, "!="),
        (Cmp::Sgt, "s>"),
        (Cmp::Sge, "s>="),
        (Cmp::Lt, "<"),
        (Cmp::Le, "<="),
        (Cmp::Slt, "s<"),
        (Cmp::Sle, "s<="),
    ];
}

/// The second operand of arithmetic and compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// A register, 0..=10.
    Reg(u8),
    /// An immediate; 64-bit operations extend its sign.
    Imm(i32),
}

/// One slot of 8 bytes. The fields are the raw ones; registers are 0..=10 in every valid instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Insn {
    /// Operation and class.
    pub code: u8,
    /// The register written, or the base of a store's address, or a compare's left side.
    pub dst: u8,
    /// The register read.
    pub src: u8,
    /// Bytes from the base register, or instructions from the one after this.
    pub off: i16,
    /// The immediate.
    pub imm: i32,
}

/// Why an instruction is not one. The text is one line without the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InsnError {
    /// The operation does not exist, or is not in the supported set.
    Code(u8),
    /// A register beyond r10.
    Register(u8),
    /// A write to the frame pointer.
    WriteFp,
    /// A field that this operation does not use is not zero.
    Reserved,
    /// A shift by the register's width or more.
    Shift(i32),
    /// A division by an immediate zero.
    DivideByZero,
    /// A byte swap of other than 16, 32 or 64 bits.
    Swap(i32),
}

impl fmt::Display for InsnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InsnError::Code(code) => write!(f, "unknown operation {code:#04x}"),
            InsnError::Register(n) => write!(f, "unknown register r{n}: the last is r10"),
            InsnError::WriteFp => f.write_str("r10 is the frame pointer and can't be written"),
            InsnError::Reserved => {
                f.write_str("a field that the operation does not use is not zero")
            }
            InsnError::Shift(by) => write!(f, "shift by {by} bits is outside the register"),
            InsnError::DivideByZero => f.write_str("division by zero"),
            InsnError::Swap(bits) => write!(f, "byte swap of {bits} bits: it must be 16, 32 or 64"),
        }
    }
}

impl core::error::Error for InsnError {}

impl Insn {
    const fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
        Insn {
            code,
            dst,
            src,
            off,
            imm,
        }
    }

    const fn binary(code: u8, dst: u8, operand: Operand, off: i16) -> Insn {
        match operand {
            Operand::Reg(src) => Insn::new(code | X, dst, src, off, 0),
            Operand::Imm(imm) => Insn::new(code, dst, 0, off, imm),
        }
    }

    /// `dst op operand`, on 64 bits if `wide`, else on 32.
    pub const fn alu(wide: bool, op: Alu, dst: u8, operand: Operand) -> Insn {
        let class = if wide { ALU64 } else { ALU };
        Insn::binary(class | op as u8, dst, operand, 0)
    }

    /// `dst = -dst`.
    pub const fn neg(wide: bool, dst: u8) -> Insn {
        let class = if wide { ALU64 } else { ALU };
        Insn::new(class | NEG, dst, 0, 0, 0)
    }

    /// `dst = be16 dst` and its kin; `bits` is 16, 32 or 64.
    pub const fn swap(big: bool, bits: i32, dst: u8) -> Insn {
        let x = if big { X } else { 0 };
        Insn::new(ALU | END | x, dst, 0, 0, bits)
    }

    /// `dst = *(size *)(src + off)`.
    pub const fn load(size: Size, dst: u8, src: u8, off: i16) -> Insn {
        Insn::new(LDX | MEM | size as u8, dst, src, off, 0)
    }

    /// `*(size *)(dst + off) = operand`.
    pub const fn store(size: Size, dst: u8, off: i16, operand: Operand) -> Insn {
        match operand {
            Operand::Reg(src) => Insn::new(STX | MEM | size as u8, dst, src, off, 0),
            Operand::Imm(imm) => Insn::new(ST | MEM | size as u8, dst, 0, off, imm),
        }
    }

    /// `lock *(size *)(dst + off) += src`; `size` is 4 or 8 bytes.
    pub const fn atomic_add(size: Size, dst: u8, off: i16, src: u8) -> Insn {
        Insn::new(STX | ATOMIC | size as u8, dst, src, off, 0)
    }

    /// `goto off`.
    pub const fn goto(off: i16) -> Insn {
        Insn::new(GOTO, 0, 0, off, 0)
    }

    /// `if dst cmp operand goto off`, on 64 bits if `wide`, else on 32.
    pub const fn branch(wide: bool, cmp: Cmp, dst: u8, operand: Operand, off: i16) -> Insn {
        let class = if wide { JMP } else { JMP32 };
        Insn::binary(class | cmp as u8, dst, operand, off)
    }

    /// `call helper`.
    pub const fn call(helper: i32) -> Insn {
        Insn::new(CALL, 0, 0, 0, helper)
    }

    /// `call kernel function`: by its number in the kernel's BTF.
    pub const fn kernel_call(function: i32) -> Insn {
        Insn::new(CALL, 0, PSEUDO_KFUNC_CALL, 0, function)
    }

    /// `exit`.
    pub const fn exit() -> Insn {
        Insn::new(EXIT, 0, 0, 0, 0)
    }

    /// The two slots of `dst = value ll`.
    pub const fn wide(dst: u8, value: u64) -> [Insn; 2] {
        [
            Insn::new(LD_IMM64, dst, 0, 0, value as i32),
            Insn::new(0, 0, 0, 0, (value >> 32) as i32),
        ]
    }

    /// The two slots of `dst = map[fd:N] ll`.
    pub const fn map_fd(dst: u8, fd: i32) -> [Insn; 2] {
        [
            Insn::new(LD_IMM64, dst, PSEUDO_MAP_FD, 0, fd),
            Insn::new(0, 0, 0, 0, 0),
        ]
    }

    /// All of it in one number, the same on every host. Registers beyond 15 lose their upper bits.
    pub const fn encode(self) -> u64 {
        self.code as u64
            | ((self.dst & 15) as u64) << 8
            | ((self.src & 15) as u64) << 12
            | (self.off as u16 as u64) << 16
            | (self.imm as u32 as u64) << 32
    }

    /// The 8 bytes that a kernel of this byte order takes (include/uapi/linux/bpf.h, struct bpf_insn). The registers
    /// are bit fields, the order of which follows that of bytes.
    pub const fn bytes(self, big_endian: bool) -> [u8; 8] {
        let (dst, src) = (self.dst & 15, self.src & 15);
        if big_endian {
            let ([a, b], [c, d, e, f]) = (self.off.to_be_bytes(), self.imm.to_be_bytes());
            [self.code, dst << 4 | src, a, b, c, d, e, f]
        } else {
            let ([a, b], [c, d, e, f]) = (self.off.to_le_bytes(), self.imm.to_le_bytes());
            [self.code, src << 4 | dst, a, b, c, d, e, f]
        }
    }

    /// The bytes that this host's kernel takes, as a number of this host.
    pub const fn native(self) -> u64 {
        u64::from_ne_bytes(self.bytes(cfg!(target_endian = "big")))
    }

    /// The fields of 8 bytes, unchecked: `Insn::decode(x).encode() == x` for every `x`.
    pub const fn decode(raw: u64) -> Insn {
        Insn {
            code: raw as u8,
            dst: (raw >> 8) as u8 & 15,
            src: (raw >> 12) as u8 & 15,
            off: (raw >> 16) as i16,
            imm: (raw >> 32) as i32,
        }
    }

    /// Whether this is the first slot of two.
    pub const fn is_wide(self) -> bool {
        self.code == LD_IMM64
    }

    /// Whether it takes its distance from `off`: `goto` and the conditional jumps, not `call` and `exit`.
    pub const fn is_jump(self) -> bool {
        matches!(self.code & CLASS, JMP | JMP32) && self.code != CALL && self.code != EXIT
    }

    /// The arithmetic operation, if it is one with two operands.
    fn alu_op(self) -> Option<&'static str> {
        Alu::ALL
            .iter()
            .find(|(op, _)| *op as u8 == self.code & OP)
            .map(|(_, sign)| *sign)
    }

    /// The comparison, if it is a conditional jump.
    fn cmp_op(self) -> Option<&'static str> {
        Cmp::ALL
            .iter()
            .find(|(op, _)| *op as u8 == self.code & OP)
            .map(|(_, sign)| *sign)
    }

    /// Whether this is an instruction of the supported set with every unused field zero.
    ///
    /// # Errors
    /// The first thing wrong. The second slot of a 64-bit immediate is no instruction of its own.
    pub fn check(self) -> Result<(), InsnError> {
        let unknown = Err(InsnError::Code(self.code));
        for register in [self.dst, self.src] {
            if register > FP {
                return Err(InsnError::Register(register));
            }
        }
        let class = self.code & CLASS;
        let writes = matches!(class, LD | LDX | ALU | ALU64);
        let zero = |used_src: bool, used_off: bool, used_imm: bool| {
            (used_src || self.src == 0)
                && (used_off || self.off == 0)
                && (used_imm || self.imm == 0)
        };
        let register = self.code & X != 0;
        let clean = match class {
            LD if self.code == LD_IMM64 => self.src <= PSEUDO_MAP_FD && self.off == 0,
            LDX if self.code & MODE == MEM => zero(true, true, false),
            ST if self.code & MODE == MEM => zero(false, true, true),
            STX if self.code & MODE == MEM => zero(true, true, false),
            STX if self.code & MODE == ATOMIC && matches!(self.code & SIZE, 0x00 | 0x18) => {
                zero(true, true, false)
            }
            ALU | ALU64 if self.code & OP == NEG && !register => zero(false, false, false),
            ALU if self.code & OP == END => {
                if !matches!(self.imm, 16 | 32 | 64) {
                    return Err(InsnError::Swap(self.imm));
                }
                zero(false, false, true)
            }
            ALU | ALU64 if self.alu_op().is_some() => {
                self.check_immediate()?;
                zero(register, false, !register)
            }
            JMP if self.code == GOTO => self.dst == 0 && zero(false, true, false),
            JMP if self.code == CALL => {
                let of_kernel = self.src == PSEUDO_KFUNC_CALL;
                self.dst == 0 && zero(of_kernel, false, true)
            }
            JMP if self.code == EXIT => self.dst == 0 && zero(false, false, false),
            JMP | JMP32 if self.cmp_op().is_some() => zero(register, true, !register),
            _ => return unknown,
        };
        if writes && self.dst == FP {
            return Err(InsnError::WriteFp);
        }
        if clean {
            Ok(())
        } else {
            Err(InsnError::Reserved)
        }
    }

    /// The immediates that the kernel refuses (v6.12 kernel/bpf/verifier.c, `check_alu_op`).
    fn check_immediate(self) -> Result<(), InsnError> {
        let bits = if self.code & CLASS == ALU64 { 64 } else { 32 };
        let op = self.code & OP;
        let shift = [Alu::Lsh, Alu::Rsh, Alu::Arsh]
            .iter()
            .any(|s| *s as u8 == op);
        let divide = [Alu::Div, Alu::Mod].iter().any(|d| *d as u8 == op);
        match self.code & X == 0 {
            true if shift && !(0..bits).contains(&self.imm) => Err(InsnError::Shift(self.imm)),
            true if divide && self.imm == 0 => Err(InsnError::DivideByZero),
            _ => Ok(()),
        }
    }
}
