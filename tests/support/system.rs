//! Differences between the releases of one system.

/// Returns `true` if wine runs the test, and not Windows.
pub fn is_wine() -> bool {
    wine_version().is_some()
}

/// Returns the major number of the version of wine; `None` on Windows and on other systems. The library ntdll of wine has a
/// function that Windows does not have.
fn wine_version() -> Option<u32> {
    #[cfg(windows)]
    {
        use std::ffi::{c_char, CStr};

        extern "system" {
            fn GetModuleHandleA(name: *const u8) -> *mut u8;
            fn GetProcAddress(module: *mut u8, name: *const u8) -> Option<extern "C" fn() -> *const c_char>;
        }
        // SAFETY: both strings end with a zero byte, and each process has the library.
        let version =
            unsafe { GetProcAddress(GetModuleHandleA(b"ntdll.dll\0".as_ptr()), b"wine_get_version\0".as_ptr()) }?;
        // SAFETY: the function returns a constant string.
        let version = unsafe { CStr::from_ptr(version()) }.to_str().expect("ASCII");
        version.split('.').next()?.parse().ok()
    }
    #[cfg(not(windows))]
    None
}

/// Returns `true` if the thread pool drops a signal when a wait is changed after the pool has consumed the signal. wine does from
/// version 9 (`update_serial` in dlls/ntdll/threadpool.c).
pub fn changed_wait_drops_signals() -> bool {
    wine_version() > Some(8)
}

/// Returns the major number of the release of FreeBSD; `None` on other systems.
#[cfg(target_os = "freebsd")]
pub fn freebsd_release() -> Option<u32> {
    // SAFETY: integers and arrays of them; all zeroes is a value of each.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills one `utsname`.
    assert_eq!(unsafe { libc::uname(&mut name) }, 0);
    let digits = name.release.iter().map(|&byte| byte as u8).take_while(u8::is_ascii_digit);
    Some(digits.fold(0, |release, digit| 10 * release + u32::from(digit - b'0')))
}

#[cfg(not(target_os = "freebsd"))]
pub fn freebsd_release() -> Option<u32> {
    None
}

/// Returns `true` if a kqueue reports a Unix stream as closed for writing when the peer shuts down reading. FreeBSD does
/// from release 15.
pub fn reports_read_shutdown_of_peer() -> bool {
    match freebsd_release() {
        Some(release) => release >= 15,
        None => !cfg!(any(target_os = "netbsd", target_os = "openbsd")),
    }
}
