//! From libpcap's instructions to a program that cannot go wrong.
//!
//! Each instruction is decoded once; what cannot be decoded or reaches out of bounds refuses the
//! whole program. (Classic BPF: McCanne and Jacobson, USENIX 1993; libpcap's
//! `bpf_filter`.)

use crate::{Error, SNAP_BYTES, libpcap};

/// Scratch memory, in words.
pub(crate) const MEMORY_WORDS: usize = 16;
/// A program has at most this many instructions.
const INSTRUCTIONS_MAX: usize = 65_536;
/// Loads from here on ask the Linux kernel about a packet that it is receiving.
const KERNEL_OFFSETS: u32 = 0xffff_f000;

/// One instruction as libpcap writes it: `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Class, size, mode and operation.
    pub code: u16,
    /// Instructions to skip if a condition holds.
    pub jt: u8,
    /// And if it does not.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

/// Bytes of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Word,
    Half,
    Byte,
}

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    Constant(u32),
    X,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Mod,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Equal,
    Greater,
    AtLeast,
    AnyBit,
}

/// A checked instruction; targets are absolute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Load(Size, u32),
    LoadIndirect(Size, u32),
    LoadLength,
    LoadConstant(u32),
    LoadMemory(usize),
    IndexConstant(u32),
    IndexMemory(usize),
    IndexLength,
    /// Four times the low nibble of a byte: the length of an IPv4 header.
    IndexNibble(u32),
    Store(usize),
    StoreIndex(usize),
    Compute(Arithmetic, Operand),
    Negate,
    Jump(usize),
    /// A loop, which `protochain` makes: each round goes on to the next header.
    JumpBack(usize),
    Branch(Condition, Operand, usize, usize),
    Return(u32),
    ReturnAccumulator,
    IndexFromAccumulator,
    AccumulatorFromIndex,
}

/// A filter that was checked. Immutable; share it freely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    steps: Box<[Step]>,
}

impl Program {
    /// Compiles `expression` for frames of this link type ([`crate::LINK_ETHERNET`], [`crate::LINK_RAW`], or another of libpcap's).
    ///
    /// libpcap resolves host names in expressions, which may take as long as the resolver takes.
    ///
    /// # Errors
    /// What libpcap says against it, that there is no libpcap, or that the program cannot be run.
    pub fn compile(expression: &str, link_type: i32) -> Result<Self, Error> {
        Self::new(&libpcap::compile(expression, link_type, SNAP_BYTES)?)
    }

    /// Checks instructions.
    ///
    /// # Errors
    /// [`Error::Program`] with the number of the first instruction that cannot be run.
    pub fn new(instructions: &[Instruction]) -> Result<Self, Error> {
        if instructions.is_empty() || instructions.len() > INSTRUCTIONS_MAX {
            let count = instructions.len();
            return Err(Error::Program(format!("it has {count} instructions")));
        }
        let steps = instructions
            .iter()
            .enumerate()
            .map(|(at, instruction)| decode(instruction, at, instructions.len()))
            .collect::<Result<Box<[Step]>, Error>>()?;
        match steps.last() {
            Some(Step::Return(_) | Step::ReturnAccumulator) => Ok(Self { steps }),
            _ => Err(Error::Program("it does not end with a return".into())),
        }
    }

    /// How many instructions there are: the most that one packet can cost.
    pub fn instructions(&self) -> usize {
        self.steps.len()
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// Class, and for each class what the other bits mean.
fn decode(instruction: &Instruction, at: usize, count: usize) -> Result<Step, Error> {
    let Instruction { code, jt, jf, k } = *instruction;
    let refused = |why: &str| Error::Program(format!("instruction {at} ({code:#06x}) {why}"));
    let operand = if code & 0x08 == 0 {
        Operand::Constant(k)
    } else {
        Operand::X
    };
    let memory = || match k as usize {
        word if word < MEMORY_WORDS => Ok(word),
        _ => Err(refused("reaches beyond its memory")),
    };
    let step = match code & 0x07 {
        0x00 => match (code & 0xe0, size_of(code)) {
            (0x00, Some(Size::Word)) => Step::LoadConstant(k),
            (0x20, Some(_)) if k >= KERNEL_OFFSETS => {
                return Err(refused(
                    "asks the kernel about a packet that is being received, as `inbound`, `outbound` and `ifindex` do",
                ));
            }
            (0x20, Some(size)) => Step::Load(size, k),
            (0x40, Some(size)) => Step::LoadIndirect(size, k),
            (0x60, Some(Size::Word)) => Step::LoadMemory(memory()?),
            (0x80, Some(Size::Word)) => Step::LoadLength,
            _ => return Err(refused("is unknown")),
        },
        0x01 => match (code & 0xe0, size_of(code)) {
            (0x00, Some(Size::Word)) => Step::IndexConstant(k),
            (0x60, Some(Size::Word)) => Step::IndexMemory(memory()?),
            (0x80, Some(Size::Word)) => Step::IndexLength,
            (0xa0, Some(Size::Byte)) => Step::IndexNibble(k),
            _ => return Err(refused("is unknown")),
        },
        0x02 => Step::Store(memory()?),
        0x03 => Step::StoreIndex(memory()?),
        0x04 if code & 0xf0 == 0x80 => Step::Negate,
        0x04 => {
            let operation = arithmetic_of(code).ok_or_else(|| refused("is unknown"))?;
            let divides = matches!(operation, Arithmetic::Div | Arithmetic::Mod);
            if divides && operand == Operand::Constant(0) {
                return Err(refused("divides by zero"));
            }
            Step::Compute(operation, operand)
        }
        0x05 => {
            let target = |skip: u32| {
                let target = at as u64 + 1 + u64::from(skip);
                match usize::try_from(target) {
                    Ok(target) if target < count => Ok(target),
                    _ => Err(refused("jumps beyond the end")),
                }
            };
            // Alone among jumps the unconditional one has a sign.
            let signed = at as i64 + 1 + i64::from(k as i32);
            let condition = match code & 0xf0 {
                0x00 if (0..=at as i64).contains(&signed) => {
                    return Ok(Step::JumpBack(signed as usize));
                }
                0x00 => return Ok(Step::Jump(target(k)?)),
                0x10 => Condition::Equal,
                0x20 => Condition::Greater,
                0x30 => Condition::AtLeast,
                0x40 => Condition::AnyBit,
                _ => return Err(refused("is unknown")),
            };
            Step::Branch(
                condition,
                operand,
                target(u32::from(jt))?,
                target(u32::from(jf))?,
            )
        }
        0x06 => match code & 0x18 {
            0x00 => Step::Return(k),
            0x10 => Step::ReturnAccumulator,
            _ => return Err(refused("is unknown")),
        },
        _ => match code & 0xf8 {
            0x00 => Step::IndexFromAccumulator,
            0x80 => Step::AccumulatorFromIndex,
            _ => return Err(refused("is unknown")),
        },
    };
    Ok(step)
}

fn size_of(code: u16) -> Option<Size> {
    match code & 0x18 {
        0x00 => Some(Size::Word),
        0x08 => Some(Size::Half),
        0x10 => Some(Size::Byte),
        _ => None,
    }
}

fn arithmetic_of(code: u16) -> Option<Arithmetic> {
    Some(match code & 0xf0 {
        0x00 => Arithmetic::Add,
        0x10 => Arithmetic::Sub,
        0x20 => Arithmetic::Mul,
        0x30 => Arithmetic::Div,
        0x40 => Arithmetic::Or,
        0x50 => Arithmetic::And,
        0x60 => Arithmetic::Lsh,
        0x70 => Arithmetic::Rsh,
        0x90 => Arithmetic::Mod,
        0xa0 => Arithmetic::Xor,
        _ => return None,
    })
}
