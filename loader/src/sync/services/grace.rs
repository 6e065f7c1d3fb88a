//! Waits for the packets that are under way.

/// Returns when every program run that began before this call has ended: the kernel runs them under RCU, and this waits for a
/// grace period. A few milliseconds, during which nothing is held.
pub(super) fn wait() {
    // SAFETY: takes no memory of ours.
    let outcome = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if outcome != 0 {
        // Not with `nohz_full`. A packet that is caught in between is then refused or begins a connection that its next
        // packet begins anew.
        log::debug!("membarrier(MEMBARRIER_CMD_GLOBAL): {}", std::io::Error::last_os_error());
    }
}
