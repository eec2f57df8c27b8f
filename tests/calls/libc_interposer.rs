//! Counts calls of C library functions that are system calls. This executable defines functions of the same names, which count
//! and call the original.
//!
//! The linker resolves the calls of kevio and of the standard library to these definitions, but not those of the C library
//! itself. Calls within a counted call are not counted, because libkqueue makes many.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static CALLS: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Returns the value of `f`, and the calls of this thread in `f`.
pub fn calls<T>(f: impl FnOnce() -> T) -> (T, Vec<String>) {
    COUNTING.with(|counting| counting.set(true));
    let value = f();
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

/// Returns the next definition of a function after that of this executable. `name` ends with a zero byte.
fn next(name: &'static str, found: &AtomicPtr<c_void>) -> *mut c_void {
    let mut function = found.load(Ordering::Relaxed);
    if function.is_null() {
        // SAFETY: the name ends in a zero byte.
        function = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast::<c_char>()) };
        if function.is_null() {
            // A panic message would call these functions.
            std::process::abort();
        }
        found.store(function, Ordering::Relaxed);
    }
    function
}

macro_rules! forward {
    ($($(#[$system:meta])* fn $name:ident as $symbol:tt($($argument:ident: $type:ty),*) -> $result:ty;)+) => {$(
        /// # Safety
        ///
        /// As for the function of the C library.
        $(#[$system])*
        #[export_name = $symbol]
        unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            static NEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            let next = next(concat!($symbol, "\0"), &NEXT);
            // SAFETY: the C library's function of this name has this type.
            let next: unsafe extern "C" fn($($type),*) -> $result = unsafe { std::mem::transmute(next) };
            // SAFETY: guaranteed by the caller.
            count(stringify!($name), || unsafe { next($($argument),*) })
        }
    )+};
}

/// A pointer that is passed on unchanged.
type Pointer = *mut c_void;

#[cfg(not(target_os = "netbsd"))]
type Count = c_int;
#[cfg(target_os = "netbsd")]
type Count = libc::size_t;

// The symbols are those to which the declarations of libc link.
forward! {
    #[cfg(not(target_os = "netbsd"))]
    fn kevent as "kevent"(kq: c_int, changes: Pointer, n: Count, events: Pointer, capacity: Count, timeout: Pointer) -> c_int;
    #[cfg(target_os = "netbsd")]
    fn kevent as "__kevent50"(kq: c_int, changes: Pointer, n: Count, events: Pointer, capacity: Count, timeout: Pointer) -> c_int;

    #[cfg(not(any(target_os = "netbsd", all(target_os = "macos", target_arch = "x86_64"))))]
    fn fstat as "fstat"(fd: c_int, stat: Pointer) -> c_int;
    #[cfg(target_os = "netbsd")]
    fn fstat as "__fstat50"(fd: c_int, stat: Pointer) -> c_int;
    #[cfg(all(target_os = "macos", target_arch = "x86_64"))]
    fn fstat as "fstat$INODE64"(fd: c_int, stat: Pointer) -> c_int;

    #[cfg(not(all(target_os = "macos", target_arch = "x86_64")))]
    fn close as "close"(fd: c_int) -> c_int;
    #[cfg(all(target_os = "macos", target_arch = "x86_64"))]
    fn close as "close$NOCANCEL"(fd: c_int) -> c_int;

    fn pread as "pread"(fd: c_int, bytes: Pointer, len: libc::size_t, offset: libc::off_t) -> libc::ssize_t;
    fn accept as "accept"(fd: c_int, address: Pointer, len: Pointer) -> c_int;
    #[cfg(not(target_vendor = "apple"))]
    fn accept4 as "accept4"(fd: c_int, address: Pointer, len: Pointer, flags: c_int) -> c_int;
    fn write as "write"(fd: c_int, bytes: Pointer, len: libc::size_t) -> libc::ssize_t;
    fn poll as "poll"(fds: Pointer, n: libc::nfds_t, timeout: c_int) -> c_int;
    #[cfg(not(any(target_vendor = "apple", target_os = "netbsd")))]
    fn ppoll as "ppoll"(fds: Pointer, n: libc::nfds_t, timeout: Pointer, mask: Pointer) -> c_int;
}
