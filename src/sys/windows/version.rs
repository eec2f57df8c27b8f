//! The oldest version of Windows.

use std::ffi::CStr;
use std::io;

use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};

use crate::sys::error::unsupported;

/// A library of every process, and a function that Windows 10 and Windows Server 2016 have added to it.
///
/// The number of a version would be that of another system in a program with a compatibility mode, and in wine.
///
/// <https://learn.microsoft.com/en-us/windows/win32/api/handleapi/nf-handleapi-compareobjecthandles>
const LIBRARY: &[u8] = b"kernelbase.dll\0";
const FUNCTION: &[u8] = b"CompareObjectHandles\0";

/// Fails with `Unsupported` on a Windows before Windows 10 and Windows Server 2016.
pub(crate) fn check() -> io::Result<()> {
    match has_function(LIBRARY, FUNCTION) {
        true => Ok(()),
        false => Err(too_old()),
    }
}

#[cold]
fn too_old() -> io::Error {
    unsupported(
        "a `Poll` cannot be created, because this Windows is older than Windows 10 and Windows Server 2016: use one of these, \
         or a later one",
    )
}

/// The names end with a zero. Panics otherwise.
fn has_function(library: &[u8], function: &[u8]) -> bool {
    let [library, function] =
        [library, function].map(|name| CStr::from_bytes_with_nul(name).expect("a zero at the end"));
    // SAFETY: the names end with a zero, and the library is not unloaded.
    unsafe { GetProcAddress(GetModuleHandleA(library.as_ptr().cast()), function.as_ptr().cast()) }.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_without_the_function_is_too_old() {
        check().unwrap();
        assert!(!has_function(LIBRARY, b"KevioHasNoSuchFunction\0"));
        assert!(!has_function(b"kevio-has-no-such-library.dll\0", FUNCTION));
        let error = too_old();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("Windows 10"), "{error}");
    }
}
