//! The exit of a process: a wait of the thread pool for the handle of the process.
//!
//! The handle stands for the process as long as the handle is open, also after the process has exited. The system uses the
//! identifier of a process again when no handle of the process is open.

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::os::windows::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use windows_sys::Win32::Foundation::{ERROR_INVALID_HANDLE, ERROR_INVALID_PARAMETER, STILL_ACTIVE, WAIT_FAILED};
use windows_sys::Win32::System::Threading::{
    GetExitCodeProcess, GetProcessId, OpenProcess, WaitForSingleObject, PROCESS_QUERY_LIMITED_INFORMATION,
    PROCESS_SYNCHRONIZE,
};

use crate::sys::error::invalid_input;
use crate::sys::notify::Notify;
use crate::sys::windows::wait::{take_signal, Wait};

/// The identifier of a process, as `Process` takes and returns it.
pub(crate) type Pid = u32;
/// An exit code.
pub(crate) type RawStatus = u32;

/// The exit of one process, which is reported once for each registration.
#[derive(Debug)]
pub(crate) struct ChildExit {
    handle: OwnedHandle,
    pid: Pid,
    is_reported: AtomicBool,
}

/// The wait of a registered source for the exit.
pub(crate) type ExitSubscription = Wait;

/// Returns the exit status with this exit code.
pub(crate) fn exit_status(status: RawStatus) -> ExitStatus {
    ExitStatus::from_raw(status)
}

impl ChildExit {
    /// Duplicates the handle of a child.
    pub(crate) fn of_child(child: &Child) -> io::Result<ChildExit> {
        Ok(ChildExit::new(child.as_handle().try_clone_to_owned()?, child.id()))
    }

    /// Opens the process with this identifier.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the number is zero.
    /// * `NotFound`: there is no such process.
    /// * `PermissionDenied`: the process may not be opened.
    pub(crate) fn of(pid: Pid) -> io::Result<ChildExit> {
        if pid == 0 {
            return Err(invalid_input(
                "`Process::from_pid` needs the identifier of a process, and 0 is that of the idle threads of the system: \
                 pass the identifier of a process",
            ));
        }
        // SAFETY: no pointers.
        let handle = unsafe { OpenProcess(PROCESS_SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION, 0, pid) };
        if handle.is_null() {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error().map(i32::unsigned_abs) {
                Some(ERROR_INVALID_PARAMETER) => no_such_process(pid),
                _ => error,
            });
        }
        // SAFETY: the system has just made this handle, and it has no other owner.
        let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
        // The system ignores the two low bits of the number.
        match process_id(handle.as_handle())? == pid {
            true => Ok(ChildExit::new(handle, pid)),
            false => Err(no_such_process(pid)),
        }
    }

    /// Takes a handle of a process. Fails with `InvalidInput` for another handle, and with `PermissionDenied` if the handle may
    /// not be waited for or queried.
    pub(crate) fn of_handle(handle: OwnedHandle) -> io::Result<ChildExit> {
        let pid = process_id(handle.as_handle())?;
        // SAFETY: the handle is open. The timeout is zero.
        if unsafe { WaitForSingleObject(handle.as_raw_handle(), 0) } == WAIT_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(ChildExit::new(handle, pid))
    }

    fn new(handle: OwnedHandle, pid: Pid) -> ChildExit {
        ChildExit { handle, pid, is_reported: AtomicBool::new(false) }
    }

    pub(crate) fn handle(&self) -> BorrowedHandle<'_> {
        self.handle.as_handle()
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Notifies `registration` when the process has exited, until the subscription is dropped.
    pub(crate) fn subscribe(&self, registration: Arc<dyn Notify>) -> io::Result<ExitSubscription> {
        let wait = Wait::new(self.handle(), move |_| registration.notify())?;
        wait.arm();
        Ok(wait)
    }

    /// Reports the exit again. Returns `true` if the process has exited.
    pub(crate) fn rearm(&self) -> bool {
        self.is_reported.store(false, Ordering::Relaxed);
        self.has_exited()
    }

    /// Returns `true` if the process has exited, and the exit was not reported yet.
    pub(crate) fn take_exit(&self) -> bool {
        !self.is_reported.load(Ordering::Relaxed)
            && self.has_exited()
            && !self.is_reported.swap(true, Ordering::Relaxed)
    }

    /// Returns the exit code. `None` if the process has not exited, or if the handle may not be queried.
    pub(crate) fn status(&self) -> Option<RawStatus> {
        // The value `STILL_ACTIVE` is an exit code too.
        if !self.has_exited() {
            return None;
        }
        let mut code = STILL_ACTIVE as u32;
        // SAFETY: the handle is open, and the system writes one number.
        let is_known = unsafe { GetExitCodeProcess(self.handle.as_raw_handle(), &mut code) } != 0;
        is_known.then_some(code)
    }

    fn has_exited(&self) -> bool {
        // The signal of a process is never consumed.
        take_signal(self.handle())
    }
}

/// Returns the identifier of the process with this handle. Fails with `InvalidInput` if the handle is none of a process.
fn process_id(handle: BorrowedHandle<'_>) -> io::Result<Pid> {
    // SAFETY: the handle is open.
    let pid = unsafe { GetProcessId(handle.as_raw_handle()) };
    if pid != 0 {
        return Ok(pid);
    }
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error().map(i32::unsigned_abs) {
        Some(ERROR_INVALID_HANDLE) => invalid_input(
            "`Process::from_handle` needs a handle of a process, and the handle is of another kind: create the source \
             with `Process::from_pid`",
        ),
        _ => error,
    })
}

/// The error of a process that does not exist.
#[cold]
fn no_such_process(pid: Pid) -> io::Error {
    let message = format!(
        "`Process::from_pid({pid})` found no process, because it has exited and no handle of it is open: create the \
         source while the process runs, or from a handle"
    );
    io::Error::new(io::ErrorKind::NotFound, message)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::mpsc::{channel, Sender};
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::sys::windows::wait::create_event;

    struct Notifications(Mutex<Sender<()>>);

    impl Notify for Notifications {
        fn notify(&self) {
            self.0.lock().unwrap().send(()).unwrap();
        }
    }

    /// Starts a program that waits for its input to end, and then exits.
    fn start(script: &str) -> Child {
        Command::new("cmd").args(["/d", "/c", script]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn exit_notifies_and_has_a_status() {
        let mut child = start("set /p line= & exit 7");
        let exit = ChildExit::of_child(&child).unwrap();
        assert_eq!(exit.pid(), child.id());
        let (sender, receiver) = channel();
        let subscription = exit.subscribe(Arc::new(Notifications(Mutex::new(sender)))).unwrap();
        assert!(!exit.take_exit() && exit.status().is_none() && !exit.rearm());
        drop(child.stdin.take());
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(exit.take_exit() && !exit.take_exit());
        assert!(exit.rearm() && exit.take_exit());
        assert_eq!(exit.status(), Some(7));
        assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(7));
        drop(subscription);
        // An exit before the subscription.
        let (sender, receiver) = channel();
        let _subscription = exit.subscribe(Arc::new(Notifications(Mutex::new(sender)))).unwrap();
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn exit_code_of_a_running_process_is_an_exit_code_too() {
        let mut child = start("exit 259");
        let exit = ChildExit::of_child(&child).unwrap();
        child.wait().unwrap();
        assert!(exit.take_exit());
        assert_eq!(exit.status(), Some(STILL_ACTIVE as u32));
    }

    #[test]
    fn identifiers_that_are_no_process_are_rejected() {
        let kind = |pid| ChildExit::of(pid).unwrap_err().kind();
        assert_eq!(kind(0), io::ErrorKind::InvalidInput);
        assert_eq!([u32::MAX, u32::MAX - 3, 0x7fff_fff0].map(kind), [io::ErrorKind::NotFound; 3]);
        let own = std::process::id();
        assert_eq!(ChildExit::of(own).unwrap().pid(), own);
        assert_eq!(kind(own + 1), io::ErrorKind::NotFound);
    }

    #[test]
    fn handle_of_another_kind_is_rejected() {
        let error = ChildExit::of_handle(create_event(true).unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        let child = start("exit 0");
        let handle = child.as_handle().try_clone_to_owned().unwrap();
        assert_eq!(ChildExit::of_handle(handle).unwrap().pid(), child.id());
    }
}
