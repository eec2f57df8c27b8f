//! The kind and the identity of an open file, from fstat(2) and fcntl(2).
#![allow(dead_code)] // Unused with the epoll backend, whose kernel rejects regular files and closed descriptors itself.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::sys::unix::errno::last_errno;
use crate::sys::unix::syscall::{cvt, fcntl};

/// The identity of the open file that a descriptor number stands for, to detect that the number was reused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
    access: libc::c_int,
    /// No other open file has this inode. `true` for a socket, and for a pipe without a name.
    pub(crate) is_unique: bool,
}

impl FileId {
    /// Returns `true` if `fd` still stands for the same file. A unique inode is enough; else the access mode must agree too.
    #[allow(clippy::unnecessary_cast)] // The types of the fields differ between systems.
    pub(crate) fn is_of(&self, fd: RawFd) -> bool {
        let is_same = |stat: libc::stat| (stat.st_dev as u64, stat.st_ino as u64) == (self.device, self.inode);
        stat(fd).is_ok_and(is_same) && (self.is_unique || access_mode(fd).is_ok_and(|access| access == self.access))
    }
}

/// Calls fstat(2).
pub(crate) fn stat(fd: RawFd) -> io::Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel writes one `stat`, and the variable has space for one.
    cvt(unsafe { libc::fstat(fd, stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so that the kernel has written the value.
    Ok(unsafe { stat.assume_init() })
}

/// The device, the inode and the mode of a file. Files without an inode of their own, such as those of eventfd(2), have equal
/// numbers.
pub(crate) type FileNumbers = (u64, u64, u64);

#[allow(dead_code)] // Only the poll backend uses the function.
#[allow(clippy::unnecessary_cast)] // The types of the fields differ between systems.
pub(crate) fn file_numbers(fd: RawFd) -> io::Result<FileNumbers> {
    stat(fd).map(|stat| (stat.st_dev as u64, stat.st_ino as u64, stat.st_mode as u64))
}

#[allow(clippy::unnecessary_cast)] // The field's type differs from system to system.
pub(crate) fn kind(stat: &libc::stat) -> libc::mode_t {
    stat.st_mode as libc::mode_t & libc::S_IFMT
}

fn not_permitted() -> io::Error {
    io::Error::from_raw_os_error(libc::EPERM)
}

/// Fails with `EPERM` for a regular file or a directory, like epoll. Such a file is always ready, so that a wait would be
/// meaningless.
pub(crate) fn reject_regular_file(fd: RawFd) -> io::Result<()> {
    // SAFETY: the kernel writes no byte, and the pointer is valid.
    let cannot_seek = unsafe { libc::pread(fd, [0_u8; 1].as_mut_ptr().cast(), 0, 0) } == -1;
    if cannot_seek && last_errno() == libc::ESPIPE {
        // A socket, or a pipe or FIFO that is open for reading (POSIX pread). On FreeBSD 13.2 this call takes about 390
        // instructions, lseek(2) 350 and fstat(2) 660. lseek(2) would return the same error for a FIFO that was opened with
        // O_PATH, and such a descriptor cannot be waited for.
        return Ok(());
    }
    access_mode(fd)?;
    match stat(fd) {
        Ok(stat) if [libc::S_IFREG, libc::S_IFDIR].contains(&kind(&stat)) => Err(not_permitted()),
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Err(error),
        // On NetBSD, fstat(2) fails with ENOENT for a terminal whose master is closed. The terminal can be waited for.
        _ => Ok(()),
    }
}

/// Returns `true` for an end of a pipe or FIFO that is open for writing only.
pub(crate) fn is_write_end_of_pipe(fd: RawFd) -> bool {
    let is_fifo = stat(fd).is_ok_and(|stat| kind(&stat) == libc::S_IFIFO);
    is_fifo && access_mode(fd).is_ok_and(|access| access == libc::O_WRONLY)
}

/// Returns the identity of a file that can be waited for, or `None` if the file has no identity.
///
/// Fails with `EPERM` like `reject_regular_file`, but accepts regular files whose readiness changes. The anonymous files of
/// Linux (eventfd, timerfd, epoll, …) share one inode, whose mode has no type, and so have no identity.
#[allow(clippy::unnecessary_cast)] // The types of the fields differ between systems.
pub(crate) fn pollable_file_id(fd: RawFd) -> io::Result<Option<FileId>> {
    let access = access_mode(fd)?;
    let stat = match stat(fd) {
        Ok(stat) => stat,
        // NetBSD: a terminal whose master is closed.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_unique = match kind(&stat) {
        libc::S_IFREG if has_changing_readiness(fd) => false,
        libc::S_IFREG | libc::S_IFDIR => return Err(not_permitted()),
        0 => return Ok(None),
        libc::S_IFSOCK => true,
        libc::S_IFIFO => pipe_device() == stat.st_dev as u64,
        _ => false,
    };
    // On some BSDs sockets and pipes have the inode 0.
    let file_id = FileId { device: stat.st_dev as u64, inode: stat.st_ino as u64, access, is_unique };
    Ok(Some(file_id).filter(|file_id| file_id.inode != 0))
}

/// Returns the access mode: reading, writing, or both. Fails with `EBADF` for a descriptor of `O_PATH`.
fn access_mode(fd: RawFd) -> io::Result<libc::c_int> {
    let flags = fcntl(fd, libc::F_GETFL, 0)?;
    #[cfg(has_o_path)]
    let is_path = flags & libc::O_PATH != 0;
    #[cfg(not(has_o_path))]
    let is_path = false;
    if is_path {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(flags & libc::O_ACCMODE)
}

/// Returns `true` if the readiness of a regular file changes. poll(2) always reports both directions for an ordinary file.
fn has_changing_readiness(fd: RawFd) -> bool {
    #[cfg(has_pollable_files)]
    {
        let both = libc::POLLIN | libc::POLLOUT;
        let mut probed = [libc::pollfd { fd, events: both, revents: 0 }];
        let is_probed = crate::sys::unix::poll::call::poll(&mut probed, Some(std::time::Duration::ZERO), None).is_ok();
        is_message_queue(fd) || (is_probed && probed[0].revents & both != both)
    }
    #[cfg(not(has_pollable_files))]
    {
        let _ = fd;
        false
    }
}

fn is_message_queue(fd: RawFd) -> bool {
    #[cfg(has_mq_descriptors)]
    {
        let mut attributes = MaybeUninit::<libc::mq_attr>::uninit();
        // SAFETY: the kernel writes one `mq_attr`, and the variable has space for one.
        unsafe { libc::mq_getattr(fd, attributes.as_mut_ptr()) == 0 }
    }
    #[cfg(not(has_mq_descriptors))]
    {
        let _ = fd;
        false
    }
}

/// Returns the device of pipes without a name. Each such pipe has an inode of its own, and a FIFO has the inode of its file.
#[allow(clippy::unnecessary_cast)] // The type of the field differs between systems.
fn pipe_device() -> u64 {
    // The value has no lock, because a forked child may call the function. Its halves are separate, because some processors have
    // no 64-bit atomics.
    static IS_SET: AtomicBool = AtomicBool::new(false);
    static DEVICE: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
    if !IS_SET.load(Ordering::Acquire) {
        let Ok([reader, _writer]) = crate::sys::unix::pipe::pipe() else { return u64::MAX };
        let Ok(stat) = stat(reader.as_raw_fd()) else { return u64::MAX };
        let device = stat.st_dev as u64;
        DEVICE[0].store(device as u32, Ordering::Relaxed);
        DEVICE[1].store((device >> 32) as u32, Ordering::Relaxed);
        IS_SET.store(true, Ordering::Release);
    }
    let [low, high] = [0, 1].map(|half: usize| u64::from(DEVICE[half].load(Ordering::Relaxed)));
    high << 32 | low
}

pub(crate) fn is_socket(fd: RawFd) -> bool {
    stat(fd).is_ok_and(|stat| kind(&stat) == libc::S_IFSOCK)
}

/// Returns `true` for a pipe without a name, whose other end cannot be opened again after its close.
#[allow(clippy::unnecessary_cast)] // The type of the field differs between systems.
pub(crate) fn is_pipe(fd: RawFd) -> bool {
    stat(fd).is_ok_and(|stat| kind(&stat) == libc::S_IFIFO && pipe_device() == stat.st_dev as u64)
}

/// Returns the number of bytes that can be read (FIONREAD), or `None` if the system or the file does not support the request.
pub(crate) fn bytes_readable(fd: RawFd) -> Option<i32> {
    #[cfg(has_fionread)]
    {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the kernel writes one `int`.
        let result = unsafe { libc::ioctl(fd, libc::FIONREAD as _, &mut bytes) };
        (result == 0).then_some(bytes)
    }
    #[cfg(not(has_fionread))]
    {
        let _ = fd;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_rejected_and_sockets_are_distinguished() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(reject_regular_file(file.as_raw_fd()).unwrap_err().raw_os_error(), Some(libc::EPERM));
        let directory = std::fs::File::open("/").unwrap();
        assert_eq!(reject_regular_file(directory.as_raw_fd()).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(reject_regular_file(-1).unwrap_err().raw_os_error(), Some(libc::EBADF));

        // Many open files share the inode of a device or of a FIFO. A pipe has an inode of its own, if pipes have inodes.
        let unique = |fd: &dyn AsRawFd| pollable_file_id(fd.as_raw_fd()).unwrap().map(|file_id| file_id.is_unique);
        assert_eq!(unique(&std::fs::File::open("/dev/null").unwrap()), Some(false));
        let [reader, _writer] = crate::sys::unix::pipe::pipe().unwrap();
        assert_ne!(unique(&reader), Some(false));

        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let copy = a.try_clone().unwrap();
        let file_id = |fd: &dyn AsRawFd| pollable_file_id(fd.as_raw_fd()).unwrap().unwrap();
        assert_eq!(file_id(&a), file_id(&copy));
        assert_ne!(file_id(&a), file_id(&b));
    }
}
