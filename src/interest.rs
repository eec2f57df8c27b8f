use std::num::NonZeroU16;
use std::{fmt, ops};

/// The readiness that a registration waits for, and its trigger mode.
///
/// Interests combine with `|`. End of file, hang-up and errors are reported for every interest except [`NONE`](Interest::NONE):
/// see [`Event`](crate::event::Event).
///
/// # Trigger modes
///
/// A registration has one trigger mode, for all directions. The mode is a part of the interest, so that every
/// [`Source`](crate::event::Source) that delegates passes the mode on. Reregistering changes the mode.
///
/// * **Edge** (the default): an event is reported when readiness begins, and again when more data or space arrives. Read or
///   write until `WouldBlock`.
/// * [`level`](Interest::level): an event is reported by every poll while the source is ready.
/// * [`oneshot`](Interest::oneshot): one event is reported, for the direction that is ready first. Then the registration is
///   disarmed in all directions. Reregistering arms it again, and reports existing readiness.
/// * [`NONE`](Interest::NONE): the registration is disabled. No event is reported until the source is reregistered.
///
/// If interests of different modes are combined, one-shot takes precedence over level, and level over edge.
///
/// All interests exist on every system. If the backend does not support an interest, registering fails with
/// [`ErrorKind::Unsupported`](std::io::ErrorKind::Unsupported), and nothing is registered.
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

/// How often a registration reports its readiness.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum TriggerMode {
    Edge,
    Level,
    OneShot,
    Disabled,
}

impl Interest {
    /// Data or connections can be read or accepted, or the end of file was reached.
    pub const READABLE: Interest = Interest::bit(0b00001);
    /// Data can be written, or a connect has ended.
    pub const WRITABLE: Interest = Interest::bit(0b00010);
    /// An asynchronous disk operation has ended (`EVFILT_AIO`).
    ///
    /// The kernel adds that filter itself, through `aio_read(2)` and similar calls with `SIGEV_KEVENT`. Registering a
    /// descriptor for this interest is [`Unsupported`](std::io::ErrorKind::Unsupported) on every system.
    pub const AIO: Interest = Interest::bit(0b00100);
    /// A list of asynchronous disk operations has ended (`EVFILT_LIO`). The notes of [`AIO`](Interest::AIO) apply.
    pub const LIO: Interest = Interest::bit(0b01000);
    /// Urgent data: `EPOLLPRI`, `POLLPRI`, `EVFILT_EXCEPT` with `NOTE_OOB`.
    ///
    /// # Platform notes
    ///
    /// FreeBSD, NetBSD and libkqueue have no filter for urgent data: registering is
    /// [`Unsupported`](std::io::ErrorKind::Unsupported) there.
    pub const PRIORITY: Interest = Interest::bit(0b10000);

    /// The empty interest: the source is registered, and no event is reported until the source is reregistered.
    ///
    /// Combined with another interest, `NONE` changes nothing.
    ///
    /// ```
    /// # #[cfg(feature = "net")] {
    /// use std::time::Duration;
    ///
    /// use kevio::net::UdpSocket;
    /// use kevio::{Events, Interest, Poll, Token};
    ///
    /// let mut poll = Poll::new()?;
    /// let mut events = Events::with_capacity(8);
    /// let mut socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap())?;
    /// let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// poll.registry().register(&mut socket, Token(1), Interest::NONE)?;
    /// peer.send_to(b"later", socket.local_addr()?)?;
    /// poll.poll(&mut events, Some(Duration::ZERO))?;
    /// assert!(events.is_empty());
    ///
    /// poll.registry().reregister(&mut socket, Token(1), Interest::READABLE)?;
    /// poll.poll(&mut events, None)?;
    /// assert_eq!(events.len(), 1);
    /// # }
    /// # std::io::Result::Ok(())
    /// ```
    pub const NONE: Interest = Interest::bit(1 << 5);

    const LEVEL: Interest = Interest::bit(1 << 6);
    const ONESHOT: Interest = Interest::bit(1 << 7);
    const EXCLUSIVE: Interest = Interest::bit(1 << 8);

    /// The bits of readiness. The other bits are the trigger mode and options.
    const READINESS_BITS: u16 = 0b11111;

    const NAMES: [(Interest, &'static str); 9] = [
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
            None => panic!("the bits of an interest are never zero"),
        }
    }

    const fn has(self, other: Interest) -> bool {
        self.0.get() & other.0.get() != 0
    }

    /// Returns the combination of both interests, like `|`. Constants can call this function.
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

    /// Returns this interest without the readiness of `other`, in the same mode. Returns `None` if no readiness is left.
    #[must_use]
    pub fn remove(self, other: Interest) -> Option<Interest> {
        let bits = self.0.get() & !(other.0.get() & Interest::READINESS_BITS);
        (bits & Interest::READINESS_BITS != 0).then(|| Interest::bit(bits))
    }

    /// Returns this interest with the flags `added`, and without the flags `removed`. An empty interest has no flags.
    const fn with_flags(self, added: u16, removed: u16) -> Interest {
        if self.is_none() {
            return self;
        }
        Interest::bit(self.0.get() & !removed | added)
    }

    const fn with_mode(self, mode: u16) -> Interest {
        self.with_flags(mode, Interest::LEVEL.0.get() | Interest::ONESHOT.0.get())
    }

    /// Returns this interest, edge-triggered. This mode is the default.
    #[must_use]
    pub const fn edge(self) -> Interest {
        self.with_mode(0)
    }

    /// Returns this interest, level-triggered: every poll reports an event while the source is ready.
    ///
    /// If more sources are ready than fit into the buffer, the polls report them in turns.
    ///
    /// ```
    /// # #[cfg(feature = "net")] {
    /// use kevio::net::UdpSocket;
    /// use kevio::{Events, Interest, Poll, Token};
    ///
    /// let mut poll = Poll::new()?;
    /// let mut events = Events::with_capacity(8);
    /// let mut socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap())?;
    /// let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// poll.registry().register(&mut socket, Token(1), Interest::READABLE.level())?;
    /// peer.send_to(b"unread", socket.local_addr()?)?;
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

    /// Returns this interest, one-shot: after an event the registration is disarmed in all directions, until the source is
    /// reregistered.
    ///
    /// Use this mode if several threads handle the events of one loop. After an event, no thread receives another event of the
    /// source until the thread with the event reregisters the source.
    ///
    /// ```
    /// # #[cfg(feature = "net")] {
    /// use std::time::Duration;
    ///
    /// use kevio::net::UdpSocket;
    /// use kevio::{Events, Interest, Poll, Token};
    ///
    /// let mut poll = Poll::new()?;
    /// let mut events = Events::with_capacity(8);
    /// let mut socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap())?;
    /// let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let once = Interest::READABLE.oneshot();
    /// poll.registry().register(&mut socket, Token(1), once)?;
    /// peer.send_to(b"first", socket.local_addr()?)?;
    /// poll.poll(&mut events, None)?;
    /// assert_eq!(events.len(), 1);
    ///
    /// peer.send_to(b"second", socket.local_addr()?)?;
    /// poll.poll(&mut events, Some(Duration::ZERO))?;
    /// assert!(events.is_empty());
    ///
    /// poll.registry().reregister(&mut socket, Token(1), once)?;
    /// poll.poll(&mut events, None)?;
    /// assert_eq!(events.len(), 1);
    /// # }
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub const fn oneshot(self) -> Interest {
        self.with_mode(Interest::ONESHOT.0.get())
    }

    /// Returns this interest with `EPOLLEXCLUSIVE`: if several polls wait for one open file with this option, an event does not
    /// wake all of them. The option is for listeners that several threads or processes accept from.
    ///
    /// # Platform notes
    ///
    /// The option exists on Linux and Android, with epoll. On other backends, and together with [`oneshot`](Interest::oneshot)
    /// or [`PRIORITY`](Interest::PRIORITY), registering is [`Unsupported`](std::io::ErrorKind::Unsupported). A half-close of
    /// the peer is reported as readable, and not as closed. See `epoll_ctl(2)`.
    #[must_use]
    pub const fn exclusive(self) -> Interest {
        self.with_flags(Interest::EXCLUSIVE.0.get(), 0)
    }

    /// Returns `true` if the interest is edge-triggered.
    #[must_use]
    pub const fn is_edge(self) -> bool {
        !self.is_none() && !self.is_level() && !self.is_oneshot()
    }

    /// Returns `true` if the interest is level-triggered.
    #[must_use]
    pub const fn is_level(self) -> bool {
        self.has(Interest::LEVEL)
    }

    /// Returns `true` if the interest is one-shot.
    #[must_use]
    pub const fn is_oneshot(self) -> bool {
        self.has(Interest::ONESHOT)
    }

    /// Returns `true` if the interest has the option [`exclusive`](Interest::exclusive).
    #[must_use]
    pub const fn is_exclusive(self) -> bool {
        self.has(Interest::EXCLUSIVE)
    }

    /// Returns `true` if the interest contains no readiness: see [`NONE`](Interest::NONE).
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

    /// Returns `true` if the interest contains [`READABLE`](Interest::READABLE).
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.has(Interest::READABLE)
    }

    /// Returns `true` if the interest contains [`WRITABLE`](Interest::WRITABLE).
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.has(Interest::WRITABLE)
    }

    /// Returns `true` if the interest contains [`AIO`](Interest::AIO).
    #[must_use]
    pub const fn is_aio(self) -> bool {
        self.has(Interest::AIO)
    }

    /// Returns `true` if the interest contains [`LIO`](Interest::LIO).
    #[must_use]
    pub const fn is_lio(self) -> bool {
        self.has(Interest::LIO)
    }

    /// Returns `true` if the interest contains [`PRIORITY`](Interest::PRIORITY).
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
        for (_, name) in Interest::NAMES.iter().filter(|(interest, _)| self.has(*interest)) {
            write!(f, "{separator}{name}")?;
            separator = " | ";
        }
        Ok(())
    }
}
