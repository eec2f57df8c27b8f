//! Macros that write the repeated trait implementations and methods of types whose field `inner` is an `IoSource`.

/// Implements `Source`, and the conversions from and to the raw types of the system.
#[cfg(any(feature = "net", all(unix, feature = "os-ext")))]
macro_rules! impl_source {
    ($name:ident, $inner:ty) => {
        impl crate::event::Source for $name {
            #[inline(always)]
            fn register(
                &mut self,
                registry: &crate::registry::Registry,
                token: crate::token::Token,
                interests: crate::interest::Interest,
            ) -> std::io::Result<()> {
                self.inner.register_as(crate::sys::selector::SourceKind::Builtin, registry, token, interests)
            }

            #[inline(always)]
            fn reregister(
                &mut self,
                registry: &crate::registry::Registry,
                token: crate::token::Token,
                interests: crate::interest::Interest,
            ) -> std::io::Result<()> {
                self.inner.reregister(registry, token, interests)
            }

            #[inline(always)]
            fn deregister(&mut self, registry: &crate::registry::Registry) -> std::io::Result<()> {
                self.inner.deregister(registry)
            }
        }

        crate::sys::conversions::impl_raw_conversions!($name);
    };
}

/// Implements `impl_source`, and the conversions from and to the type of the standard library.
#[cfg(feature = "net")]
macro_rules! impl_std_conversions {
    ($name:ident, $inner:ty) => {
        crate::delegate::impl_source!($name, $inner);

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.inner.fmt(f)
            }
        }

        impl $name {
            #[doc = concat!("Wraps a [`", stringify!($inner), "`], which should be non-blocking.")]
            /// The function does not change the mode.
            pub fn from_std(inner: $inner) -> $name {
                $name { inner: crate::io_source::IoSource::new(inner) }
            }
        }

        /// The socket stays non-blocking.
        impl From<$name> for $inner {
            fn from(source: $name) -> $inner {
                source.inner.into_inner()
            }
        }
    };
}

/// Implements `Source` for a type whose field is a reference to a raw descriptor or socket.
#[cfg(feature = "os-ext")]
macro_rules! impl_source_of_raw {
    ($name:ident) => {
        impl crate::event::Source for $name<'_> {
            #[inline(always)]
            fn register(
                &mut self,
                registry: &crate::registry::Registry,
                token: crate::token::Token,
                interests: crate::interest::Interest,
            ) -> std::io::Result<()> {
                let kind = crate::sys::selector::SourceKind::RawFd;
                let registration = registry.register_fd(*self.0, token, interests, kind)?;
                let _ = crate::sys::selector::Registration::detach(registration);
                Ok(())
            }

            #[inline(always)]
            fn reregister(
                &mut self,
                registry: &crate::registry::Registry,
                token: crate::token::Token,
                interests: crate::interest::Interest,
            ) -> std::io::Result<()> {
                registry.reregister_fd(*self.0, token, interests, crate::sys::selector::SourceKind::RawFd)
            }

            #[inline(always)]
            fn deregister(&mut self, registry: &crate::registry::Registry) -> std::io::Result<()> {
                registry.check_process()?;
                registry.deregister_fd(*self.0, crate::sys::selector::SourceKind::RawFd)
            }
        }
    };
}

/// Implements `Read` for a type and for references to it.
#[cfg(any(feature = "net", all(unix, feature = "os-ext")))]
macro_rules! impl_read {
    ($($reader:ty),+) => {$(
        impl std::io::Read for $reader {
            #[inline]
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.inner.read_stream(buf.len(), |mut inner| inner.read(buf))
            }

            #[inline]
            fn read_vectored(&mut self, bufs: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                let capacity = bufs.iter().map(|buf| buf.len()).sum();
                self.inner.read_stream(capacity, |mut inner| inner.read_vectored(bufs))
            }
        }
    )+};
}

/// Implements `Write` for a type and for references to it.
#[cfg(any(feature = "net", all(unix, feature = "os-ext")))]
macro_rules! impl_write {
    ($($writer:ty),+) => {$(
        impl std::io::Write for $writer {
            #[inline]
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                self.inner.write_io(|mut inner| inner.write(buf))
            }

            #[inline]
            fn write_vectored(&mut self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                self.inner.write_io(|mut inner| inner.write_vectored(bufs))
            }

            fn flush(&mut self) -> std::io::Result<()> {
                self.inner.write_io(|mut inner| inner.flush())
            }
        }
    )+};
}

/// Implements methods that call the method of the same name of the wrapped value, which makes one system call. The signature is
/// written in full, so that a search finds the method.
#[cfg(feature = "net")]
macro_rules! delegate {
    ($($(#[$doc:meta])+ pub fn $method:ident(&self $(, $argument:ident: $type:ty)*) -> io::Result<$result:ty> = $call:literal;)+) => {$(
        $(#[$doc])+
        ///
        /// # Errors
        ///
        #[doc = concat!("Errors of ", $call, ".")]
        pub fn $method(&self $(, $argument: $type)*) -> std::io::Result<$result> {
            self.inner.$method($($argument),*)
        }
    )+};
}

#[cfg(feature = "os-ext")]
pub(crate) use impl_source_of_raw;
#[cfg(feature = "net")]
pub(crate) use {delegate, impl_std_conversions};
#[cfg(any(feature = "net", all(unix, feature = "os-ext")))]
pub(crate) use {impl_read, impl_source, impl_write};
