//! The state of a watched file, which is compared to find changes, and the path of an open file.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::mem::{size_of, MaybeUninit};
use std::os::windows::ffi::OsStringExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};

use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
use windows_sys::Win32::Storage::FileSystem::{
    FileBasicInfo, FileCaseSensitiveInfo, FileStandardInfo, GetFileInformationByHandle, GetFileInformationByHandleEx,
    GetFileType, GetFinalPathNameByHandleW, ReOpenFile, BY_HANDLE_FILE_INFORMATION, FILE_ATTRIBUTE_ARCHIVE,
    FILE_ATTRIBUTE_NORMAL, FILE_BASIC_INFO, FILE_FLAG_BACKUP_SEMANTICS, FILE_INFO_BY_HANDLE_CLASS, FILE_NAME_OPENED,
    FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_TYPE_CHAR, FILE_TYPE_DISK, FILE_TYPE_PIPE,
    VOLUME_NAME_DOS, VOLUME_NAME_GUID,
};

use crate::source::file_changes::FileChanges;
use crate::sys::error::invalid_input;

/// Other programs may read, write, rename and delete a file that is open for a watch.
const SHARE_ALL: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

/// The properties of a file that a watch compares. Times are in units of the file system.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchedState {
    pub(super) is_directory: bool,
    /// The last name was removed.
    pub(super) is_deleted: bool,
    pub(super) size: i64,
    pub(super) links: u32,
    /// Without the attributes that each write changes.
    pub(super) attributes: u32,
    pub(super) created: i64,
    pub(super) written: i64,
    /// The time of the last change of data or attributes.
    pub(super) changed: i64,
}

/// What the system has reported about the name of the file.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reported {
    /// The file was written, or has other attributes.
    pub(super) is_modified: bool,
    pub(super) is_renamed: bool,
}

impl WatchedState {
    /// Returns the state of the file now. The file is the one that had this state.
    ///
    /// Some file systems refuse to read the properties of a file that was deleted.
    pub(super) fn renewed(&self, file: BorrowedHandle<'_>) -> WatchedState {
        state_of(file).unwrap_or(WatchedState { is_deleted: true, links: 0, ..*self })
    }

    /// Returns the changes from this state to a later one.
    pub(super) fn changes_to(&self, now: WatchedState, reported: Reported) -> FileChanges {
        let is_written = self.size != now.size || self.written != now.written;
        // Writes and new names change the second time too, and some file systems have no time of the creation of their own.
        let has_other_times = (self.created, self.changed) != (now.created, now.changed);
        let is_changed = has_other_times && !is_written && !reported.is_renamed && !now.is_deleted;
        let is_file = !now.is_directory;
        #[rustfmt::skip]
        let table = [
            (is_file && is_written,                              FileChanges::WRITTEN),
            (is_file && now.size > self.size,                    FileChanges::EXTENDED),
            (is_changed || self.attributes != now.attributes,    FileChanges::ATTRIBUTES),
            (self.links != now.links,                            FileChanges::LINKED),
            (reported.is_renamed,                                FileChanges::RENAMED),
            (now.is_deleted && !self.is_deleted,                 FileChanges::DELETED),
        ];
        let changes =
            table.into_iter().filter(|(holds, _)| *holds).fold(FileChanges::empty(), |all, (_, one)| all | one);
        if changes.is_empty() && reported.is_modified && is_file {
            // Two writes within one tick of the clock have the same time.
            return FileChanges::WRITTEN;
        }
        changes
    }
}

/// Returns the state of an open file or directory. Fails with `InvalidInput` for any other kind of handle.
pub(crate) fn watched_state(file: BorrowedHandle<'_>) -> io::Result<WatchedState> {
    // SAFETY: the handle is open.
    let kind = unsafe { GetFileType(file.as_raw_handle()) };
    if kind != FILE_TYPE_DISK {
        let kind = match kind {
            FILE_TYPE_PIPE => "a pipe or a socket",
            FILE_TYPE_CHAR => "a device",
            _ => "no file of a file system",
        };
        return Err(invalid_input(format!(
            "a `Watch` needs a file or a directory, and the handle is {kind}: use a source for that kind of handle"
        )));
    }
    state_of(file)
}

fn state_of(file: BorrowedHandle<'_>) -> io::Result<WatchedState> {
    /// `FILE_STANDARD_INFO`. The types of its flags differ between versions of the crate windows-sys.
    #[repr(C)]
    struct StandardInfo {
        allocated: i64,
        size: i64,
        links: u32,
        is_deleted: u8,
        is_directory: u8,
    }

    // SAFETY: the structures are those of the classes, and any bits are a value of them.
    let (basic, standard) = unsafe {
        (information::<FILE_BASIC_INFO>(file, FileBasicInfo)?, information::<StandardInfo>(file, FileStandardInfo)?)
    };
    Ok(WatchedState {
        is_directory: standard.is_directory != 0,
        is_deleted: standard.is_deleted != 0 || standard.links == 0,
        size: standard.size,
        links: standard.links,
        // A write sets the first, and a file without any attribute has the second.
        attributes: basic.FileAttributes & !(FILE_ATTRIBUTE_ARCHIVE | FILE_ATTRIBUTE_NORMAL),
        created: basic.CreationTime,
        written: basic.LastWriteTime,
        changed: basic.ChangeTime,
    })
}

/// Returns the information of a class.
///
/// # Safety
///
/// `T` is the structure of the class, and consists of integers.
unsafe fn information<T>(file: BorrowedHandle<'_>, class: FILE_INFO_BY_HANDLE_CLASS) -> io::Result<T> {
    let mut information = MaybeUninit::<T>::zeroed();
    // SAFETY: the system writes at most the size of the structure.
    let is_read = unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            class,
            information.as_mut_ptr().cast(),
            size_of::<T>() as u32,
        )
    };
    if is_read == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the structure consists of integers, and was written or is zero.
    Ok(unsafe { information.assume_init() })
}

/// Returns the volume and the identifier of a file.
pub(super) fn file_id(file: BorrowedHandle<'_>) -> io::Result<(u32, u64)> {
    let mut information = MaybeUninit::<BY_HANDLE_FILE_INFORMATION>::zeroed();
    // SAFETY: the system writes one structure.
    if unsafe { GetFileInformationByHandle(file.as_raw_handle(), information.as_mut_ptr()) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the structure consists of integers, and was written.
    let information = unsafe { information.assume_init() };
    let index = u64::from(information.nFileIndexHigh) << 32 | u64::from(information.nFileIndexLow);
    Ok((information.dwVolumeSerialNumber, index))
}

/// Returns the present path of an open file.
pub(super) fn final_path(file: BorrowedHandle<'_>) -> io::Result<PathBuf> {
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    // A volume may have no drive letter, and the program may not be able to read the directories above the file.
    for flags in [VOLUME_NAME_DOS, VOLUME_NAME_GUID, VOLUME_NAME_DOS | FILE_NAME_OPENED] {
        let mut path = vec![0; 512];
        loop {
            // SAFETY: the system writes at most as many units as the buffer has.
            let len =
                unsafe { GetFinalPathNameByHandleW(file.as_raw_handle(), path.as_mut_ptr(), path.len() as u32, flags) };
            match len as usize {
                0 => break error = io::Error::last_os_error(),
                len if len < path.len() => return Ok(OsString::from_wide(&path[..len]).into()),
                // The length that the buffer needs, with the zero at the end.
                len => path.resize(len + 1, 0),
            }
        }
    }
    Err(error)
}

/// Opens a file or a directory. Symbolic links are followed. As in std, a path may be longer than 260 characters.
pub(super) fn open_path(path: &Path, access: u32, flags: u32) -> io::Result<OwnedHandle> {
    let mut options = OpenOptions::new();
    options.access_mode(access).share_mode(SHARE_ALL).custom_flags(flags | FILE_FLAG_BACKUP_SEMANTICS);
    options.open(path).map(OwnedHandle::from)
}

/// Opens an open file again, with another access.
pub(super) fn reopen(file: BorrowedHandle<'_>, access: u32, flags: u32) -> io::Result<OwnedHandle> {
    let flags = flags | FILE_FLAG_BACKUP_SEMANTICS;
    // SAFETY: the handle is open.
    let handle = unsafe { ReOpenFile(file.as_raw_handle(), access, SHARE_ALL, flags) };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has just made this handle, and it has no other owner.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// Returns `true` if upper and lower case differ in a directory. Systems before Windows 10 1803 have no such directories.
pub(super) fn is_case_sensitive(directory: BorrowedHandle<'_>) -> bool {
    /// `FILE_CS_FLAG_CASE_SENSITIVE_DIR`.
    const SENSITIVE: u32 = 1;
    // SAFETY: the structure of the class is one number of 32 bits.
    unsafe { information::<u32>(directory, FileCaseSensitiveInfo) }.is_ok_and(|flags| flags & SENSITIVE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_become_changes() {
        let before = WatchedState {
            is_directory: false,
            is_deleted: false,
            size: 5,
            links: 1,
            attributes: 0,
            created: 1,
            written: 2,
            changed: 3,
        };
        let (nothing, modified) = (Reported::default(), Reported { is_modified: true, is_renamed: false });
        let renamed = Reported { is_modified: false, is_renamed: true };
        let (written, attributes) = (FileChanges::WRITTEN, FileChanges::ATTRIBUTES);
        let gone = WatchedState { is_deleted: true, links: 0, changed: 4, ..before };
        #[rustfmt::skip]
        let table = [
            (before,                                             nothing,  FileChanges::empty()),
            (before,                                             modified, written),
            (WatchedState { written: 4, changed: 4, ..before },  modified, written),
            (WatchedState { size: 4, ..before },                 modified, written),
            (WatchedState { size: 6, ..before },                 nothing,  written | FileChanges::EXTENDED),
            (WatchedState { attributes: 1, ..before },           modified, attributes),
            (WatchedState { created: 4, ..before },              modified, attributes),
            (WatchedState { changed: 4, ..before },              modified, attributes),
            (WatchedState { changed: 4, ..before },              renamed,  FileChanges::RENAMED),
            (WatchedState { links: 2, changed: 4, ..before },    nothing,  attributes | FileChanges::LINKED),
            (gone,                                               nothing,  FileChanges::LINKED | FileChanges::DELETED),
        ];
        for (now, reported, changes) in table {
            assert_eq!(before.changes_to(now, reported), changes, "{now:?} {reported:?}");
        }
        // A change of an entry of a directory is none of the directory.
        let directory = WatchedState { is_directory: true, ..before };
        let entered = WatchedState { written: 4, changed: 4, size: 9, ..directory };
        assert_eq!(directory.changes_to(entered, modified), FileChanges::empty());
        assert_eq!(directory.changes_to(directory, modified), FileChanges::empty());
        assert_eq!(gone.changes_to(gone, nothing), FileChanges::empty());
    }

    #[test]
    fn open_files_have_a_state_and_a_path() {
        use std::os::windows::io::AsHandle;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a name");
        std::fs::write(&path, b"12345").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let state = watched_state(file.as_handle()).unwrap();
        assert_eq!((state.size, state.links, state.is_directory, state.is_deleted), (5, 1, false, false));
        assert_eq!(std::fs::canonicalize(&path).unwrap(), final_path(file.as_handle()).unwrap());
        let directory = open_path(directory.path(), 0x80, 0).unwrap();
        assert!(watched_state(directory.as_handle()).unwrap().is_directory);
        assert_ne!(file_id(directory.as_handle()).unwrap(), file_id(file.as_handle()).unwrap());
        for (reopened, original) in [(&directory, directory.as_handle()), (&directory, file.as_handle())] {
            let again = reopen(original, 0x80, 0).unwrap();
            let is_same = file_id(again.as_handle()).unwrap() == file_id(reopened.as_handle()).unwrap();
            assert_eq!(is_same, original.as_raw_handle() == reopened.as_raw_handle());
        }
        let event = crate::sys::windows::wait::create_event(true).unwrap();
        assert_eq!(watched_state(event.as_handle()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
