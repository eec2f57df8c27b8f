//! Detects a forked child, and locks that a forked child never finds held.
//!
//! A process identifier does not identify a process: a parent and its child may each be process 1 of a PID namespace. A
//! *generation* does. It lives in a page that the kernel clears in the child (madvise(2) `MADV_WIPEONFORK` on Linux,
//! minherit(2) `INHERIT_ZERO` on the BSDs), so that a child of a bare fork or clone system call is detected too. A handler
//! of pthread_atfork(3) clears it as well: some kernels have no such page, and some emulators only claim to.
#![allow(dead_code)] // Where there is neither, the process identifier has to do.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::sys::unix::syscall::lock_ignoring_poison;

/// The generation until the first call of [`generation`]. It stays zero.
static UNSET: AtomicU32 = AtomicU32::new(0);
/// The generation where the kernel has no page that it clears.
static CLEARED_BY_HANDLER: AtomicU32 = AtomicU32::new(0);
/// Where the generation is. A zero there belongs to a process that has not called [`generation`] yet.
static CURRENT: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::addr_of!(UNSET).cast_mut());
/// The last generation of this process or of its ancestors. A child inherits the value and continues to count.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Returns a number that is never zero, is constant in one process, and differs in each of its forked children.
///
/// Safe in a signal handler, once the process or an ancestor has called it outside of one.
#[inline]
pub(crate) fn generation() -> u32 {
    #[cfg(has_pthread_atfork)]
    {
        // Relaxed: what the pointer leads to was zero before any thread could store it.
        // SAFETY: the pointer leads to a static, or to a page that is never unmapped.
        match unsafe { &*CURRENT.load(Ordering::Relaxed) }.load(Ordering::Relaxed) {
            0 => begin(),
            generation => generation,
        }
    }
    #[cfg(not(has_pthread_atfork))]
    {
        std::process::id()
    }
}

/// Returns `true` if `generation` is that of this process.
#[inline]
pub(crate) fn is_current(generation: u32) -> bool {
    #[cfg(has_pthread_atfork)]
    {
        // SAFETY: as in `generation`. A process that has no generation yet has zero here, which is none.
        unsafe { &*CURRENT.load(Ordering::Relaxed) }.load(Ordering::Relaxed) == generation
    }
    #[cfg(not(has_pthread_atfork))]
    {
        generation == std::process::id()
    }
}

/// Takes the next generation for a process that has none.
#[cold]
fn begin() -> u32 {
    let mut current = CURRENT.load(Ordering::Acquire);
    if ptr::eq(current, &UNSET) {
        current = install();
    }
    let next = loop {
        // After four billion generations the count passes zero again.
        match LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1) {
            0 => {}
            next => break next,
        }
    };
    // SAFETY: as in `generation`.
    match unsafe { &*current }.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => next,
        Err(other) => other,
    }
}

/// Chooses where the generation is. Threads that call this at the same time agree.
fn install() -> *mut AtomicU32 {
    clear_after_fork();
    let new = page().unwrap_or(ptr::addr_of!(CLEARED_BY_HANDLER).cast_mut());
    match CURRENT.compare_exchange(ptr::addr_of!(UNSET).cast_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => new,
        // The page of the slower thread stays mapped and unused.
        Err(first) => first,
    }
}

/// A page of zeroes that the kernel replaces by zeroes in a forked child; `None` where it cannot.
fn page() -> Option<*mut AtomicU32> {
    #[cfg(any(has_madv_wipeonfork, has_inherit_zero))]
    {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
        // SAFETY: no pointers.
        let size = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
        // SAFETY: a new mapping, which overlaps nothing.
        let page = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the page was mapped above, and nothing refers to it yet.
        if unsafe { is_cleared_in_a_child(page, size) } {
            return Some(page.cast());
        }
        // SAFETY: as above.
        unsafe { libc::munmap(page, size) };
        None
    }
    #[cfg(not(any(has_madv_wipeonfork, has_inherit_zero)))]
    {
        None
    }
}

/// # Safety
///
/// The page is mapped and not in use.
#[cfg(has_madv_wipeonfork)]
unsafe fn is_cleared_in_a_child(page: *mut libc::c_void, size: usize) -> bool {
    // Some versions of QEMU accept any advice and do nothing (BoringSSL, crypto/fipsmodule/rand/fork_detect.c).
    // SAFETY: the caller's promise; the kernel knows no such advice, or it changes the contents of an unused page.
    unsafe { libc::madvise(page, size, -1) != 0 && libc::madvise(page, size, libc::MADV_WIPEONFORK) == 0 }
}

/// # Safety
///
/// The page is mapped and not in use.
#[cfg(has_inherit_zero)]
unsafe fn is_cleared_in_a_child(page: *mut libc::c_void, size: usize) -> bool {
    #[cfg(not(inherit_zero_has_prefix))]
    use libc::INHERIT_ZERO;
    #[cfg(inherit_zero_has_prefix)]
    use libc::MAP_INHERIT_ZERO as INHERIT_ZERO;
    // SAFETY: the caller's promise.
    unsafe { libc::minherit(page, size, INHERIT_ZERO) == 0 }
}

/// Registers the handler of pthread_atfork(3). Two threads may both register it, which does no harm.
fn clear_after_fork() {
    #[cfg(has_pthread_atfork)]
    {
        extern "C" fn clear() {
            // SAFETY: as in `generation`. What is not set yet is zero already.
            unsafe { &*CURRENT.load(Ordering::Relaxed) }.store(0, Ordering::Relaxed);
        }
        // SAFETY: the handler only stores a number. Without memory for it the page has to do.
        unsafe { libc::pthread_atfork(None, None, Some(clear)) };
    }
}

/// A static lock, and what it guards.
///
/// In a forked child a thread that does not exist there may hold the parent's lock, with the value half changed. So a
/// child starts with a lock and a value of its own; those of the parent are leaked in the child.
pub(crate) struct ForkLock<T>(AtomicPtr<Locked<T>>);

struct Locked<T> {
    generation: u32,
    value: Mutex<T>,
}

impl<T: Default + Send + 'static> ForkLock<T> {
    pub(crate) const fn new() -> ForkLock<T> {
        ForkLock(AtomicPtr::new(ptr::null_mut()))
    }

    pub(crate) fn lock(&'static self) -> MutexGuard<'static, T> {
        let generation = generation();
        loop {
            let current = self.0.load(Ordering::Acquire);
            // SAFETY: null, or what was put there below, which is never freed.
            match unsafe { current.as_ref() } {
                Some(locked) if locked.generation == generation => return lock_ignoring_poison(&locked.value),
                _ => {}
            }
            let new = Box::into_raw(Box::new(Locked { generation, value: Mutex::default() }));
            if self.0.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: it came from a box, and no other thread has seen it.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exit status of a forked child that runs `child`.
    fn status_of(fork: impl FnOnce() -> libc::pid_t, child: impl FnOnce() -> i32) -> i32 {
        let pid = fork();
        if pid == 0 {
            // SAFETY: the child leaves without running anything else of this process.
            unsafe { libc::_exit(child()) };
        }
        assert!(pid > 0);
        let mut status = 0;
        // SAFETY: no pointers but to the status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status), "{status:x}");
        libc::WEXITSTATUS(status)
    }

    fn fork() -> libc::pid_t {
        // SAFETY: the children of these tests only use atomics and memory, and leave.
        unsafe { libc::fork() }
    }

    /// Runs the cases in a process without other tests.
    ///
    /// A forked child holds copies of every descriptor for a moment. A test beside it that closes the other end of a pipe
    /// would see the end too late.
    #[test]
    fn generations_of_forked_children() {
        const ALONE: &str = "KEVIO_TEST_FORKS_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let module = module_path!().split_once("::").unwrap().1;
            let name = &format!("{module}::generations_of_forked_children");
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            let output = alone.args([name, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && text.contains("1 passed"),
                "{text}{}",
                String::from_utf8_lossy(&output.stderr)
            );
            return;
        }
        each_child_and_grandchild_has_a_new_generation();
        every_child_of_many_has_a_new_generation();
        #[cfg(has_madv_wipeonfork)]
        a_child_of_the_bare_system_call_has_a_new_generation();
        a_child_does_not_wait_for_a_lock_of_its_parent();
    }

    fn each_child_and_grandchild_has_a_new_generation() {
        let here = generation();
        assert!(here != 0 && generation() == here);
        let status = status_of(fork, || {
            let child = generation();
            let grandchild = status_of(fork, || {
                let grandchild = generation();
                i32::from(grandchild == here || grandchild == child || grandchild == 0)
            });
            i32::from(child == here || child == 0 || child != generation()) + 2 * grandchild
        });
        assert_eq!(status, 0);
        assert_eq!(generation(), here);
    }

    fn every_child_of_many_has_a_new_generation() {
        let here = generation();
        for _ in 0..300 {
            assert_eq!(status_of(fork, || i32::from(generation() == here)), 0);
        }
    }

    /// No handler of pthread_atfork(3) runs then.
    #[cfg(has_madv_wipeonfork)]
    fn a_child_of_the_bare_system_call_has_a_new_generation() {
        let here = generation();
        if ptr::eq(CURRENT.load(Ordering::Acquire), &CLEARED_BY_HANDLER) {
            return; // A kernel before 4.14.
        }
        let clone = || {
            let flags = libc::SIGCHLD as usize;
            // SAFETY: without flags and with a stack of its own it is fork(2).
            unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) as libc::pid_t }
        };
        assert_eq!(status_of(clone, || i32::from(generation() == here)), 0);
    }

    fn a_child_does_not_wait_for_a_lock_of_its_parent() {
        static LOCK: ForkLock<u32> = ForkLock::new();
        let mut held = LOCK.lock();
        *held = 7;
        assert_eq!(status_of(fork, || *LOCK.lock() as i32), 0, "the value of a child is a new one");
        assert_eq!(*held, 7);
    }
}
