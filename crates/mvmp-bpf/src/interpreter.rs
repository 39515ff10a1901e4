//! Running a checked program on one packet, bit for bit as libpcap's `bpf_filter` does.
//!
//! Arithmetic wraps at 32 bits. A load that is not wholly inside the packet, and a division by a
//! zero in the index register, end the program with "no match".

use crate::program::{Arithmetic, Condition, MEMORY_WORDS, Operand, Program, Size, Step};

impl Program {
    /// Whether a packet matches. `wire_bytes` is its length on the wire, of which `packet` may be a part.
    #[inline]
    pub fn matches(&self, packet: &[u8], wire_bytes: u32) -> bool {
        self.run(packet, wire_bytes) != 0
    }

    /// What the program returns: 0 for no match, else how many bytes of the packet are to be kept.
    pub fn run(&self, packet: &[u8], wire_bytes: u32) -> u32 {
        self.returned(packet, wire_bytes).unwrap_or(0)
    }

    /// `None` where a load or a division ends the program early.
    fn returned(&self, packet: &[u8], wire_bytes: u32) -> Option<u32> {
        let steps = self.steps();
        let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
        let mut memory = [0u32; MEMORY_WORDS];
        // A round of libpcap's loops goes at least 8 bytes on.
        let mut rounds_left = packet.len();
        // Checked: every way leads forward, and to a return, but for the loops that are counted.
        while let Some(step) = steps.get(at) {
            at += 1;
            match *step {
                Step::Load(size, offset) => a = load(packet, size, offset as usize)?,
                Step::LoadIndirect(size, offset) => {
                    // The sum of two lengths below 2³² cannot overflow here.
                    a = load(packet, size, offset as usize + x as usize)?;
                }
                Step::LoadLength => a = wire_bytes,
                Step::LoadConstant(k) => a = k,
                Step::LoadMemory(word) => a = memory[word],
                Step::IndexConstant(k) => x = k,
                Step::IndexMemory(word) => x = memory[word],
                Step::IndexLength => x = wire_bytes,
                Step::IndexNibble(offset) => {
                    x = (load(packet, Size::Byte, offset as usize)? & 0x0f) * 4;
                }
                Step::Store(word) => memory[word] = a,
                Step::StoreIndex(word) => memory[word] = x,
                Step::Compute(operation, operand) => a = compute(operation, a, value(operand, x))?,
                Step::Negate => a = a.wrapping_neg(),
                Step::Jump(target) => at = target,
                Step::JumpBack(target) => {
                    rounds_left = rounds_left.checked_sub(1)?;
                    at = target;
                }
                Step::Branch(condition, operand, yes, no) => {
                    at = if holds(condition, a, value(operand, x)) {
                        yes
                    } else {
                        no
                    };
                }
                Step::Return(k) => return Some(k),
                Step::ReturnAccumulator => return Some(a),
                Step::IndexFromAccumulator => x = a,
                Step::AccumulatorFromIndex => a = x,
            }
        }
        None
    }
}

#[inline(always)]
fn value(operand: Operand, x: u32) -> u32 {
    match operand {
        Operand::Constant(k) => k,
        Operand::X => x,
    }
}

#[inline(always)]
fn load(packet: &[u8], size: Size, offset: usize) -> Option<u32> {
    let rest = packet.get(offset..)?;
    Some(match size {
        Size::Word => u32::from_be_bytes(*rest.first_chunk::<4>()?),
        Size::Half => u32::from(u16::from_be_bytes(*rest.first_chunk::<2>()?)),
        Size::Byte => u32::from(*rest.first()?),
    })
}

#[inline(always)]
fn compute(operation: Arithmetic, a: u32, b: u32) -> Option<u32> {
    Some(match operation {
        Arithmetic::Add => a.wrapping_add(b),
        Arithmetic::Sub => a.wrapping_sub(b),
        Arithmetic::Mul => a.wrapping_mul(b),
        Arithmetic::Div => return a.checked_div(b),
        Arithmetic::Mod => return a.checked_rem(b),
        Arithmetic::Or => a | b,
        Arithmetic::And => a & b,
        Arithmetic::Xor => a ^ b,
        Arithmetic::Lsh => a.checked_shl(b).unwrap_or(0),
        Arithmetic::Rsh => a.checked_shr(b).unwrap_or(0),
    })
}

#[inline(always)]
fn holds(condition: Condition, a: u32, b: u32) -> bool {
    match condition {
        Condition::Equal => a == b,
        Condition::Greater => a > b,
        Condition::AtLeast => a >= b,
        Condition::AnyBit => a & b != 0,
    }
}
