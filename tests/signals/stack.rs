//! The stack use of the signal handler, its mask, and `errno`.

use super::*;

const MANY: [i32; 8] = [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF];

/// What the handler and the functions that it calls may use. Measured on x86-64 without optimization: 1896 bytes.
const MAX_STACK_USE: usize = if cfg!(debug_assertions) { 2048 } else { 1024 };

fn is_unsupported() -> bool {
    is_known_failure(Check::ForkedChild)
}

/// An alternate signal stack of this thread, with a guard region below.
struct Stack {
    start: *mut u8,
    size: usize,
}

impl Stack {
    const PAINT: u8 = 0xa5;

    fn of(size: usize) -> Stack {
        let (guard, protection) = (1 << 16, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a new mapping, whose second part is made writable, and which is never unmapped.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
            let mapped = libc::mmap(ptr::null_mut(), guard + size, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(mapped, libc::MAP_FAILED);
            let start = mapped.cast::<u8>().add(guard);
            assert_eq!(libc::mprotect(start.cast(), size, protection), 0);
            let mut stack: libc::stack_t = mem::zeroed();
            stack.ss_sp = start.cast();
            stack.ss_size = size;
            assert_eq!(libc::sigaltstack(&stack, ptr::null_mut()), 0);
            Stack { start, size }
        }
    }

    /// Returns a stack of ordinary size, or of the size that the registers of the processor need.
    fn small() -> Stack {
        #[cfg(target_os = "linux")]
        // SAFETY: no pointers.
        let least = unsafe { libc::getauxval(51) } as usize; // AT_MINSIGSTKSZ
        #[cfg(not(target_os = "linux"))]
        let least = 0;
        Stack::of(8192.max(least + 2048))
    }

    /// Raises a signal in this thread. Returns the number of bytes that the handler used.
    fn used_by(&self, signal: i32) -> usize {
        // SAFETY: the bytes belong to the stack, and no handler runs.
        unsafe {
            ptr::write_bytes(self.start, Self::PAINT, self.size);
            assert_eq!(libc::raise(signal), 0);
            let painted = std::slice::from_raw_parts(self.start, self.size);
            self.size - painted.iter().take_while(|byte| **byte == Self::PAINT).count()
        }
    }
}

/// Sends all signals while this thread blocks them, and then unblocks them at once.
fn deliver_at_once(signals: &[i32]) {
    mask(libc::SIG_BLOCK, signals);
    for &signal in signals {
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
    }
    mask(libc::SIG_UNBLOCK, signals);
}

/// Three nested frames of a processor with AVX-512 would not fit.
#[test]
fn many_pending_signals_fit_on_a_small_stack() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    for has_handlers in [false, true] {
        in_a_child(|| {
            HANDLED.store(0, Ordering::SeqCst);
            if has_handlers {
                let handler = plain as extern "C" fn(_) as libc::sighandler_t;
                for signal in MANY {
                    set_action(signal, handler, libc::SA_ONSTACK);
                }
            }
            let mut poll = TestPoll::new();
            let mut signals = Signals::new(MANY).unwrap();
            poll.register(&mut signals, 1, READ);
            let _stack = Stack::small();
            for _ in 0..3 {
                deliver_at_once(&MANY);
                received(&mut poll, 1, &signals, &MANY);
                handled(if has_handlers { MANY.len() } else { 0 });
            }
        });
    }
}

#[test]
fn handler_uses_little_of_the_stack() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_child(|| {
        set_action(SIGUSR2, plain as extern "C" fn(_) as libc::sighandler_t, libc::SA_ONSTACK);
        let mut poll = TestPoll::new();
        let mut signals = Signals::new([SIGUSR1]).unwrap();
        poll.register(&mut signals, 1, READ);
        let stack = Stack::of(1 << 16);
        // The first call of a function may resolve its name.
        stack.used_by(SIGUSR1);
        stack.used_by(SIGUSR2);
        let (ours, frame) = (stack.used_by(SIGUSR1), stack.used_by(SIGUSR2));
        println!("a handler that only adds uses {frame} bytes, the handler of the crate {ours}");
        assert!(ours < frame + MAX_STACK_USE, "{ours} bytes, of which {frame} are the frame");
        received(&mut poll, 1, &signals, &[SIGUSR1]);
    });
}

#[test]
fn handler_blocks_all_signals_but_faults() {
    let _alone = alone();
    for previous in [None, Some(plain as extern "C" fn(_) as libc::sighandler_t)] {
        let before = previous.map(|handler| set_action(SIGUSR1, handler, libc::SA_NODEFER));
        let poll = TestPoll::new();
        let mut signals = Signals::new([SIGUSR1]).unwrap();
        poll.register(&mut signals, 1, READ);
        let during = action(SIGUSR1);
        assert_eq!(during.sa_flags & libc::SA_NODEFER, 0);
        // SAFETY: a set of bits, which is read.
        let is_blocked = |signal| unsafe { libc::sigismember(&during.sa_mask, signal) } == 1;
        assert!(MANY.into_iter().chain([SIGCHLD, SIGWINCH]).all(is_blocked));
        assert!(![libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE].into_iter().any(is_blocked));
        drop(signals);
        if let Some(before) = before {
            restore(SIGUSR1, &before);
        }
    }
}

/// The descriptor to which the handler writes is closed.
#[test]
fn handler_keeps_errno() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_child(|| {
        let poll = TestPoll::new();
        let mut signals = Signals::new([SIGUSR1]).unwrap();
        poll.register(&mut signals, 1, READ);
        // SAFETY: no pointers but to a constant; the closed descriptors are not used afterwards.
        unsafe {
            for fd in 3..256 {
                libc::close(fd);
            }
            assert_eq!(libc::open(b"/nowhere/at/all\0".as_ptr().cast(), libc::O_RDONLY), -1);
            assert_eq!(libc::raise(SIGUSR1), 0);
        }
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOENT));
        mem::forget((poll, signals));
    });
}
