//! The state of a process as its parent can query it, without reaping the process: waitid(2) with `WNOWAIT`.

use std::{io, mem, ptr};

use crate::sys::unix::syscall::cvt;

/// The state of a process, for the process that calls waitid(2).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChildState {
    /// A child that cannot be reaped yet.
    Running,
    /// A child that has exited and was not reaped, with its wait status.
    Exited(libc::c_int),
    /// No child, or a child that was reaped.
    NoChild,
}

impl ChildState {
    pub(crate) fn of(pid: libc::pid_t) -> io::Result<ChildState> {
        ChildState::query(libc::P_PID, pid as _, 0)
    }

    /// Calls waitid(2) with an identifier of any type, and with additional options.
    pub(super) fn query(idtype: libc::idtype_t, id: libc::id_t, options: libc::c_int) -> io::Result<ChildState> {
        /// Space for the record of the kernel. On OpenBSD with 32 bits, the record of `libc` can be 8 bytes shorter.
        #[repr(C)]
        struct Space {
            info: libc::siginfo_t,
            #[cfg(libc_misplaces_si_status)]
            rest: u64,
        }
        // SAFETY: the fields are integers and addresses. Zeroes are a value of each.
        let mut space: Space = unsafe { mem::zeroed() };
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | options;
        loop {
            // SAFETY: the kernel writes one record, and the variable has space for one.
            match cvt(unsafe { libc::waitid(idtype, id, ptr::addr_of_mut!(space).cast(), options) }) {
                Ok(_) => break,
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(ChildState::NoChild),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let info = &space.info;
        // If the child has not exited, the kernel leaves the zeroes.
        if info.si_signo != libc::SIGCHLD {
            return Ok(ChildState::Running);
        }
        // SAFETY: the record describes a child, so that it has a status.
        Ok(ChildState::Exited(wait_status(info.si_code, unsafe { si_status(info) })))
    }
}

/// Returns the exit code, or the signal, of a record that waitid(2) has filled.
///
/// # Safety
///
/// The record describes a child.
unsafe fn si_status(info: &libc::siginfo_t) -> libc::c_int {
    #[cfg(libc_misplaces_si_status)]
    {
        // `<sys/siginfo.h>`. `libc` lacks the field before 0.2.183, and then reads behind the record: `libc` places the fields
        // of the child behind the padding, and in the header both are members of one union.
        #[repr(C)]
        struct Child {
            pid: libc::pid_t,
            uid: libc::uid_t,
            times: [libc::clock_t; 2],
            status: libc::c_int,
        }
        #[repr(C)]
        struct Record {
            numbers: [libc::c_int; 3],
            child: Child,
        }
        const _: () = assert!(mem::size_of::<Record>() <= mem::size_of::<libc::siginfo_t>());
        // SAFETY: the caller has promised these fields. The alignment of both records is that of a pointer or of `clock_t`.
        unsafe { (info as *const libc::siginfo_t).cast::<Record>().read_unaligned() }.child.status
    }
    #[cfg(not(libc_misplaces_si_status))]
    // SAFETY: the caller has promised the field.
    unsafe {
        info.si_status()
    }
}

/// Returns the wait status, as waitpid(2) returns it and `ExitStatus` contains it, for the fields of a `siginfo_t`.
///
/// waitid(2) of some systems returns all bits of the exit code. The status has the low byte, as waitpid(2) returns it (NetBSD:
/// all bits).
fn wait_status(code: libc::c_int, status: libc::c_int) -> libc::c_int {
    const STARTS_WITH_CODE: bool = cfg!(status_starts_with_code);
    match (code, STARTS_WITH_CODE) {
        (libc::CLD_EXITED, false) => (status & 0xff) << 8,
        (libc::CLD_EXITED, true) => status & 0xff,
        (libc::CLD_DUMPED, false) => status | 0x80,
        (libc::CLD_DUMPED, true) => status << 8 | 0x1_0000,
        (_, false) => status,
        (_, true) => status << 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_status_is_decoded_by_the_functions_of_the_system() {
        for code in [0, 1, 7, 255] {
            let status = wait_status(libc::CLD_EXITED, code | 0x100);
            assert!(libc::WIFEXITED(status) && !libc::WIFSIGNALED(status));
            assert_eq!(libc::WEXITSTATUS(status), code);
        }
        for (code, has_core) in [(libc::CLD_KILLED, false), (libc::CLD_DUMPED, true)] {
            let status = wait_status(code, libc::SIGABRT);
            assert!(libc::WIFSIGNALED(status) && !libc::WIFEXITED(status));
            assert_eq!((libc::WTERMSIG(status), libc::WCOREDUMP(status)), (libc::SIGABRT, has_core));
        }
    }
}
