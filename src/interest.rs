use std::num::NonZeroU16;
use std::{fmt, ops};

/// What a source is registered for, and how often it is told.
///
/// Interests combine with `|`. An event that nobody asked for may still come: end of file, hang-up and errors are
/// always reported (see [`Event`](crate::event::Event)).
///
/// # Trigger modes
///
/// A registration has one mode for all it is registered for. It travels in the interest, through every
/// [`Source`](crate::event::Source) that hands its interest on, and is changed by reregistering.
///
/// * **Edge**, the default: told when it begins, and when there is more. Operate until `WouldBlock`.
/// * [`level`](Interest::level): told by every poll while it is so.
/// * [`oneshot`](Interest::oneshot): told once, for whichever direction comes first; then the registration says nothing
///   until it is reregistered, which also tells what is true by then.
/// * [`NONE`](Interest::NONE): not told at all until it is reregistered.
///
/// Where interests of different modes are combined, one-shot wins over level, and level over edge.
///
/// All interests exist on every system. Registering one that the backend cannot arm is
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
///
/// let mode = Interest::READABLE.level() | Interest::WRITABLE.oneshot();
/// assert!(mode.is_oneshot() && !mode.is_level());
/// ```
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interest(NonZeroU16);

/// How often a registration is told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum TriggerMode {
    Edge,
    Level,
    OneShot,
    Disabled,
}

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

    /// Nothing: the source is registered and keeps its place, and no event comes until it is reregistered.
    ///
    /// Combined with another interest it adds nothing, and takes nothing away.
    ///
    /// ```
    /// # #[cfg(feature = "os-ext")] {
    /// use std::io::Write;
    /// use std::time::Duration;
    ///
    /// use kevio::unix::pipe;
    /// use kevio::{Events, Interest, Poll, Token};
    ///
    /// let mut poll = Poll::new()?;
    /// let mut events = Events::with_capacity(8);
    /// let (mut sender, mut receiver) = pipe::new()?;
    /// poll.registry().register(&mut receiver, Token(1), Interest::NONE)?;
    /// sender.write_all(b"later")?;
    /// poll.poll(&mut events, Some(Duration::ZERO))?;
    /// assert!(events.is_empty());
    ///
    /// poll.registry().reregister(&mut receiver, Token(1), Interest::READABLE)?;
    /// poll.poll(&mut events, None)?;
    /// assert_eq!(events.len(), 1);
    /// # }
    /// # std::io::Result::Ok(())
    /// ```
    pub const NONE: Interest = Interest::bit(1 << 5);

    const LEVEL: Interest = Interest::bit(1 << 6);
    const ONESHOT: Interest = Interest::bit(1 << 7);
    const EXCLUSIVE: Interest = Interest::bit(1 << 8);

    /// All that there is to wait for; the other bits say how.
    const READINESS_BITS: u16 = 0b11111;

    const NAMED: [(Interest, &'static str); 9] = [
        (Interest::READABLE, "READABLE"),
        (Interest::WRITABLE, "WRITABLE"),
        (Interest::PRIORITY, "PRIORITY"),
        (Interest::AIO, "AIO"),
        (Interest::LIO, "LIO"),
        (Interest::NONE, "NONE"),
        (Interest::LEVEL, "LEVEL"),
        (Interest::ONESHOT, "ONESHOT"),
        (Interest::EXCLUSIVE, "EXCLUSIVE"),
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
        if other.is_none() {
            return self;
        }
        if self.is_none() {
            return other;
        }
        let mut bits = self.0.get() | other.0.get();
        if bits & Interest::ONESHOT.0.get() != 0 {
            bits &= !Interest::LEVEL.0.get();
        }
        Interest::bit(bits)
    }

    /// This interest without what `other` waits for, in the same mode; `None` if nothing is left to wait for.
    #[must_use]
    pub fn remove(self, other: Interest) -> Option<Interest> {
        let bits = self.0.get() & !(other.0.get() & Interest::READINESS_BITS);
        (bits & Interest::READINESS_BITS != 0).then(|| Interest::bit(bits))
    }

    /// What is parked has no mode.
    const fn with(self, mode: u16, others: u16) -> Interest {
        if self.is_none() {
            return self;
        }
        Interest::bit(self.0.get() & !others | mode)
    }

    const fn with_mode(self, mode: u16) -> Interest {
        self.with(mode, Interest::LEVEL.0.get() | Interest::ONESHOT.0.get())
    }

    /// The same, told when it begins: the default.
    #[must_use]
    pub const fn edge(self) -> Interest {
        self.with_mode(0)
    }

    /// The same, told by every poll while it is so.
    ///
    /// What is not operated on is reported for ever; when events do not fit into the buffer, sources take turns.
    ///
    /// ```
    /// # #[cfg(feature = "os-ext")] {
    /// use std::io::Write;
    ///
    /// use kevio::unix::pipe;
    /// use kevio::{Events, Interest, Poll, Token};
    ///
    /// let mut poll = Poll::new()?;
    /// let mut events = Events::with_capacity(8);
    /// let (mut sender, mut receiver) = pipe::new()?;
    /// poll.registry().register(&mut receiver, Token(1), Interest::READABLE.level())?;
    /// sender.write_all(b"unread")?;
    /// for _ in 0..3 {
    ///     poll.poll(&mut events, None)?;
    ///     assert_eq!(events.len(), 1);
    /// }
    /// # }
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub const fn level(self) -> Interest {
        self.with_mode(Interest::LEVEL.0.get())
    }

    /// The same, told once: after an event the registration is silent, in all directions, until it is reregistered.
    ///
    /// Several threads can share the work of one loop so: an event is nobody else's until its source is reregistered.
    ///
    /// ```
    /// # #[cfg(feature = "os-ext")] {
    /// use std::io::Write;
    /// use std::time::Duration;
    ///
    /// use kevio::unix::pipe;
    /// use kevio::{Events, Interest, Poll, Token};
    ///
    /// let mut poll = Poll::new()?;
    /// let mut events = Events::with_capacity(8);
    /// let (mut sender, mut receiver) = pipe::new()?;
    /// let once = Interest::READABLE.oneshot();
    /// poll.registry().register(&mut receiver, Token(1), once)?;
    /// sender.write_all(b"first")?;
    /// poll.poll(&mut events, None)?;
    /// assert_eq!(events.len(), 1);
    ///
    /// sender.write_all(b"second")?;
    /// poll.poll(&mut events, Some(Duration::ZERO))?;
    /// assert!(events.is_empty());
    ///
    /// poll.registry().reregister(&mut receiver, Token(1), once)?;
    /// poll.poll(&mut events, None)?;
    /// assert_eq!(events.len(), 1);
    /// # }
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub const fn oneshot(self) -> Interest {
        self.with_mode(Interest::ONESHOT.0.get())
    }

    /// The same, and of several polls that wait for one open file, each with this option, not all are woken by one
    /// event (`EPOLLEXCLUSIVE`): for listeners that several threads or processes accept from.
    ///
    /// # Platform notes
    ///
    /// Linux and Android with epoll. Elsewhere, and together with [`oneshot`](Interest::oneshot) or
    /// [`PRIORITY`](Interest::PRIORITY), registering it is [`Unsupported`](std::io::ErrorKind::Unsupported).
    /// A half-close of the peer shows as readable and not as closed. See `epoll_ctl(2)`.
    #[must_use]
    pub const fn exclusive(self) -> Interest {
        self.with(Interest::EXCLUSIVE.0.get(), 0)
    }

    /// Whether this is told when it begins, and when there is more.
    #[must_use]
    pub const fn is_edge(self) -> bool {
        !self.is_none() && !self.is_level() && !self.is_oneshot()
    }

    /// Whether this is told while it is so.
    #[must_use]
    pub const fn is_level(self) -> bool {
        self.has(Interest::LEVEL)
    }

    /// Whether this is told once.
    #[must_use]
    pub const fn is_oneshot(self) -> bool {
        self.has(Interest::ONESHOT)
    }

    /// Whether this wakes one of several polls.
    #[must_use]
    pub const fn is_exclusive(self) -> bool {
        self.has(Interest::EXCLUSIVE)
    }

    /// Whether this waits for nothing.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0.get() & Interest::READINESS_BITS == 0
    }

    pub(crate) const fn mode(self) -> TriggerMode {
        if self.is_none() {
            TriggerMode::Disabled
        } else if self.is_oneshot() {
            TriggerMode::OneShot
        } else if self.is_level() {
            TriggerMode::Level
        } else {
            TriggerMode::Edge
        }
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
