//! Ports that stay a test's own while nobody listens on them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A loopback port on which one program at a time may listen, and which nobody else is given meanwhile.
///
/// A port that was asked for and given back, or on which a server has just ended, may belong to any other test by the time it
/// is used: the system hands out the same ones to servers and for outgoing connections. This one is bound all the time,
/// and refuses connections unless somebody listens. Linux lets a listener in beside a socket that does not listen if both
/// were bound with `SO_REUSEADDR`, as tokio and Go do.
#[derive(Debug)]
pub struct HeldPort {
    address: SocketAddr,
    /// Never listens.
    _socket: TcpSocket,
}

impl HeldPort {
    /// A port that is free.
    ///
    /// # Errors
    /// Where the system has none.
    pub fn new() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self {
            address: socket.local_addr()?,
            _socket: socket,
        })
    }

    /// Where to listen, and to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_port_stays_ones_own_between_two_servers_on_it() {
        let port = HeldPort::new().unwrap();
        for _ in 0..3 {
            let refused = TcpStream::connect(port.address()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let server = TcpListener::bind(port.address()).unwrap();
            let client = TcpStream::connect(port.address()).unwrap();
            // Whoever closes first leaves a connection behind that lasts a minute.
            drop(server.accept().unwrap());
            drop(client);
        }
    }
}
