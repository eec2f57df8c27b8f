//! The C library's functions that are system calls: this executable has its own of the same names, which count and
//! hand on.
//!
//! The linker gives them to all that is linked into it, kevio and the standard library, and not to the C library, nor
//! for the most part to others; what is called within a call is not counted, for libkqueue is made of calls.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static CALLS: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// What this thread asks of the C library in `of`.
pub fn calls<T>(of: impl FnOnce() -> T) -> (T, Vec<String>) {
    COUNTING.with(|counting| counting.set(true));
    let value = of();
    COUNTING.with(|counting| counting.set(false));
    let calls = CALLS.with(RefCell::take);
    (value, calls.into_iter().map(str::to_owned).collect())
}

/// Runs `cases`.
pub fn run(cases: fn()) {
    cases();
}

fn count<T>(name: &'static str, call: impl FnOnce() -> T) -> T {
    if !COUNTING.with(|counting| counting.replace(false)) {
        return call();
    }
    CALLS.with(|calls| calls.borrow_mut().push(name));
    let result = call();
    COUNTING.with(|counting| counting.set(true));
    result
}

/// The function of that name, which ends in a zero byte, behind this executable's own.
fn next(name: &'static str, found: &AtomicPtr<c_void>) -> *mut c_void {
    let mut function = found.load(Ordering::Relaxed);
    if function.is_null() {
        // SAFETY: the name ends in a zero byte.
        function = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast::<c_char>()) };
        if function.is_null() {
            // Nothing can be told from here: what tells is made of these functions.
            std::process::abort();
        }
        found.store(function, Ordering::Relaxed);
    }
    function
}

macro_rules! hand_on {
    ($($(#[$system:meta])* fn $name:ident as $symbol:tt($($argument:ident: $type:ty),*) -> $result:ty;)+) => {$(
        /// # Safety
        ///
        /// As the function of the C library.
        $(#[$system])*
        #[export_name = $symbol]
        unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            static NEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            let next = next(concat!($symbol, "\0"), &NEXT);
            // SAFETY: the C library's function of this name has this type.
            let next: unsafe extern "C" fn($($type),*) -> $result = unsafe { std::mem::transmute(next) };
            // SAFETY: the caller's promise.
            count(stringify!($name), || unsafe { next($($argument),*) })
        }
    )+};
}

/// Records are handed on as they are.
type Records = *mut c_void;

#[cfg(not(target_os = "netbsd"))]
type Count = c_int;
#[cfg(target_os = "netbsd")]
type Count = libc::size_t;

// The names are those that libc's declarations link to.
hand_on! {
    #[cfg(not(target_os = "netbsd"))]
    fn kevent as "kevent"(kq: c_int, changes: Records, n: Count, events: Records, room: Count, timeout: Records) -> c_int;
    #[cfg(target_os = "netbsd")]
    fn kevent as "__kevent50"(kq: c_int, changes: Records, n: Count, events: Records, room: Count, timeout: Records) -> c_int;

    #[cfg(not(any(target_os = "netbsd", all(target_os = "macos", target_arch = "x86_64"))))]
    fn fstat as "fstat"(fd: c_int, stat: Records) -> c_int;
    #[cfg(target_os = "netbsd")]
    fn fstat as "__fstat50"(fd: c_int, stat: Records) -> c_int;
    #[cfg(all(target_os = "macos", target_arch = "x86_64"))]
    fn fstat as "fstat$INODE64"(fd: c_int, stat: Records) -> c_int;

    #[cfg(not(all(target_os = "macos", target_arch = "x86_64")))]
    fn close as "close"(fd: c_int) -> c_int;
    #[cfg(all(target_os = "macos", target_arch = "x86_64"))]
    fn close as "close$NOCANCEL"(fd: c_int) -> c_int;

    fn pread as "pread"(fd: c_int, bytes: Records, len: libc::size_t, offset: libc::off_t) -> libc::ssize_t;
    fn accept as "accept"(fd: c_int, address: Records, len: Records) -> c_int;
    #[cfg(not(target_vendor = "apple"))]
    fn accept4 as "accept4"(fd: c_int, address: Records, len: Records, flags: c_int) -> c_int;
    fn write as "write"(fd: c_int, bytes: Records, len: libc::size_t) -> libc::ssize_t;
    fn poll as "poll"(fds: Records, n: libc::nfds_t, timeout: c_int) -> c_int;
    #[cfg(not(any(target_vendor = "apple", target_os = "netbsd")))]
    fn ppoll as "ppoll"(fds: Records, n: libc::nfds_t, timeout: Records, mask: Records) -> c_int;
}
