//! Differences between the releases of one system.

/// Returns `true` if wine runs the test, and not Windows: the library ntdll of wine has a function that Windows does not have.
pub fn is_wine() -> bool {
    #[cfg(windows)]
    {
        extern "system" {
            fn GetModuleHandleA(name: *const u8) -> *mut u8;
            fn GetProcAddress(module: *mut u8, name: *const u8) -> *const u8;
        }
        // SAFETY: both strings end with a zero byte, and each process has the library.
        unsafe { !GetProcAddress(GetModuleHandleA(b"ntdll.dll\0".as_ptr()), b"wine_get_version\0".as_ptr()).is_null() }
    }
    #[cfg(not(windows))]
    false
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
