//! FIFOs and terminals.

use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub fn make_fifo(path: &Path) {
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a string that ends with a zero byte.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}

/// Opens a FIFO for reading, non-blocking.
pub fn open_to_read(path: &Path) -> File {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap()
}

/// Opens a FIFO for writing, non-blocking. Fails if the FIFO has no reader.
pub fn open_to_write(path: &Path) -> File {
    File::options().write(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap()
}

/// Returns the master and the slave of a terminal, both non-blocking.
pub fn terminal() -> (File, File) {
    let (mut master, mut slave) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: two numbers are written; the other pointers may be null.
    let result = unsafe { libc::openpty(&mut master, &mut slave, null, null.cast(), null.cast()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    let own = |fd| {
        // SAFETY: no pointers; the descriptor is new, and has no other owner.
        unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFL);
            assert_eq!(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK), 0);
            File::from(OwnedFd::from_raw_fd(fd))
        }
    };
    (own(master), own(slave))
}
