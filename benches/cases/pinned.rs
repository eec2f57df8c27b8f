//! One processor for the threads of a case.

/// Pins this thread, and the threads that it starts, to the current processor, until the value is dropped. On Windows the whole
/// process is pinned. To wake a thread on another processor, which may be idle, costs more than the operations of every subject.
pub struct Pinned(());

pub fn pin_thread() -> Pinned {
    system::pin();
    Pinned(())
}

impl Drop for Pinned {
    fn drop(&mut self) {
        system::unpin();
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::sync::OnceLock;

    static UNPINNED: OnceLock<libc::cpu_set_t> = OnceLock::new();

    fn affinity() -> libc::cpu_set_t {
        // SAFETY: the kernel writes a set of bits.
        unsafe {
            let mut set = std::mem::zeroed();
            assert_eq!(libc::sched_getaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &mut set), 0);
            set
        }
    }

    fn set_affinity(set: &libc::cpu_set_t) {
        // SAFETY: the kernel reads a set of bits.
        assert_eq!(unsafe { libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), set) }, 0);
    }

    pub fn pin() {
        UNPINNED.get_or_init(affinity);
        // SAFETY: a zeroed set is empty, and the index of the bit is the number of a processor.
        let here = unsafe {
            let mut set = std::mem::zeroed();
            libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
            set
        };
        set_affinity(&here);
    }

    pub fn unpin() {
        set_affinity(UNPINNED.get().expect("pin has recorded the set"));
    }
}

#[cfg(windows)]
mod system {
    use std::sync::OnceLock;

    use windows_sys::Win32::System::Threading::{
        GetCurrentProcess, GetCurrentProcessorNumber, GetProcessAffinityMask, SetProcessAffinityMask,
    };

    static UNPINNED: OnceLock<usize> = OnceLock::new();

    fn affinity() -> usize {
        let (mut process, mut system) = (0, 0);
        // SAFETY: the pseudo handle of the process is always valid, and the system writes two masks.
        assert_ne!(unsafe { GetProcessAffinityMask(GetCurrentProcess(), &mut process, &mut system) }, 0);
        process
    }

    fn set_affinity(mask: usize) {
        // SAFETY: the pseudo handle of the process is always valid. A process in several groups of processors cannot be pinned.
        unsafe { SetProcessAffinityMask(GetCurrentProcess(), mask) };
    }

    pub fn pin() {
        UNPINNED.get_or_init(affinity);
        // SAFETY: the call takes no arguments.
        set_affinity(1 << unsafe { GetCurrentProcessorNumber() });
    }

    pub fn unpin() {
        set_affinity(*UNPINNED.get().expect("pin has recorded the mask"));
    }
}

#[cfg(not(any(target_os = "linux", windows)))]
mod system {
    pub fn pin() {}
    pub fn unpin() {}
}
