use std::num::NonZeroU16;
use std::{fmt, ops};

/// What a source is registered for.
///
/// Interests combine with `|`. An event that nobody asked for may still come: end of file, hang-up and errors are
/// always reported (see [`Event`](crate::event::Event)).
///
/// All five exist on every system. Registering one that the backend cannot arm is
/// [`ErrorKind::Unsupported`](std::io::ErrorKind::Unsupported), and registers nothing.
///
/// # Examples
///
/// ```
/// use kevio::Interest;
///
/// let both = Interest::READABLE | Interest::WRITABLE;
/// assert!(both.is_readable() && both.is_writable());
/// assert_eq!(both.remove(Interest::WRITABLE), Some(Interest::READABLE));
/// assert_eq!(format!("{both:?}"), "READABLE | WRITABLE");
/// ```
// Sixteen bits of which five are taken: the trigger modes will travel here too, through every existing `Source`.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interest(NonZeroU16);

impl Interest {
    /// There is something to read, to accept, or the end of file.
    pub const READABLE: Interest = Interest::bit(0b00001);
    /// There is room to write, or a connect has ended.
    pub const WRITABLE: Interest = Interest::bit(0b00010);
    /// An asynchronous disk operation has ended (`EVFILT_AIO`).
    ///
    /// The kernel attaches that filter itself, through `aio_read(2)` and its like with `SIGEV_KEVENT`; a descriptor
    /// cannot be registered for it: [`Unsupported`](std::io::ErrorKind::Unsupported) on every system.
    pub const AIO: Interest = Interest::bit(0b00100);
    /// A list of asynchronous disk operations has ended (`EVFILT_LIO`); as [`AIO`](Interest::AIO).
    pub const LIO: Interest = Interest::bit(0b01000);
    /// Urgent data: `EPOLLPRI`, `POLLPRI`, `EVFILT_EXCEPT` with `NOTE_OOB`.
    ///
    /// # Platform notes
    ///
    /// FreeBSD, NetBSD and libkqueue have no such filter:
    /// [`Unsupported`](std::io::ErrorKind::Unsupported) there.
    pub const PRIORITY: Interest = Interest::bit(0b10000);

    const NAMED: [(Interest, &'static str); 5] = [
        (Interest::READABLE, "READABLE"),
        (Interest::WRITABLE, "WRITABLE"),
        (Interest::PRIORITY, "PRIORITY"),
        (Interest::AIO, "AIO"),
        (Interest::LIO, "LIO"),
    ];

    const fn bit(bits: u16) -> Interest {
        match NonZeroU16::new(bits) {
            Some(bits) => Interest(bits),
            None => panic!("an interest is never empty"),
        }
    }

    const fn has(self, other: Interest) -> bool {
        self.0.get() & other.0.get() != 0
    }

    /// Both interests together; what `|` does, in constants too.
    #[allow(clippy::should_implement_trait)]
    #[must_use]
    pub const fn add(self, other: Interest) -> Interest {
        Interest::bit(self.0.get() | other.0.get())
    }

    /// This interest without `other`; `None` if nothing is left.
    #[must_use]
    pub fn remove(self, other: Interest) -> Option<Interest> {
        NonZeroU16::new(self.0.get() & !other.0.get()).map(Interest)
    }

    /// Whether this asks for [`READABLE`](Interest::READABLE).
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.has(Interest::READABLE)
    }

    /// Whether this asks for [`WRITABLE`](Interest::WRITABLE).
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.has(Interest::WRITABLE)
    }

    /// Whether this asks for [`AIO`](Interest::AIO).
    #[must_use]
    pub const fn is_aio(self) -> bool {
        self.has(Interest::AIO)
    }

    /// Whether this asks for [`LIO`](Interest::LIO).
    #[must_use]
    pub const fn is_lio(self) -> bool {
        self.has(Interest::LIO)
    }

    /// Whether this asks for [`PRIORITY`](Interest::PRIORITY).
    #[must_use]
    pub const fn is_priority(self) -> bool {
        self.has(Interest::PRIORITY)
    }
}

impl ops::BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        self.add(other)
    }
}

impl ops::BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Interest) {
        *self = *self | other;
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, name) in Interest::NAMED.iter().filter(|(interest, _)| self.has(*interest)) {
            write!(f, "{separator}{name}")?;
            separator = " | ";
        }
        Ok(())
    }
}
