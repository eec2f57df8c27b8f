//! The record and the functions of `<sys/event.h>`, right for each system.
//!
//! The record differs in the width of every field. Apple's is that of kevent64(2), NetBSD's has unsigned filters that start at 0,
//! and FreeBSD's has space for extensions. The rest of the crate uses [`Kevent`](crate::sys::unix::kevent::record::Kevent), which
//! hides the differences.

use std::{mem, ptr};

#[cfg(target_os = "freebsd")]
pub(super) use self::freebsd::{kevent, kqueue};
#[cfg(target_vendor = "apple")]
pub(super) use self::kevent64::{kevent, kqueue};
#[cfg(links_libkqueue)]
pub(super) use crate::sys::unix::kevent::libkqueue_abi::{kevent, kqueue};
#[cfg(not(any(links_libkqueue, target_os = "freebsd", target_vendor = "apple")))]
pub(super) use libc::{kevent, kqueue};

/// The number of a filter: `short`; unsigned and 32 bits on NetBSD.
#[cfg(not(target_os = "netbsd"))]
pub type RawFilter = i16;
/// The number of a filter: `short`; unsigned and 32 bits on NetBSD.
#[cfg(target_os = "netbsd")]
pub type RawFilter = u32;

/// The bits of [`Flags`](crate::unix::kqueue::Flags): `unsigned short`; 32 bits on NetBSD.
#[cfg(not(target_os = "netbsd"))]
pub type RawFlags = u16;
/// The bits of [`Flags`](crate::unix::kqueue::Flags): `unsigned short`; 32 bits on NetBSD.
#[cfg(target_os = "netbsd")]
pub type RawFlags = u32;

/// The `data` of a record: as wide as a pointer on DragonFly and in libkqueue, 64 bits elsewhere.
#[cfg(any(target_os = "dragonfly", links_libkqueue))]
pub type RawData = isize;
/// The `data` of a record: as wide as a pointer on DragonFly and in libkqueue, 64 bits elsewhere.
#[cfg(not(any(target_os = "dragonfly", links_libkqueue)))]
pub type RawData = i64;

/// kevent64(2) of Apple's `<sys/event.h>`, in place of kevent(2).
///
/// A wait of zero with kevent(2) blocks the thread and wakes the thread again (bsd/kern/kern_event.c: `kqueue_scan`). Such a
/// call takes 12 to 14 µs although no wait is due. With `KEVENT_FLAG_IMMEDIATE` the call takes 0.16 µs (libuv/libuv#5032). A
/// queue accepts calls of one family only (`EINVAL`), so that every call of this crate is kevent64(2).
#[cfg(target_vendor = "apple")]
mod kevent64 {
    pub(crate) use libc::{kevent64_s as kevent, kqueue};

    // `<sys/event.h>`. Older versions of `libc` lack the flags.
    const KEVENT_FLAG_NONE: libc::c_uint = 0x0;
    const KEVENT_FLAG_IMMEDIATE: libc::c_uint = 0x1;

    /// # Safety
    ///
    /// As kevent(2).
    #[inline(always)]
    pub(crate) unsafe fn kevent(
        kq: libc::c_int,
        changes: *const kevent,
        nchanges: libc::c_int,
        events: *mut kevent,
        nevents: libc::c_int,
        timeout: *const libc::timespec,
    ) -> libc::c_int {
        // SAFETY: the caller has promised null, or a pointer to a value.
        let is_zero = unsafe { timeout.as_ref() }.is_some_and(|timeout| timeout.tv_sec == 0 && timeout.tv_nsec == 0);
        let flags = if is_zero { KEVENT_FLAG_IMMEDIATE } else { KEVENT_FLAG_NONE };
        // SAFETY: the caller has promised the conditions of kevent(2).
        unsafe { libc::kevent64(kq, changes, nchanges, events, nevents, flags, timeout) }
    }
}

/// The record and the function of FreeBSD 12 and later.
///
/// If a program is built on another system, `libc` 0.2.172 has those of FreeBSD 11, whose `data` is as wide as a pointer.
#[cfg(target_os = "freebsd")]
mod freebsd {
    use libc::{c_int, c_void};

    pub(crate) use libc::kqueue;

    #[allow(non_camel_case_types)]
    #[derive(Clone, Copy)]
    #[repr(C)]
    pub(crate) struct kevent {
        pub(crate) ident: usize,
        pub(crate) filter: i16,
        pub(crate) flags: u16,
        pub(crate) fflags: u32,
        pub(crate) data: i64,
        pub(crate) udata: *mut c_void,
        pub(crate) ext: [u64; 4],
    }

    extern "C" {
        pub(crate) fn kevent(
            kq: c_int,
            changes: *const kevent,
            nchanges: c_int,
            events: *mut kevent,
            nevents: c_int,
            timeout: *const libc::timespec,
        ) -> c_int;
    }
}

/// Defines the layout that each system's `<sys/event.h>` and ABI give the record. If `libc` had another layout, the kernel
/// would corrupt memory.
///
/// `data` is as wide as a pointer on DragonFly and in libkqueue, and 64 bits elsewhere. Of the ABIs with pointers of 32 bits
/// only x86 aligns those 64 bits to 4 bytes. Apple's record is that of kevent64(2), which is not packed as that of kevent(2)
/// is.
macro_rules! layouts {
    ($($systems:meta => [$($offset:literal)+] $size:literal $align:literal;)+) => {$(
        #[cfg($systems)]
        const LAYOUT: ([isize; 6], usize, usize) = ([$($offset),+], $size, $align);
    )+};
}

layouts! {
    // ident, filter, flags, fflags, data, udata                                    size align
    target_vendor = "apple"                                   => [0  8 10 12 16 24] 48 8;
    all(target_os = "freebsd", target_pointer_width = "64")   => [0  8 10 12 16 24] 64 8;
    all(target_os = "freebsd", target_arch = "x86")           => [0  4  6  8 12 20] 56 4;
    all(target_os = "freebsd", target_pointer_width = "32", not(target_arch = "x86")) => [0 4 6 8 16 24] 64 8;
    all(target_os = "netbsd", target_pointer_width = "64")    => [0  8 12 16 24 32] 40 8;
    all(target_os = "netbsd", target_arch = "x86")            => [0  4  8 12 16 24] 28 4;
    all(target_os = "netbsd", target_pointer_width = "32", not(target_arch = "x86")) => [0 4 8 12 16 24] 32 8;
    all(target_os = "openbsd", target_pointer_width = "64")   => [0  8 10 12 16 24] 32 8;
    all(target_os = "openbsd", target_arch = "x86")           => [0  4  6  8 12 20] 24 4;
    all(target_os = "openbsd", target_pointer_width = "32", not(target_arch = "x86")) => [0 4 6 8 16 24] 32 8;
    target_os = "dragonfly"                                   => [0  8 10 12 16 24] 32 8;
    all(links_libkqueue, target_pointer_width = "64")         => [0  8 10 12 16 24] 32 8;
    all(links_libkqueue, target_pointer_width = "32")         => [0  4  6  8 12 16] 20 4;
}

const _: () = {
    macro_rules! offsets {
        ($($field:ident)+) => {{
            let record = mem::MaybeUninit::<kevent>::uninit();
            let start = record.as_ptr();
            // SAFETY: a field is part of `record`, and its address is taken without reading it.
            [$(unsafe { ptr::addr_of!((*start).$field).cast::<u8>().offset_from(start.cast()) }),+]
        }};
    }
    let (expected, size, align) = LAYOUT;
    let found = offsets!(ident filter flags fflags data udata);
    let mut field = 0;
    while field < expected.len() {
        assert!(found[field] == expected[field], "the offset of a field differs from the kernel's");
        field += 1;
    }
    assert!(mem::size_of::<kevent>() == size && mem::align_of::<kevent>() == align);
};
