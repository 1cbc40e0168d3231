//! Work in fixed chunks on a few pinned threads. The chunks, and the order in which their results are put together, do not
//! depend on the number of threads, and so neither does any sum.

use std::ops::Range;
use std::sync::Mutex;

/// Rows of a chunk.
pub(crate) const CHUNK: usize = 1 << 15;
/// Below this many rows a second thread costs more than it gives.
const WORTH: usize = 1 << 17;

/// The number of threads for a pass over `rows` rows.
fn threads(asked: Option<usize>, rows: usize) -> usize {
    if rows < WORTH {
        return 1;
    }
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    asked.unwrap_or(available).clamp(1, available.max(1)).min(rows.div_ceil(CHUNK))
}

/// Calls `work` on every chunk of rows, with their part of two arrays, on as many threads as asked for and worth it.
/// Returns the results in the order of the chunks.
pub(crate) fn chunks<A: Send, B: Send, T: Send>(
    first: &mut [A],
    second: &mut [B],
    asked: Option<usize>,
    work: impl Fn(Range<usize>, &mut [A], &mut [B]) -> T + Sync,
) -> Vec<T> {
    let (rows, threads) = (first.len(), threads(asked, first.len()));
    let range = |c: usize| c * CHUNK..((c + 1) * CHUNK).min(rows);
    let parts = first.chunks_mut(CHUNK).zip(second.chunks_mut(CHUNK)).enumerate();
    if threads <= 1 {
        return parts.map(|(c, (a, b))| work(range(c), a, b)).collect();
    }
    let next = Mutex::new(parts);
    let done: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(rows.div_ceil(CHUNK)));
    let run = || {
        loop {
            // A poisoned lock means that a worker panicked; the scope hands that panic on.
            let Some((c, (a, b))) = next.lock().ok().and_then(|mut parts| parts.next()) else {
                return;
            };
            let result = work(range(c), a, b);
            if let Ok(mut done) = done.lock() {
                done.push((c, result));
            }
        }
    };
    let processors = affinity::others();
    std::thread::scope(|scope| {
        for worker in 1..threads {
            let processor = (!processors.is_empty()).then(|| processors[(worker - 1) % processors.len()]);
            let run = &run;
            scope.spawn(move || {
                if let Some(processor) = processor {
                    affinity::pin(processor);
                }
                run();
            });
        }
        run();
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_unstable_by_key(|(c, _)| *c);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Where the operating system lets this thread run. Some kernels pack the threads of a process on one processor, so
/// workers are pinned to the others of the caller's own mask; the caller's thread is left alone.
#[cfg(target_os = "linux")]
mod affinity {
    /// The allowed processors other than the one this thread runs on.
    pub fn others() -> Vec<usize> {
        // SAFETY: `cpu_set_t` is a plain bit mask, for which all zeros is a valid value.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a whole `cpu_set_t` of the size given; 0 means the calling thread.
        let failed = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) } != 0;
        if failed {
            return vec![];
        }
        // SAFETY: no arguments; returns a processor number or -1.
        let own = unsafe { libc::sched_getcpu() };
        // SAFETY: every index is below CPU_SETSIZE, the number of bits in the set.
        let allowed = |c: usize| unsafe { libc::CPU_ISSET(c, &set) };
        (0..libc::CPU_SETSIZE as usize).filter(|&c| allowed(c) && c as i32 != own).collect()
    }

    /// Keeps the calling thread on one processor. Failing is harmless: the thread then runs where it may.
    pub fn pin(processor: usize) {
        // SAFETY: as in `others`.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `processor` came from a set of this type, so it is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(processor, &mut set) };
        // SAFETY: the pointer is to a whole `cpu_set_t` of the size given; 0 means the calling thread.
        let _ = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    }
}

#[cfg(not(target_os = "linux"))]
mod affinity {
    pub fn others() -> Vec<usize> {
        vec![]
    }

    pub fn pin(_processor: usize) {}
}
