//! Words that other CPUs and user space write, too.

#[cfg(target_arch = "bpf")]
use core::arch::asm;

/// Adds one to a word, in one step among all CPUs. Rust has no such operation for the target.
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
#[cfg(not(target_arch = "bpf"))]
pub unsafe fn increment(word: *mut u64) {
    // SAFETY: as above.
    unsafe { *word += 1 };
}
