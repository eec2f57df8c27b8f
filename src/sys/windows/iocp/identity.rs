//! The addresses of a socket, which tell a socket from a later one with its number.

use std::os::windows::io::RawSocket;
use std::{io, mem};

use windows_sys::Win32::Networking::WinSock::{
    getpeername, getsockname, WSAGetLastError, AF_INET, AF_INET6, SOCKADDR, SOCKADDR_STORAGE, SOCKET, WSAENOTSOCK,
};

const SIZE: usize = mem::size_of::<SOCKADDR_STORAGE>();

/// The address of a socket, or no bytes.
#[derive(Copy, Clone, Debug)]
#[repr(C, align(8))] // The alignment of `SOCKADDR_STORAGE`.
struct Address {
    bytes: [u8; SIZE],
    len: usize,
}

/// The parts of a socket's addresses that never change once they are known: the own port, and the peer of a stream.
#[derive(Debug)]
pub(super) struct Identity {
    local: Address,
    /// `None` for a datagram socket, which can have several peers.
    peer: Option<Address>,
}

impl Identity {
    pub(super) fn of(socket: RawSocket, is_datagram: bool) -> Identity {
        let read = |function| Address::read(socket, function).unwrap_or(Address::NONE);
        Identity { local: read(getsockname), peer: (!is_datagram).then(|| read(getpeername)) }
    }

    /// Returns `false` if the number is not that of an open socket any more, or is that of another socket. A socket whose addresses
    /// were not known yet cannot be told from another one.
    pub(super) fn is_of(&self, socket: RawSocket) -> bool {
        let is_closed = |error: &io::Error| error.raw_os_error() == Some(WSAENOTSOCK);
        match Address::read(socket, getsockname) {
            Err(error) if is_closed(&error) => return false,
            local => {
                let local = local.unwrap_or(Address::NONE);
                if self.local.is_known() && self.local.port() != local.port() {
                    return false;
                }
            }
        }
        let Some(peer) = self.peer.filter(Address::is_known) else { return true };
        // A connection that has ended may have no peer.
        Address::read(socket, getpeername).map_or(true, |now| now.bytes() == peer.bytes())
    }
}

impl Address {
    const NONE: Address = Address { bytes: [0; SIZE], len: 0 };

    fn is_known(&self) -> bool {
        self.len > 0
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Returns the family and the port. The other bytes change when a socket without an address of its own is connected.
    fn port(&self) -> &[u8] {
        const FAMILY_AND_PORT: usize = 4;
        let family = u16::from_ne_bytes([self.bytes[0], self.bytes[1]]);
        match family {
            AF_INET | AF_INET6 => &self.bytes[..FAMILY_AND_PORT],
            _ => self.bytes(),
        }
    }

    fn read(
        socket: RawSocket,
        function: unsafe extern "system" fn(SOCKET, *mut SOCKADDR, *mut i32) -> i32,
    ) -> io::Result<Address> {
        let mut address = Address::NONE;
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
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::windows::io::AsRawSocket;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn socket_is_told_from_others() {
        let number = |socket: &dyn AsRawSocket| socket.as_raw_socket();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pairs: Vec<_> =
            (0..2).map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0)).collect();
        let (first, second) = (UdpSocket::bind("0.0.0.0:0").unwrap(), UdpSocket::bind("0.0.0.0:0").unwrap());
        let sockets: [(&dyn AsRawSocket, bool); 7] = [
            (&listener, false),
            (&pairs[0].0, false),
            (&pairs[0].1, false),
            (&pairs[1].0, false),
            (&pairs[1].1, false),
            (&first, true),
            (&second, true),
        ];
        for (index, &(socket, is_datagram)) in sockets.iter().enumerate() {
            let identity = Identity::of(number(socket), is_datagram);
            for (other_index, &(other, _)) in sockets.iter().enumerate() {
                // A listener has no peer, as an ended connection, and shares its port with the accepted sockets.
                let is_alike = [(0, 2), (0, 4), (2, 0), (4, 0)].contains(&(index, other_index));
                if !is_alike {
                    assert_eq!(identity.is_of(number(other)), index == other_index, "{index} {other_index}");
                }
            }
        }
        // A datagram socket is the same one after it was connected.
        let identity = Identity::of(number(&first), true);
        first.connect(("127.0.0.1", second.local_addr().unwrap().port())).unwrap();
        assert!(identity.is_of(number(&first)));
        // A number without a socket.
        assert!(!identity.is_of(!0 - 7));
    }

    fn unbound() -> Socket {
        Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()
    }

    #[test]
    fn socket_without_an_address_is_the_same_after_it_was_bound_and_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = unbound();
        let before = Identity::of(socket.as_raw_socket(), false);
        socket.connect(&listener.local_addr().unwrap().into()).unwrap();
        let after = Identity::of(socket.as_raw_socket(), false);
        assert!(before.is_of(socket.as_raw_socket()) && after.is_of(socket.as_raw_socket()));
        assert!(!after.is_of(unbound().as_raw_socket()));
    }
}
