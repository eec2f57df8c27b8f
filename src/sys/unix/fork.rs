//! Detection of a forked child, and locks that a forked child never finds held.
//!
//! A process identifier does not identify a process: a parent and its child may each be process 1 of a PID namespace. A
//! *generation* does. Two mechanisms clear the generation in a forked child:
//!
//! 1. The generation is in a page that the kernel clears (madvise(2) `MADV_WIPEONFORK` on Linux, minherit(2)
//!    `INHERIT_ZERO` on the BSDs). The page also detects a child of the system calls fork or clone, made without libc.
//! 2. A handler of pthread_atfork(3) clears the generation too. Some kernels have no such page, and some emulators only claim
//!    to have one.
//!
//! A forked child reads zero and takes the next generation. Therefore its generation differs from that of its parent.
#![allow(dead_code)] // Systems without pthread_atfork(3) use the process identifier, and leave most of the file unused.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::sys::lock::lock_ignoring_poison;

/// The place of the generation until the first call of [`generation`]. The value stays zero.
static UNSET: AtomicU32 = AtomicU32::new(0);
/// The place of the generation if the kernel has no page that it clears.
static CLEARED_BY_HANDLER: AtomicU32 = AtomicU32::new(0);
/// The place of the generation. A zero there belongs to a process that has not called [`generation`] yet.
static CURRENT: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::addr_of!(UNSET).cast_mut());
/// The last generation of this process or of its ancestors. A child inherits the value and counts on.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Returns a number that is never zero, is constant in one process, and differs in each of its forked children.
///
/// Async-signal-safe, after the process or an ancestor has called the function outside of a signal handler.
#[inline]
pub(crate) fn generation() -> u32 {
    #[cfg(has_pthread_atfork)]
    {
        // Relaxed, because the place was zero before any thread could store the pointer.
        // SAFETY: the pointer leads to a static, or to a page that is never unmapped.
        match unsafe { &*CURRENT.load(Ordering::Relaxed) }.load(Ordering::Relaxed) {
            0 => start_generation(),
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
        // In a process without a generation the value is zero, which differs from every generation.
        // SAFETY: the argument of `generation` holds.
        unsafe { &*CURRENT.load(Ordering::Relaxed) }.load(Ordering::Relaxed) == generation
    }
    #[cfg(not(has_pthread_atfork))]
    {
        generation == std::process::id()
    }
}

/// Takes the next generation, for a process that has none, and returns it.
#[cold]
fn start_generation() -> u32 {
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

/// Chooses the place of the generation, and returns it. Threads that call the function at the same time get the same place.
fn install() -> *mut AtomicU32 {
    clear_after_fork();
    let new = map_cleared_page().unwrap_or(ptr::addr_of!(CLEARED_BY_HANDLER).cast_mut());
    match CURRENT.compare_exchange(ptr::addr_of!(UNSET).cast_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => new,
        // The page of the slower thread stays mapped and unused.
        Err(first) => first,
    }
}

/// Returns a page of zeroes that the kernel clears in a forked child, or `None` if the kernel cannot.
fn map_cleared_page() -> Option<*mut AtomicU32> {
    #[cfg(any(has_madv_wipeonfork, has_inherit_zero))]
    {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
        // SAFETY: the call has no pointers.
        let size = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
        // SAFETY: the call makes a new mapping, which overlaps no other.
        let page = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the page was mapped above, and nothing refers to it yet.
        if unsafe { clear_in_child(page, size) } {
            return Some(page.cast());
        }
        // SAFETY: the page was mapped above, and nothing refers to it.
        unsafe { libc::munmap(page, size) };
        None
    }
    #[cfg(not(any(has_madv_wipeonfork, has_inherit_zero)))]
    {
        None
    }
}

/// Returns `true` if the kernel clears the page in a forked child from now on.
///
/// # Safety
///
/// The page is mapped and not in use.
#[cfg(has_madv_wipeonfork)]
unsafe fn clear_in_child(page: *mut libc::c_void, size: usize) -> bool {
    // Some versions of QEMU accept any advice and do nothing (BoringSSL, crypto/fipsmodule/rand/fork_detect.c).
    // SAFETY: the caller has promised an unused page. The kernel rejects the advice, or changes the contents of the page.
    unsafe { libc::madvise(page, size, -1) != 0 && libc::madvise(page, size, libc::MADV_WIPEONFORK) == 0 }
}

/// Returns `true` if the kernel clears the page in a forked child from now on.
///
/// # Safety
///
/// The page is mapped and not in use.
#[cfg(has_inherit_zero)]
unsafe fn clear_in_child(page: *mut libc::c_void, size: usize) -> bool {
    // Older versions of `libc` lack both. The number is that of `<sys/mman.h>`, where its name is `INHERIT_ZERO` or
    // `MAP_INHERIT_ZERO`.
    const INHERIT_ZERO: libc::c_int = if cfg!(inherit_zero_is_four) { 4 } else { 3 };
    extern "C" {
        fn minherit(page: *mut libc::c_void, size: libc::size_t, inherit: libc::c_int) -> libc::c_int;
    }
    // SAFETY: the caller has promised an unused page.
    unsafe { minherit(page, size, INHERIT_ZERO) == 0 }
}

/// Registers the handler of pthread_atfork(3). If two threads register the handler twice, the second run has no effect.
fn clear_after_fork() {
    #[cfg(has_pthread_atfork)]
    {
        extern "C" fn clear() {
            // SAFETY: as in `generation`. A generation that is not set is zero already.
            unsafe { &*CURRENT.load(Ordering::Relaxed) }.store(0, Ordering::Relaxed);
        }
        // SAFETY: the handler only stores a number. If memory for the handler is missing, only the page clears the generation.
        unsafe { libc::pthread_atfork(None, None, Some(clear)) };
    }
}

/// A static lock with its value, which a forked child replaces.
///
/// In a forked child the lock of the parent may be held by a thread that does not exist, with the value half changed.
/// Therefore a child starts with a lock and a default value of its own. The child leaks the lock and the value of the parent.
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
            // SAFETY: the pointer is null, or was stored below and is never freed.
            match unsafe { current.as_ref() } {
                Some(locked) if locked.generation == generation => return lock_ignoring_poison(&locked.value),
                _ => {}
            }
            let new = Box::into_raw(Box::new(Locked { generation, value: Mutex::default() }));
            if self.0.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: the pointer came from a box, and no other thread has read it.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the exit status of a forked child that runs `child`.
    fn status_of(fork: impl FnOnce() -> libc::pid_t, child: impl FnOnce() -> i32) -> i32 {
        let pid = fork();
        if pid == 0 {
            // SAFETY: the child exits without running any other code of this process.
            unsafe { libc::_exit(child()) };
        }
        assert!(pid > 0);
        let mut status = 0;
        // SAFETY: the only pointer is to the status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status), "{status:x}");
        libc::WEXITSTATUS(status)
    }

    fn fork() -> libc::pid_t {
        // SAFETY: the children of these tests only use atomics and memory, and exit.
        unsafe { libc::fork() }
    }

    /// Runs the cases in a process without other tests.
    ///
    /// A forked child holds copies of every descriptor for a moment. A concurrent test that closes the other end of a pipe
    /// would receive the end too late.
    #[test]
    fn forked_children_have_new_generations_and_locks() {
        const ALONE: &str = "KEVIO_TEST_FORKS_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let module = module_path!().split_once("::").unwrap().1;
            let name = &format!("{module}::forked_children_have_new_generations_and_locks");
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
        child_of_the_system_call_has_a_new_generation();
        child_does_not_block_on_a_lock_of_its_parent();
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

    /// The system call runs no handler of pthread_atfork(3).
    #[cfg(has_madv_wipeonfork)]
    fn child_of_the_system_call_has_a_new_generation() {
        let here = generation();
        if ptr::eq(CURRENT.load(Ordering::Acquire), &CLEARED_BY_HANDLER) {
            return; // A kernel before 4.14.
        }
        let clone = || {
            let flags = libc::SIGCHLD as usize;
            // SAFETY: clone(2) without flags and with a stack of its own is fork(2).
            unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) as libc::pid_t }
        };
        assert_eq!(status_of(clone, || i32::from(generation() == here)), 0);
    }

    fn child_does_not_block_on_a_lock_of_its_parent() {
        static LOCK: ForkLock<u32> = ForkLock::new();
        let mut held = LOCK.lock();
        *held = 7;
        assert_eq!(status_of(fork, || *LOCK.lock() as i32), 0, "a child has a new value");
        assert_eq!(*held, 7);
    }
}
