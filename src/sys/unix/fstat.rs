//! What fstat(2) tells of a descriptor.
#![allow(dead_code)] // epoll finds out for itself.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::sys::unix::errno::last_errno;
use crate::sys::unix::syscall::{cvt, fcntl};

/// Which open file a number stood for, to see later whether it still does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
    access: libc::c_int,
    /// Only one open file has this inode: a socket, or a pipe without a name.
    pub(crate) is_unique: bool,
}

impl FileId {
    /// Returns `true` if `fd` still stands for the same file. The inode of a socket or a pipe is enough for that.
    #[allow(clippy::unnecessary_cast)] // The fields' types differ from system to system.
    pub(crate) fn is_of(&self, fd: RawFd) -> bool {
        let is_same = |stat: libc::stat| (stat.st_dev as u64, stat.st_ino as u64) == (self.device, self.inode);
        stat(fd).is_ok_and(is_same) && (self.is_unique || access(fd).is_ok_and(|access| access == self.access))
    }
}

/// What a watched file is compared by.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchedState {
    pub(crate) size: i64,
    pub(crate) links: u64,
    pub(crate) is_directory: bool,
}

fn stat(fd: RawFd) -> io::Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel writes one `stat`, and there is room for it.
    cvt(unsafe { libc::fstat(fd, stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it is written.
    Ok(unsafe { stat.assume_init() })
}

#[allow(clippy::unnecessary_cast)] // The field's type differs from system to system.
fn kind(stat: &libc::stat) -> libc::mode_t {
    stat.st_mode as libc::mode_t & libc::S_IFMT
}

fn not_permitted() -> io::Error {
    io::Error::from_raw_os_error(libc::EPERM)
}

/// Refuses what epoll refuses: a regular file or a directory is always ready, so waiting for it means nothing.
pub(crate) fn reject_regular_file(fd: RawFd) -> io::Result<()> {
    // SAFETY: the kernel writes no byte; the pointer is valid all the same.
    let cannot_seek = unsafe { libc::pread(fd, [0_u8; 1].as_mut_ptr().cast(), 0, 0) } == -1;
    if cannot_seek && last_errno() == libc::ESPIPE {
        // A socket, or a pipe or FIFO that can be read (POSIX pread). This call costs about 390 instructions on FreeBSD 13.2,
        // lseek(2) 350 and fstat(2) 660. lseek(2) does not refuse what was not opened to be read: there a FIFO of O_PATH would
        // be taken for one of which there are events.
        return Ok(());
    }
    access(fd)?;
    match stat(fd) {
        Ok(stat) if [libc::S_IFREG, libc::S_IFDIR].contains(&kind(&stat)) => Err(not_permitted()),
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Err(error),
        // NetBSD has no fstat(2) of a terminal whose master has closed (ENOENT), and waits for it.
        _ => Ok(()),
    }
}

/// Whether the descriptor is the end of a pipe or FIFO that can be written and not read.
pub(crate) fn is_write_end_of_pipe(fd: RawFd) -> bool {
    let is_fifo = stat(fd).is_ok_and(|stat| kind(&stat) == libc::S_IFIFO);
    is_fifo && access(fd).is_ok_and(|access| access == libc::O_WRONLY)
}

/// As `refuse`, but what can be waited for is accepted; and the file_id of it, if it has one: the anonymous files of
/// Linux (eventfd, timerfd, epoll, …) share one inode, whose mode has no type.
#[allow(clippy::unnecessary_cast)] // The fields' types differ from system to system.
pub(crate) fn pollable_file_id(fd: RawFd) -> io::Result<Option<FileId>> {
    let access = access(fd)?;
    let stat = match stat(fd) {
        Ok(stat) => stat,
        // NetBSD: a terminal whose master has closed.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_unique = match kind(&stat) {
        libc::S_IFREG if can_wait(fd) => false,
        libc::S_IFREG | libc::S_IFDIR => return Err(not_permitted()),
        0 => return Ok(None),
        libc::S_IFSOCK => true,
        libc::S_IFIFO => pipe_device() == stat.st_dev as u64,
        _ => false,
    };
    // Some BSDs number no socket and no pipe.
    let file_id = FileId { device: stat.st_dev as u64, inode: stat.st_ino as u64, access, is_unique };
    Ok(Some(file_id).filter(|file_id| file_id.inode != 0))
}

/// How it was opened: to read, to write, or both. A descriptor that was not opened (`O_PATH`) is `EBADF`.
fn access(fd: RawFd) -> io::Result<libc::c_int> {
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

/// Whether the readiness of a regular file changes. poll(2) reports both directions of every file that does not know.
fn can_wait(fd: RawFd) -> bool {
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
        // SAFETY: the kernel writes one `mq_attr`, and there is room for it.
        unsafe { libc::mq_getattr(fd, attributes.as_mut_ptr()) == 0 }
    }
    #[cfg(not(has_mq_descriptors))]
    {
        let _ = fd;
        false
    }
}

/// The device of the anonymous pipes, whose inodes are their own; the inode of a FIFO is the file's.
#[allow(clippy::unnecessary_cast)] // The field's type differs from system to system.
fn pipe_device() -> u64 {
    // No lock, because a forked child may come here; and no 64 bits, which some processors cannot load at once.
    static KNOWN: AtomicBool = AtomicBool::new(false);
    static DEVICE: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
    if !KNOWN.load(Ordering::Acquire) {
        let Ok([reader, _writer]) = crate::sys::unix::pipe::pipe() else { return u64::MAX };
        let Ok(stat) = stat(reader.as_raw_fd()) else { return u64::MAX };
        let device = stat.st_dev as u64;
        DEVICE[0].store(device as u32, Ordering::Relaxed);
        DEVICE[1].store((device >> 32) as u32, Ordering::Relaxed);
        KNOWN.store(true, Ordering::Release);
    }
    let [low, high] = [0, 1].map(|half: usize| u64::from(DEVICE[half].load(Ordering::Relaxed)));
    high << 32 | low
}

pub(crate) fn is_socket(fd: RawFd) -> bool {
    stat(fd).is_ok_and(|stat| kind(&stat) == libc::S_IFSOCK)
}

/// Returns `true` for a pipe without a name, whose other end cannot be opened again once it has gone.
#[allow(clippy::unnecessary_cast)] // The field's type differs from system to system.
pub(crate) fn is_pipe(fd: RawFd) -> bool {
    stat(fd).is_ok_and(|stat| kind(&stat) == libc::S_IFIFO && pipe_device() == stat.st_dev as u64)
}

/// Of a file or a directory; `None` of anything else.
#[allow(clippy::unnecessary_cast)] // The fields' types differ from system to system.
pub(crate) fn watched_state(fd: RawFd) -> io::Result<Option<WatchedState>> {
    let stat = stat(fd)?;
    let kind = kind(&stat);
    let is_directory = kind == libc::S_IFDIR;
    let state = WatchedState { size: stat.st_size as i64, links: stat.st_nlink as u64, is_directory };
    Ok(Some(state).filter(|_| is_directory || kind == libc::S_IFREG))
}

/// How many bytes can be read (FIONREAD); `None` of what does not know.
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
    fn files_are_refused_and_sockets_told_apart() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(reject_regular_file(file.as_raw_fd()).unwrap_err().raw_os_error(), Some(libc::EPERM));
        let directory = std::fs::File::open("/").unwrap();
        assert_eq!(reject_regular_file(directory.as_raw_fd()).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(reject_regular_file(-1).unwrap_err().raw_os_error(), Some(libc::EBADF));

        // Many open files have the inode of a device or of a FIFO; a pipe's is its own, where pipes are numbered.
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
