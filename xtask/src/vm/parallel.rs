//! Work that is done side by side.

use std::{
    fs,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    thread,
};

/// How many guests run at once, where nobody says: as many as keep the processors busy, and as there is memory for.
///
/// `threads` is how many of the host's a guest keeps busy, `memory` what it takes in MiB.
pub(super) fn at_once(threads: usize, memory: u32) -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_memory(&text));
    let room = available.map_or(1, |available| available / u64::from(memory.max(1)));
    (processors / threads.max(1)).min(usize::try_from(room).unwrap_or(usize::MAX)).max(1)
}

/// In MiB, of `/proc/meminfo`.
fn available_memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? >> 10)
}

/// Does every piece of work, so many at a time and in their order, and gives what came of them in the same order.
/// Nothing is begun once `stopped`.
pub(super) fn side_by_side<W: Sync, R: Send>(
    work: &[W],
    at_once: usize,
    stopped: impl Fn() -> bool + Sync,
    run: impl Fn(&W) -> R + Sync,
) -> Vec<Option<R>> {
    let next = Mutex::new(0..work.len());
    let results: Vec<Mutex<Option<R>>> = work.iter().map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for _ in 0..at_once.min(work.len()) {
            scope.spawn(|| {
                while !stopped() {
                    let Some(index) = next.lock().unwrap_or_else(PoisonError::into_inner).next() else {
                        break;
                    };
                    let result = run(&work[index]);
                    *results[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    results.into_iter().map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn memory_is_read_in_mebibytes() {
        let text = "MemTotal:       24589712 kB\nMemFree: 1 kB\nMemAvailable:   22528000 kB\n";
        assert_eq!(available_memory(text), Some(22_000));
        assert_eq!(available_memory("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn all_work_is_done_at_most_so_many_at_a_time() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work: Vec<usize> = (0..20).collect();
        let results = side_by_side(
            &work,
            3,
            || false,
            |number| {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                number * 2
            },
        );
        assert_eq!(results, work.iter().map(|number| Some(number * 2)).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 3);
    }

    #[test]
    fn nothing_is_begun_after_a_stop() {
        let done = AtomicUsize::new(0);
        let stopped = || done.load(Ordering::SeqCst) > 0;
        let results = side_by_side(&[1, 2, 3], 1, stopped, |_| done.fetch_add(1, Ordering::SeqCst));
        assert_eq!(results, [Some(0), None, None]);
    }
}
