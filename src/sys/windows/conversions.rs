//! A macro that writes the conversions of a source from and to sockets.

/// Implements the traits of sockets for a type whose field `inner` is an `IoSource`.
macro_rules! impl_raw_conversions {
    ($name:ident) => {
        impl std::os::windows::io::AsSocket for $name {
            fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
                std::os::windows::io::AsSocket::as_socket(&*self.inner)
            }
        }

        impl std::os::windows::io::AsRawSocket for $name {
            fn as_raw_socket(&self) -> std::os::windows::io::RawSocket {
                std::os::windows::io::AsRawSocket::as_raw_socket(&*self.inner)
            }
        }

        impl std::os::windows::io::IntoRawSocket for $name {
            fn into_raw_socket(self) -> std::os::windows::io::RawSocket {
                std::os::windows::io::IntoRawSocket::into_raw_socket(self.inner.into_inner())
            }
        }

        impl std::os::windows::io::FromRawSocket for $name {
            /// # Safety
            ///
            /// The socket must be open, be of this type, and have no other owner.
            unsafe fn from_raw_socket(socket: std::os::windows::io::RawSocket) -> $name {
                // SAFETY: the caller fulfils the same conditions, because they are those of this function.
                unsafe {
                    <std::os::windows::io::OwnedSocket as std::os::windows::io::FromRawSocket>::from_raw_socket(socket)
                }
                .into()
            }
        }

        impl From<$name> for std::os::windows::io::OwnedSocket {
            fn from(source: $name) -> std::os::windows::io::OwnedSocket {
                source.inner.into_inner().into()
            }
        }

        /// The socket should be non-blocking. The conversion does not change the mode.
        impl From<std::os::windows::io::OwnedSocket> for $name {
            fn from(socket: std::os::windows::io::OwnedSocket) -> $name {
                $name { inner: $crate::io_source::IoSource::new(socket.into()) }
            }
        }
    };
}

pub(crate) use impl_raw_conversions;
