//! Counts system calls with ptrace(2): the cases run in a forked child, which this process stops at each system call.
//!
//! Only the first thread of the child is traced. The tracer writes the calls to memory that both processes share, before the
//! closing mark returns.

use std::ffi::{c_int, c_long, c_void};
use std::mem;
use std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU8, AtomicUsize, Ordering::SeqCst};

const MAX_CALLS: usize = 64;
const MAX_TEXT: usize = 4096;

/// A system call without effect that marks the start and the end: getpgid(2) of an invalid process.
const MARK: c_long = libc::SYS_getpgid;
const BEGIN: c_int = -0x6265;
const END: c_int = -0x656e;

/// Seconds after which SIGALRM ends the child. All cases together take less.
const CHILD_TIMEOUT_SECS: u32 = 100;

/// The memory that tracer and child share. All zeroes is a valid value.
struct TraceLog {
    len: AtomicUsize,
    calls: [AtomicIsize; MAX_CALLS],
    /// Why the child failed, in UTF-8.
    text: [AtomicU8; MAX_TEXT],
}

static SHARED: AtomicPtr<TraceLog> = AtomicPtr::new(std::ptr::null_mut());

fn shared() -> &'static TraceLog {
    // SAFETY: `run` has mapped the memory, in this process or in its parent, and never unmaps it.
    unsafe { SHARED.load(SeqCst).as_ref() }.expect("within `run`")
}

impl TraceLog {
    fn map() -> *mut TraceLog {
        // SAFETY: the kernel chooses an unused address.
        let memory = unsafe {
            let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
            libc::mmap(std::ptr::null_mut(), mem::size_of::<TraceLog>(), access, kind, -1, 0)
        };
        assert_ne!(memory, libc::MAP_FAILED);
        memory.cast()
    }

    fn push(&self, call: isize) {
        if let Some(place) = self.calls.get(self.len.fetch_add(1, SeqCst)) {
            place.store(call, SeqCst);
        }
    }

    fn set_text(&self, text: &str) {
        for (place, byte) in self.text.iter().zip(text.bytes()) {
            place.store(byte, SeqCst);
        }
    }

    fn text(&self) -> String {
        let bytes: Vec<_> = self.text.iter().map(|byte| byte.load(SeqCst)).take_while(|&byte| byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Returns the value of `f`, and the system calls of this thread in `f`.
pub fn calls<T>(f: impl FnOnce() -> T) -> (T, Vec<String>) {
    shared().len.store(0, SeqCst);
    mark(BEGIN);
    let value = f();
    mark(END);
    let calls = shared().calls.iter().take(shared().len.load(SeqCst)).map(|call| name(call.load(SeqCst)));
    let mut calls: Vec<_> = calls.filter(|name| !UNCOUNTED.contains(&&**name)).collect();
    // With debug assertions the standard library calls fcntl(2) before it closes a descriptor.
    if cfg!(debug_assertions) {
        for i in (1..calls.len()).rev() {
            if (&*calls[i - 1], &*calls[i]) == ("fcntl", "close") {
                calls.remove(i - 1);
            }
        }
    }
    (value, calls)
}

fn mark(which: c_int) {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::syscall(MARK, which) }, -1);
}

/// Runs `cases` in a traced child. No other thread may hold a lock, because a fork copies locked mutexes.
pub fn run(cases: fn()) {
    let shared = TraceLog::map();
    // SAFETY: the child has one thread, and exits without running anything else of this process.
    match unsafe { libc::fork() } {
        0 => child(shared, cases),
        pid => {
            assert!(pid > 0, "{}", std::io::Error::last_os_error());
            // SAFETY: the memory was mapped above and is never unmapped.
            let shared = unsafe { &*shared };
            let status = trace(pid, shared);
            assert_eq!(status, 0, "{}", shared.text());
        }
    }
}

fn child(shared: *mut TraceLog, cases: fn()) -> ! {
    SHARED.store(shared, SeqCst);
    // The hook of the test harness would keep the message in this process.
    std::panic::set_hook(Box::new(|panic| self::shared().set_text(&panic.to_string())));
    let result = std::panic::catch_unwind(|| {
        // SAFETY: no pointers; the parent waits for the stop.
        unsafe {
            libc::alarm(CHILD_TIMEOUT_SECS);
            let traced = libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            assert_eq!(traced, 0, "this system does not allow tracing: {}", std::io::Error::last_os_error());
            libc::raise(libc::SIGSTOP);
        }
        cases();
    });
    // SAFETY: ends this process, which is the child.
    unsafe { libc::_exit(i32::from(result.is_err())) }
}

/// Traces the child until its end, and records its system calls between the marks. Returns its status.
fn trace(pid: libc::pid_t, shared: &TraceLog) -> c_int {
    let mut counting = false;
    let mut is_first = true;
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one `int`.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        if !libc::WIFSTOPPED(status) {
            return status;
        }
        let mut signal = libc::WSTOPSIG(status);
        if mem::take(&mut is_first) {
            let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
            // SAFETY: no pointers; the child is stopped.
            assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options) }, 0);
            signal = 0;
        } else if signal == libc::SIGTRAP | 0x80 {
            signal = 0;
            match entered(pid) {
                Some((call, argument)) if call == MARK && argument == BEGIN => counting = true,
                Some((call, argument)) if call == MARK && argument == END => counting = false,
                Some((call, _)) if counting => shared.push(call as isize),
                _ => {}
            }
        }
        // SAFETY: no pointers; the child is stopped, and continues with its signal if a signal stopped it.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, 0, signal) }, 0);
    }
}

/// Returns the system call that the child enters, and its first argument; `None` if the child leaves a call.
fn entered(pid: libc::pid_t) -> Option<(c_long, c_int)> {
    /// `struct ptrace_syscall_info` of <linux/ptrace.h>; libc has it for glibc only.
    #[repr(C)]
    struct Info {
        operation: u8,
        reserved: [u8; 3],
        architecture: u32,
        places: [u64; 2],
        call: u64,
        arguments: [u64; 6],
    }
    const GET_SYSCALL_INFO: c_int = 0x420e;
    const ENTRY: u8 = 1;

    // SAFETY: integers. Zeroes are a value of each.
    let mut info: Info = unsafe { mem::zeroed() };
    let address: *mut c_void = std::ptr::addr_of_mut!(info).cast();
    // SAFETY: the kernel writes at most the size of the record.
    let written = unsafe { libc::ptrace(GET_SYSCALL_INFO as _, pid, mem::size_of::<Info>(), address) };
    assert!(written > 0, "Linux 5.3 is needed to count calls: {}", std::io::Error::last_os_error());
    (info.operation == ENTRY).then_some((info.call as c_long, info.arguments[0] as c_int))
}

/// System calls that are not counted: memory for the allocator, and the clock on machines where reading it is a system call.
const UNCOUNTED: &[&str] = &["brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "clock_gettime", "gettimeofday"];

fn name(call: isize) -> String {
    macro_rules! names {
        ($($(#[$which:meta])? $name:ident $call:ident,)+) => {
            [$($(#[$which])? (libc::$call as isize, stringify!($name)),)+]
        };
    }
    // Names of the calls that the operations are likely to make, and of `UNCOUNTED`. Other calls are printed as numbers.
    let names: &[(isize, &str)] = &names![
        accept4 SYS_accept4,
        brk SYS_brk,
        clock_gettime SYS_clock_gettime,
        close SYS_close,
        dup SYS_dup,
        epoll_ctl SYS_epoll_ctl,
        epoll_pwait SYS_epoll_pwait,
        epoll_pwait2 SYS_epoll_pwait2,
        fcntl SYS_fcntl,
        futex SYS_futex,
        getpid SYS_getpid,
        getsockopt SYS_getsockopt,
        gettimeofday SYS_gettimeofday,
        ioctl SYS_ioctl,
        madvise SYS_madvise,
        mmap SYS_mmap,
        mprotect SYS_mprotect,
        mremap SYS_mremap,
        munmap SYS_munmap,
        ppoll SYS_ppoll,
        read SYS_read,
        recvfrom SYS_recvfrom,
        sched_yield SYS_sched_yield,
        sendto SYS_sendto,
        setsockopt SYS_setsockopt,
        write SYS_write,
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))] fstat SYS_fstat,
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))] newfstatat SYS_newfstatat,
        #[cfg(target_arch = "x86_64")] epoll_wait SYS_epoll_wait,
        #[cfg(target_arch = "x86_64")] poll SYS_poll,
    ];
    let name = names.iter().find(|(number, _)| *number == call);
    name.map_or_else(|| format!("call {call}"), |(_, name)| (*name).to_owned())
}
