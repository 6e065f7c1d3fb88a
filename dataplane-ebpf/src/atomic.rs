//! Words that others write, too: other CPUs, user space, a program that interrupts this one.

#[cfg(target_arch = "bpf")]
use core::arch::asm;

/// Adds one to a word, in one step. Rust knows of none on this target, as it has no comparison and exchange below its third version.
///
/// # Safety
///
/// The word is in a map's element, and aligned.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub unsafe fn increment(word: *mut u64) {
    // SAFETY: one access of a word, as the caller knows.
    unsafe {
        asm!("lock *(u64 *)({word} + 0) += {one}", word = in(reg) word, one = in(reg) 1_u64, options(nostack));
    }
}

/// The same for the lints, which run on the host.
///
/// # Safety
///
/// As above.
#[cfg(not(target_arch = "bpf"))]
pub unsafe fn increment(word: *mut u64) {
    // SAFETY: as above.
    unsafe { *word += 1 };
}
