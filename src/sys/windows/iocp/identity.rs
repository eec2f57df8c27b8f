//! The addresses of a socket, which distinguish the socket from a later one with its number.

use std::os::windows::io::RawSocket;
use std::{io, mem};

use windows_sys::Win32::Networking::WinSock::{
    getpeername, getsockname, WSAGetLastError, AF_INET, AF_INET6, SOCKADDR, SOCKADDR_STORAGE, SOCKET, WSAEINVAL,
    WSAENETDOWN, WSAENOTSOCK,
};

use crate::sys::windows::errors::is_resource_exhausted;
use crate::sys::windows::iocp::afd::is_listener;
use crate::sys::windows::iocp::bits;

const SIZE: usize = mem::size_of::<SOCKADDR_STORAGE>();

/// The address of a socket.
#[derive(Copy, Clone, Debug)]
#[repr(C, align(8))] // The alignment of `SOCKADDR_STORAGE`.
struct Address {
    bytes: [u8; SIZE],
    len: usize,
}

/// The parts of a socket's addresses that distinguish the socket from another one: the port, and the peer of a connection.
///
/// The port of a datagram socket, a listener or a connection never changes. A stream can get another port with a connect after a
/// failed one. `TF_REUSE_SOCKET` prepares a socket for another connection, and is not supported.
#[derive(Debug)]
pub(super) struct Identity {
    is_stream: bool,
    /// The error number if the socket has no port.
    local: Result<Address, Option<i32>>,
    /// The port never changes. Otherwise the port is that of the last request.
    is_final: bool,
    /// A connect has failed, so that the port is not final before the socket has a peer.
    has_failed: bool,
    /// `None` if there is no peer yet, and for all kinds of sockets that can have several peers.
    peer: Option<Address>,
}

impl Identity {
    pub(super) fn of(socket: RawSocket, is_stream: bool) -> Identity {
        let peer = Address::read(socket, getpeername).ok().filter(|_| is_stream);
        let local = match Address::read(socket, getsockname) {
            Ok(address) if address.has_port() => Ok(address),
            Ok(_) => Err(Some(WSAEINVAL)),
            Err(error) => Err(error.raw_os_error()),
        };
        let is_final = local.is_ok() && (!is_stream || peer.is_some() || is_listener(socket));
        Identity { is_stream, local, is_final, has_failed: false, peer }
    }

    /// Returns `false` if the number is not that of an open socket any more, or is that of another socket. While the port of the
    /// socket can change, another socket is taken for the same one, and the addresses are recorded again.
    pub(super) fn is_of(&mut self, socket: RawSocket) -> bool {
        let is_same = self.fits(Address::read(socket, getsockname), || Address::read(socket, getpeername));
        if is_same && !self.is_final {
            let has_failed = self.has_failed;
            *self = Identity::of(socket, self.is_stream);
            self.has_failed = has_failed && !self.is_final;
        }
        is_same
    }

    /// Records the result of a request. The socket of the request had the recorded port, and keeps the port unless its connect
    /// has failed.
    pub(super) fn record_result(&mut self, result: u32) {
        self.has_failed |= result & bits::CONNECT_FAIL != 0;
        self.is_final |= result != 0 && !self.has_failed && self.local.is_ok();
    }

    /// Returns `false` if the addresses that the number has now prove that the socket is not that of this identity.
    fn fits(&self, local: io::Result<Address>, peer: impl FnOnce() -> io::Result<Address>) -> bool {
        let is_of_port = match (&self.local, local) {
            (Ok(before), Ok(now)) => !self.is_final || before.port() == now.port(),
            (Err(_), Ok(_)) => true,
            // An open socket never loses its port. The error of a file that is no socket depends on the file.
            (before, Err(error)) => match error.raw_os_error() {
                Some(WSAENOTSOCK) => false,
                Some(WSAEINVAL) if before.is_err() => true,
                number if before.as_ref().err() == Some(&number) => true,
                number => is_resource_exhausted(&error) || number == Some(WSAENETDOWN),
            },
        };
        // A connection that has ended may have no peer.
        is_of_port && self.peer.as_ref().map_or(true, |before| peer().map_or(true, |now| now.bytes() == before.bytes()))
    }
}

impl Address {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn is_internet(&self) -> bool {
        let family = u16::from_ne_bytes([self.bytes[0], self.bytes[1]]);
        matches!(family, AF_INET | AF_INET6)
    }

    /// Returns the family and the port. The other bytes change when a socket without an address of its own is connected.
    fn port(&self) -> &[u8] {
        const FAMILY_AND_PORT: usize = 4;
        match self.is_internet() {
            true => &self.bytes[..FAMILY_AND_PORT],
            false => self.bytes(),
        }
    }

    /// Returns `false` if the socket is not bound, and will get its port later.
    fn has_port(&self) -> bool {
        match self.is_internet() {
            true => self.bytes[2..4] != [0; 2],
            false => self.len > 0,
        }
    }

    fn read(
        socket: RawSocket,
        function: unsafe extern "system" fn(SOCKET, *mut SOCKADDR, *mut i32) -> i32,
    ) -> io::Result<Address> {
        let mut address = Address { bytes: [0; SIZE], len: 0 };
        let mut len = SIZE as i32;
        // SAFETY: the pointers are to local values, and `len` is the size of the first one, which is aligned as a record.
        if unsafe { function(socket as SOCKET, address.bytes.as_mut_ptr().cast(), &mut len) } != 0 {
            // SAFETY: the call has no pointers.
            return Err(io::Error::from_raw_os_error(unsafe { WSAGetLastError() }));
        }
        address.len = usize::try_from(len).unwrap_or(0).min(SIZE);
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::os::windows::io::AsRawSocket;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn socket_is_distinguished_from_others() {
        let number = |socket: &dyn AsRawSocket| socket.as_raw_socket();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pairs: Vec<_> =
            (0..2).map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0)).collect();
        // No datagram socket has the port of a stream.
        let ports: Vec<_> = pairs.iter().map(|pair| pair.0.local_addr().unwrap().port()).collect();
        let udp = || loop {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let port = socket.local_addr().unwrap().port();
            if port != address.port() && !ports.contains(&port) {
                return socket;
            }
        };
        let (first, second) = (udp(), udp());
        let sockets: [(&dyn AsRawSocket, bool); 7] = [
            (&listener, true),
            (&pairs[0].0, true),
            (&pairs[0].1, true),
            (&pairs[1].0, true),
            (&pairs[1].1, true),
            (&first, false),
            (&second, false),
        ];
        for (index, &(socket, is_stream)) in sockets.iter().enumerate() {
            let mut identity = Identity::of(number(socket), is_stream);
            for (other_index, &(other, _)) in sockets.iter().enumerate() {
                // A listener has no peer, as an ended connection, and shares its port with the accepted sockets.
                let is_alike = [(0, 2), (0, 4), (2, 0), (4, 0)].contains(&(index, other_index));
                if !is_alike {
                    assert_eq!(identity.is_of(number(other)), index == other_index, "{index} {other_index}");
                }
            }
        }
        // A datagram socket is the same one after it was connected.
        let mut identity = Identity::of(number(&first), false);
        first.connect(("127.0.0.1", second.local_addr().unwrap().port())).unwrap();
        assert!(identity.is_of(number(&first)));
        // A number without a socket.
        assert!(!identity.is_of(!0 - 7));
    }

    fn unbound() -> Socket {
        Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()
    }

    fn bound() -> Socket {
        let socket = unbound();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket
    }

    #[test]
    fn stream_keeps_its_identity_through_connects_and_is_recorded_then() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = unbound();
        let mut identity = Identity::of(socket.as_raw_socket(), true);
        let mut is_same = || identity.is_of(socket.as_raw_socket());
        assert!(is_same());
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        assert!(is_same());
        socket.connect(&refused.into()).unwrap_err();
        assert!(is_same());
        // The first connect after a failed one fails in wine 8.
        let address = listener.local_addr().unwrap().into();
        socket.connect(&address).or_else(|_| socket.connect(&address)).unwrap();
        assert!(is_same() && is_same());
        assert!(!identity.is_of(unbound().as_raw_socket()));
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!identity.is_of(other.as_raw_socket()));
    }

    #[test]
    fn listener_is_distinguished_from_another_one_after_it_listens() {
        let (first, second) = (bound(), bound());
        let mut identity = Identity::of(first.as_raw_socket(), true);
        first.listen(1).unwrap();
        second.listen(1).unwrap();
        assert!(identity.is_of(first.as_raw_socket()) && !identity.is_of(second.as_raw_socket()));
    }

    fn internet(port: u16, last_byte: u8) -> Address {
        let mut bytes = [0; SIZE];
        bytes[..2].copy_from_slice(&AF_INET.to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[7] = last_byte;
        Address { bytes, len: 16 }
    }

    /// The errors that the calls can return.
    fn error(number: i32) -> io::Result<Address> {
        Err(io::Error::from_raw_os_error(number))
    }

    #[test]
    fn only_a_closed_number_and_other_addresses_prove_another_socket() {
        use windows_sys::Win32::Networking::WinSock::{WSAENOBUFS, WSAENOTCONN, WSAEOPNOTSUPP};

        let no_peer = || error(WSAENOTCONN);
        let identity = |local, peer| {
            let is_final = true;
            Identity { is_stream: true, local, is_final, has_failed: false, peer }
        };
        let bound = identity(Ok(internet(80, 1)), None);
        let unbound = identity(Err(Some(WSAEINVAL)), None);
        let connected = identity(Ok(internet(80, 1)), Some(internet(90, 1)));
        for identity in [&bound, &unbound, &connected] {
            for of_file in [WSAENOTSOCK, WSAEOPNOTSUPP] {
                assert!(!identity.fits(error(of_file), no_peer), "{identity:?}");
            }
            for lack in [WSAENOBUFS, WSAENETDOWN] {
                assert!(identity.fits(error(lack), || error(lack)), "{identity:?}");
            }
            // The address of this system can change with a connect, and the connection can have ended.
            assert!(identity.fits(Ok(internet(80, 2)), no_peer), "{identity:?}");
        }
        // A socket whose address can never be read, or was not read for lack of memory.
        for (before, now, is_same) in [
            (WSAEOPNOTSUPP, WSAEOPNOTSUPP, true),
            (WSAENOBUFS, WSAEINVAL, true),
            (WSAENOTSOCK, WSAENOTSOCK, false),
            (WSAEINVAL, WSAEOPNOTSUPP, false),
        ] {
            assert_eq!(identity(Err(Some(before)), None).fits(error(now), no_peer), is_same, "{before} {now}");
        }
        assert!(unbound.fits(error(WSAEINVAL), no_peer) && unbound.fits(Ok(internet(0, 0)), no_peer));
        for identity in [&bound, &connected] {
            assert!(!identity.fits(error(WSAEINVAL), no_peer), "{identity:?}");
            assert!(!identity.fits(Ok(internet(81, 1)), no_peer), "{identity:?}");
        }
        assert!(connected.fits(Ok(internet(80, 1)), || Ok(internet(90, 1))));
        assert!(!connected.fits(Ok(internet(80, 1)), || Ok(internet(91, 1))));
        assert!(!internet(0, 1).has_port() && internet(1, 0).has_port());
    }

    #[test]
    fn port_is_the_only_address_of_a_socket_without_a_connection() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (first, second) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        socket.connect(first.local_addr().unwrap()).unwrap();
        let mut identity = Identity::of(socket.as_raw_socket(), false);
        socket.connect(second.local_addr().unwrap()).unwrap();
        assert!(identity.is_of(socket.as_raw_socket()));
    }
    /// The connection has ended before the identity was recorded, so that the port is all there is.
    #[test]
    fn reset_stream_is_distinguished_from_another_one_after_a_result() {
        let (first, second) = (bound(), bound());
        let mut identity = Identity::of(first.as_raw_socket(), true);
        identity.record_result(bits::RECEIVE);
        assert!(identity.is_of(first.as_raw_socket()) && !identity.is_of(second.as_raw_socket()));
        // After a failed connect, the port can change until the socket has a peer.
        let mut identity = Identity::of(first.as_raw_socket(), true);
        identity.record_result(bits::CONNECT_FAIL);
        identity.record_result(bits::SEND);
        assert!(identity.is_of(second.as_raw_socket()));
        identity.record_result(bits::SEND);
        assert!(identity.is_of(first.as_raw_socket()));
    }
}
