//! Packet pointers.

#[cfg(target_arch = "bpf")]
use core::arch::asm;
use core::ptr::NonNull;

use common::{
    packet::{Failed, Helper},
    wire::Wire,
};

/// Loads a packet pointer from the context, where it has 32 bits at `OFFSET`.
///
/// The context shows it as 32 bits, the verifier makes it a pointer of 64. LLVM, which knows only the former, may keep it in
/// a 32-bit register between load and use, and then it is a pointer no more: so the load is not LLVM's.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn field<const OFFSET: usize, C>(context: *const C) -> usize {
    let pointer;
    // SAFETY: one load from the program's own context, whose fields change only when a helper moves the packet.
    unsafe {
        asm!(
            "{pointer} = *(u32 *)({context} + {offset})",
            pointer = out(reg) pointer,
            context = in(reg) context,
            offset = const OFFSET,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    pointer
}

/// The same for the lints, which run on the host.
#[cfg(not(target_arch = "bpf"))]
pub fn field<const OFFSET: usize, C>(context: *const C) -> usize {
    // SAFETY: `OFFSET` is that of a 32-bit field.
    unsafe { context.byte_add(OFFSET).cast::<u32>().read() as usize }
}

/// Where `T` starts, `offset` bytes from `data`, if it ends before `end`.
#[inline(always)]
pub fn locate<T: Wire>(data: usize, end: usize, offset: usize) -> Option<NonNull<T>> {
    let start = data + offset;
    if start + size_of::<T>() > end {
        return None;
    }
    // SAFETY: a packet is not at address zero. A check for it would be one on a packet pointer, which the verifier
    // refuses.
    Some(unsafe { NonNull::new_unchecked(start as *mut T) })
}

/// A helper's answer as a result: zero is success.
#[inline(always)]
pub fn check(helper: Helper, answer: i64) -> Result<(), Failed> {
    // Helpers answer with an errno or a small enumeration: 32 bits hold them.
    if answer == 0 { Ok(()) } else { Err(Failed { helper, code: answer as i32 }) }
}
