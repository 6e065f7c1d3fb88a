//! What LLVM must not know.

#[cfg(target_arch = "bpf")]
use core::arch::asm;

/// Hides a number from LLVM, which else would fold a value that is only there at load time, or leave out a check of what it
/// knows and the verifier does not. One instruction.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn opaque(mut number: usize) -> usize {
    // SAFETY: a register is moved to itself.
    unsafe { asm!("{0} = {0}", inlateout(reg) number, options(pure, nomem, nostack, preserves_flags)) };
    number
}

/// The same for the lints, which run on the host.
#[cfg(not(target_arch = "bpf"))]
pub fn opaque(number: usize) -> usize {
    core::hint::black_box(number)
}
