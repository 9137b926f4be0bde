//! Sockets of media and links. Media has one socket per address family: a dual-stack socket reports IPv4
//! peers as IPv4-mapped IPv6 addresses (`::ffff:192.0.2.1`), which match no ICE candidate. `[::]` means all
//! addresses of both families.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// The addresses to bind, one per address family of the advertised addresses.
///
/// # Errors
/// The advertised address that cannot be reached at `listen` because it is of the other family.
pub(crate) fn per_family(listen: SocketAddr, advertise: &[IpAddr]) -> Result<Vec<SocketAddr>, IpAddr> {
    let mut all = Vec::new();
    for ip in advertise {
        let bound = if ip.is_ipv4() == listen.is_ipv4() {
            listen
        } else if listen.is_ipv6() && listen.ip().is_unspecified() {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, listen.port()))
        } else {
            return Err(*ip);
        };
        if !all.contains(&bound) {
            all.push(bound);
        }
    }
    if all.is_empty() {
        all.push(listen);
    }
    Ok(all)
}

/// The UDP socket of links. `[::]` is dual-stack, whatever the system's default is.
pub(crate) fn link_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    Ok(open(address, Type::DGRAM, Protocol::UDP, false)?.into())
}

/// The TCP listener of links, likewise.
pub(crate) fn link_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    listening(open(address, Type::STREAM, Protocol::TCP, false)?)
}

/// UDP sockets that share one port; port 0 lets the system choose it.
pub(crate) fn udp(addresses: &[SocketAddr]) -> io::Result<Vec<UdpSocket>> {
    bind(addresses, Type::DGRAM, Protocol::UDP, |socket| Ok(socket.into()), UdpSocket::local_addr)
}

/// TCP listeners that share one port; port 0 lets the system choose it.
pub(crate) fn tcp(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    bind(addresses, Type::STREAM, Protocol::TCP, listening, TcpListener::local_addr)
}

fn listening(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol, only_v6: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    if kind == Type::STREAM {
        // Allows binding while connections of a previous listener are in TIME_WAIT.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind<T>(
    addresses: &[SocketAddr],
    kind: Type,
    protocol: Protocol,
    convert: impl Fn(Socket) -> io::Result<T>,
    local_addr: impl Fn(&T) -> io::Result<SocketAddr>,
) -> io::Result<Vec<T>> {
    let (mut all, mut port) = (Vec::new(), None);
    for address in addresses {
        let mut address = *address;
        address.set_port(port.unwrap_or(address.port()));
        let with_address = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
        let socket = open(address, kind, protocol, true).map_err(with_address)?;
        let socket = convert(socket).map_err(with_address)?;
        port = Some(local_addr(&socket)?.port());
        all.push(socket);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn bound(listen: &str, advertise: &[&str]) -> Result<Vec<String>, IpAddr> {
        let all = per_family(listen.parse().unwrap(), &ips(advertise))?;
        Ok(all.into_iter().map(|address| address.to_string()).collect())
    }

    #[test]
    fn each_advertised_family_has_a_socket() {
        let (four, six) = ("192.0.2.10", "2001:db8::10");
        assert_eq!(bound("127.0.0.1:7882", &[]).unwrap(), ["127.0.0.1:7882"]);
        assert_eq!(bound("[::1]:7882", &[]).unwrap(), ["[::1]:7882"]);
        assert_eq!(bound("0.0.0.0:7882", &[four, "192.0.2.11"]).unwrap(), ["0.0.0.0:7882"]);
        assert_eq!(bound("[::]:7882", &[six]).unwrap(), ["[::]:7882"]);
        assert_eq!(bound("[::]:7882", &[four]).unwrap(), ["0.0.0.0:7882"]);
        assert_eq!(bound("[::]:7882", &[four, six]).unwrap(), ["0.0.0.0:7882", "[::]:7882"]);
    }

    #[test]
    fn an_unreachable_advertised_address_is_reported() {
        let (four, six) = ("192.0.2.10", "2001:db8::10");
        for (listen, advertise, unreached) in [
            ("0.0.0.0:7882", [four, six], six),
            ("10.0.0.4:7882", [six, four], six),
            ("[2001:db8::10]:7882", [six, four], four),
        ] {
            assert_eq!(bound(listen, &advertise).unwrap_err().to_string(), unreached, "{listen}");
        }
    }

    #[test]
    fn both_families_share_a_port_and_report_unmapped_addresses() {
        let everywhere = per_family("[::]:0".parse().unwrap(), &ips(&["127.0.0.1", "::1"])).unwrap();
        let sockets = udp(&everywhere).unwrap();
        let port = sockets[0].local_addr().unwrap().port();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap().port() == port));
        for (socket, client) in sockets.iter().zip(["127.0.0.1:0", "[::1]:0"]) {
            let client = UdpSocket::bind(client).unwrap();
            let own = client.local_addr().unwrap();
            client.send_to(b"x", SocketAddr::new(own.ip(), port)).unwrap();
            assert_eq!(socket.recv_from(&mut [0; 1]).unwrap(), (1, own));
        }
        for (listener, ip) in tcp(&everywhere).unwrap().iter().zip(ips(&["127.0.0.1", "::1"])) {
            let at = SocketAddr::new(ip, listener.local_addr().unwrap().port());
            let client = std::net::TcpStream::connect(at).unwrap();
            listener.set_nonblocking(false).unwrap();
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        }
        assert!(udp(&[sockets[0].local_addr().unwrap()]).unwrap_err().to_string().contains("0.0.0.0:"));
    }
}
