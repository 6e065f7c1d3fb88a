//! BPF instructions by hand, for programs that are made of what is known only when they are wanted.
//! Opcodes are those of RFC 9669.

use anyhow::{Context as _, Result};

use crate::bpf::Instruction;

/// Returns register 0.
pub const EXIT: Instruction = Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };

/// Sets a register to a number.
#[must_use]
pub const fn set(register: u8, immediate: i32) -> Instruction {
    Instruction { code: 0xb7, registers: register, offset: 0, immediate }
}

/// Sets a register to a number of 64 bits, of two halves: two instructions long.
#[must_use]
pub const fn set_wide(register: u8, high: i32, low: i32) -> [Instruction; 2] {
    [
        Instruction { code: 0x18, registers: register, offset: 0, immediate: low },
        Instruction { code: 0, registers: 0, offset: 0, immediate: high },
    ]
}

/// Sets a register to a map, by its descriptor: two instructions long.
#[must_use]
pub const fn set_map(register: u8, descriptor: i32) -> [Instruction; 2] {
    [
        Instruction { code: 0x18, registers: 1 << 4 | register, offset: 0, immediate: descriptor },
        Instruction { code: 0, registers: 0, offset: 0, immediate: 0 },
    ]
}

/// Sets a register to what another one has.
#[must_use]
pub const fn copy(to: u8, from: u8) -> Instruction {
    Instruction { code: 0xbf, registers: from << 4 | to, offset: 0, immediate: 0 }
}

/// Subtracts a register from another one.
#[must_use]
pub const fn subtract(from: u8, register: u8) -> Instruction {
    Instruction { code: 0x1f, registers: register << 4 | from, offset: 0, immediate: 0 }
}

/// Adds a number to a register.
#[must_use]
pub const fn add(register: u8, immediate: i32) -> Instruction {
    Instruction { code: 0x07, registers: register, offset: 0, immediate }
}

/// Adds a register to another one.
#[must_use]
pub const fn add_register(to: u8, register: u8) -> Instruction {
    Instruction { code: 0x0f, registers: register << 4 | to, offset: 0, immediate: 0 }
}

/// Keeps of a register the bits that a number has.
#[must_use]
pub const fn mask(register: u8, immediate: i32) -> Instruction {
    Instruction { code: 0x57, registers: register, offset: 0, immediate }
}

/// Flips those bits of a register that a number has.
#[must_use]
pub const fn flip(register: u8, immediate: i32) -> Instruction {
    Instruction { code: 0xa7, registers: register, offset: 0, immediate }
}

/// Shifts a register to the right.
#[must_use]
pub const fn shift_right(register: u8, bits: i32) -> Instruction {
    Instruction { code: 0x77, registers: register, offset: 0, immediate: bits }
}

/// Keeps the lower 16 bits of a register, in network byte order.
#[must_use]
pub const fn to_network16(register: u8) -> Instruction {
    Instruction { code: 0xdc, registers: register, offset: 0, immediate: 16 }
}

/// Calls a helper of the kernel, which takes registers 1 to 5 and gives register 0.
#[must_use]
pub const fn call(helper: i32) -> Instruction {
    Instruction { code: 0x85, registers: 0, offset: 0, immediate: helper }
}

/// Loads four bytes from where another register points.
#[must_use]
pub const fn load32(register: u8, pointer: u8, offset: i16) -> Instruction {
    Instruction { code: 0x61, registers: pointer << 4 | register, offset, immediate: 0 }
}

/// Loads two bytes.
#[must_use]
pub const fn load16(register: u8, pointer: u8, offset: i16) -> Instruction {
    Instruction { code: 0x69, registers: pointer << 4 | register, offset, immediate: 0 }
}

/// Loads one byte.
#[must_use]
pub const fn load8(register: u8, pointer: u8, offset: i16) -> Instruction {
    Instruction { code: 0x71, registers: pointer << 4 | register, offset, immediate: 0 }
}

/// Stores the lower two bytes of a register to where another one points.
#[must_use]
pub const fn store16(pointer: u8, offset: i16, register: u8) -> Instruction {
    Instruction { code: 0x6b, registers: register << 4 | pointer, offset, immediate: 0 }
}

/// Stores bytes to where a register points, four at a time.
pub fn store(pointer: u8, bytes: &[u8]) -> Result<Vec<Instruction>> {
    let of_size = |code, offset, immediate| Instruction { code, registers: pointer, offset, immediate };
    let stores = |(nth, bytes): (usize, &[u8])| {
        let offset = i16::try_from(4 * nth).context("many bytes")?;
        Ok(match bytes.try_into() {
            Ok(word) => vec![of_size(0x62, offset, i32::from_ne_bytes(word))],
            Err(_) => {
                bytes.iter().zip(offset..).map(|(byte, at)| of_size(0x72, at, i32::from(*byte))).collect()
            }
        })
    };
    let stores: Result<Vec<Vec<_>>> = bytes.chunks(4).enumerate().map(stores).collect();
    Ok(stores?.concat())
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum If {
    /// Both registers have the same.
    Same(u8, u8),
    /// The first register has more than the second.
    More(u8, u8),
    /// The register has that number.
    Is(u8, i32),
    /// The register has another number.
    IsNot(u8, i32),
}

/// Instructions that are left out if a comparison holds.
pub fn unless(condition: If, body: &[Instruction]) -> Result<Vec<Instruction>> {
    let offset = i16::try_from(body.len()).context("a long way to jump")?;
    let (code, registers, immediate) = match condition {
        If::Same(left, right) => (0x1d, right << 4 | left, 0),
        If::More(left, right) => (0x2d, right << 4 | left, 0),
        If::Is(register, number) => (0x15, register, number),
        If::IsNot(register, number) => (0x55, register, number),
    };
    let jump = Instruction { code, registers, offset, immediate };
    Ok([&[jump], body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_bytes_are_stored_one_by_one() {
        let stores = store(2, &[1, 2, 3, 4, 5, 6]).unwrap();
        let fields: Vec<_> = stores.iter().map(|store| (store.code, store.offset, store.immediate)).collect();
        assert_eq!(fields, [(0x62, 0, i32::from_ne_bytes([1, 2, 3, 4])), (0x72, 4, 5), (0x72, 5, 6)]);
    }

    #[test]
    fn what_is_left_out_is_the_body() {
        let whole = unless(If::IsNot(0, 0), &[set(0, 1), EXIT]).unwrap();
        assert_eq!((whole.len(), whole[0].offset), (3, 2));
    }
}
