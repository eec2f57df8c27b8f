//! A macro that writes the conversions of a source from and to descriptors.

/// Implements the traits of descriptors for a type whose field `inner` is an `IoSource`.
macro_rules! impl_raw_conversions {
    ($name:ident) => {
        impl std::os::fd::AsFd for $name {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(&*self.inner)
            }
        }

        impl std::os::fd::AsRawFd for $name {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(&*self.inner)
            }
        }

        impl std::os::fd::IntoRawFd for $name {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                std::os::fd::IntoRawFd::into_raw_fd(self.inner.into_inner())
            }
        }

        impl std::os::fd::FromRawFd for $name {
            /// # Safety
            ///
            /// The descriptor must be open, be of this type, and have no other owner.
            unsafe fn from_raw_fd(fd: std::os::fd::RawFd) -> $name {
                // SAFETY: the caller fulfils the same conditions, because they are those of this function.
                unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) }.into()
            }
        }

        impl From<$name> for std::os::fd::OwnedFd {
            fn from(source: $name) -> std::os::fd::OwnedFd {
                source.inner.into_inner().into()
            }
        }

        /// The descriptor should be non-blocking. The conversion does not change the mode.
        impl From<std::os::fd::OwnedFd> for $name {
            fn from(fd: std::os::fd::OwnedFd) -> $name {
                $name { inner: $crate::io_source::IoSource::new(fd.into()) }
            }
        }
    };
}

pub(crate) use impl_raw_conversions;
