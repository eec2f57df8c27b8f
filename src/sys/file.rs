//! What fstat(2) tells of a descriptor.
#![allow(dead_code)] // epoll finds out for itself.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use super::call::{check, fcntl};

/// Which open file a number stood for, to see later whether it still does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

/// What a watched file is compared by.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(super) size: i64,
    pub(super) links: u64,
    pub(super) is_directory: bool,
}

fn stat(fd: RawFd) -> io::Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel writes one `stat`, and there is room for it.
    check(unsafe { libc::fstat(fd, stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it is written.
    Ok(unsafe { stat.assume_init() })
}

/// Refuses what epoll refuses: a regular file or a directory is always ready, so waiting for it means nothing.
pub(super) fn refuse(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers; an offset of 0 from the current position changes nothing.
    let cannot_seek = unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) } == -1;
    if cannot_seek && io::Error::last_os_error().raw_os_error() == Some(libc::ESPIPE) {
        // A socket, pipe or FIFO (POSIX lseek). This call looks at less than fstat(2) does.
        return Ok(());
    }
    identify(fd).map(drop)
}

/// Whether the descriptor is the end of a pipe or FIFO that can be written and not read.
#[allow(clippy::unnecessary_cast)] // The field's type differs from system to system.
pub(super) fn is_write_end_of_pipe(fd: RawFd) -> bool {
    let is_fifo = stat(fd).is_ok_and(|stat| stat.st_mode as libc::mode_t & libc::S_IFMT == libc::S_IFIFO);
    let is_write_only = || fcntl(fd, libc::F_GETFL, 0).is_ok_and(|flags| flags & libc::O_ACCMODE == libc::O_WRONLY);
    is_fifo && is_write_only()
}

/// As `refuse`; and the identity of what is not refused, if it has one of its own: the anonymous files of Linux
/// (eventfd, timerfd, epoll, …) share one inode, whose mode has no type.
#[allow(clippy::unnecessary_cast)] // The fields' types differ from system to system.
pub(super) fn identify(fd: RawFd) -> io::Result<Option<Identity>> {
    let stat = stat(fd)?;
    match stat.st_mode as libc::mode_t & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFDIR => Err(io::Error::from_raw_os_error(libc::EPERM)),
        0 => Ok(None),
        // Some BSDs number no socket.
        _ if stat.st_ino == 0 => Ok(None),
        _ => Ok(Some(Identity { device: stat.st_dev as u64, inode: stat.st_ino as u64 })),
    }
}

#[allow(clippy::unnecessary_cast)] // The field's type differs from system to system.
pub(super) fn is_socket(fd: RawFd) -> bool {
    stat(fd).is_ok_and(|stat| stat.st_mode as libc::mode_t & libc::S_IFMT == libc::S_IFSOCK)
}

/// Of a file or a directory; `None` of anything else.
#[allow(clippy::unnecessary_cast)] // The fields' types differ from system to system.
pub(super) fn measure(fd: RawFd) -> io::Result<Option<Measure>> {
    let stat = stat(fd)?;
    let kind = stat.st_mode as libc::mode_t & libc::S_IFMT;
    let is_directory = kind == libc::S_IFDIR;
    let measure = Measure { size: stat.st_size as i64, links: stat.st_nlink as u64, is_directory };
    Ok(Some(measure).filter(|_| is_directory || kind == libc::S_IFREG))
}

/// How many bytes can be read (FIONREAD); `None` of what does not know.
pub(super) fn unread(fd: RawFd) -> Option<i32> {
    with_fionread!({
        let mut bytes: libc::c_int = 0;
        // SAFETY: the kernel writes one `int`.
        let result = unsafe { libc::ioctl(fd, libc::FIONREAD as _, &mut bytes) };
        (result == 0).then_some(bytes)
    } else {
        let _ = fd;
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn files_are_refused_and_sockets_told_apart() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(refuse(file.as_raw_fd()).unwrap_err().raw_os_error(), Some(libc::EPERM));
        let directory = std::fs::File::open("/").unwrap();
        assert_eq!(refuse(directory.as_raw_fd()).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(refuse(-1).unwrap_err().raw_os_error(), Some(libc::EBADF));

        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let copy = a.try_clone().unwrap();
        let identity = |fd: &dyn AsRawFd| identify(fd.as_raw_fd()).unwrap().unwrap();
        assert_eq!(identity(&a), identity(&copy));
        assert_ne!(identity(&a), identity(&b));
    }
}
