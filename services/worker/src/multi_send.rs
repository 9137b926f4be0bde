//! Sends messages to several clients in one system call: `sendmmsg` with segmentation offload (GSO) and the source
//! address of each message.

use std::io;
use std::net::{IpAddr, SocketAddr};

use quinn_udp::UdpSocketState;
use tokio::net::UdpSocket;

/// Most messages in one system call.
pub(super) const MAX_MESSAGES: usize = 32;

/// One datagram, or several that the kernel cuts into segments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) to: SocketAddr,
    pub(super) bytes: &'a [u8],
}

/// What all messages of a call share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SendOptions {
    /// Our address that they are sent from.
    pub(super) source: Option<IpAddr>,
    /// The kernel cuts messages that are longer into segments of so many bytes. None: each is one datagram.
    pub(super) segment_size: Option<u16>,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::IoSlice;
    use std::net::Ipv4Addr;
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
    use smallvec::SmallVec;

    use super::*;

    type Headers = MultiHeaders<SockaddrStorage>;

    /// The headers of messages, reused. Their length depends on the control messages in them.
    #[derive(Debug, Default)]
    pub(in crate::multi_send) struct HeaderPool {
        /// By source address: none, IPv4, IPv6; each without and with segments.
        by_options: [Option<Headers>; 6],
    }

    impl HeaderPool {
        fn of(&mut self, options: SendOptions) -> Option<&mut Headers> {
            let source = match options.source {
                None => 0,
                Some(IpAddr::V4(_)) => 1,
                Some(IpAddr::V6(_)) => 2,
            };
            let has_segments = options.segment_size.is_some();
            let control = || match (source, has_segments) {
                (0, false) => None,
                (0, true) => Some(nix::cmsg_space!(u16)),
                (1, false) => Some(nix::cmsg_space!(libc::in_pktinfo)),
                (1, true) => Some(nix::cmsg_space!(libc::in_pktinfo, u16)),
                (_, false) => Some(nix::cmsg_space!(libc::in6_pktinfo)),
                (_, true) => Some(nix::cmsg_space!(libc::in6_pktinfo, u16)),
            };
            let headers = self.by_options.get_mut(source * 2 + usize::from(has_segments))?;
            Some(headers.get_or_insert_with(|| Headers::preallocate(MAX_MESSAGES, control())))
        }
    }

    pub(in crate::multi_send) fn send(
        pool: &mut HeaderPool,
        io: &UdpSocket,
        options: SendOptions,
        messages: &[Message<'_>],
    ) -> io::Result<usize> {
        let Some(headers) = pool.of(options) else { return Ok(0) };
        let any = Ipv4Addr::UNSPECIFIED;
        let source_v4 = match options.source {
            Some(IpAddr::V4(source)) => source,
            _ => any,
        };
        let v4 = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(source_v4.octets()) },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let v6 = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr {
                s6_addr: match options.source {
                    Some(IpAddr::V6(source)) => source.octets(),
                    _ => [0; 16],
                },
            },
            ipi6_ifindex: 0,
        };
        let source = options.source.map(|source| match source {
            IpAddr::V4(_) => ControlMessage::Ipv4PacketInfo(&v4),
            IpAddr::V6(_) => ControlMessage::Ipv6PacketInfo(&v6),
        });
        let segments = options.segment_size.as_ref().map(ControlMessage::UdpGsoSegments);
        let (both, one);
        let control: &[ControlMessage<'_>] = match (source, segments) {
            (Some(source), Some(segments)) => {
                both = [source, segments];
                &both
            }
            (source, segments) => {
                one = source.or(segments);
                one.as_slice()
            }
        };
        let count = messages.len().min(MAX_MESSAGES);
        let slices: [[IoSlice<'_>; 1]; MAX_MESSAGES] = std::array::from_fn(|index| {
            [IoSlice::new(messages.get(index).map_or(&[], |message| message.bytes))]
        });
        let to: SmallVec<[Option<SockaddrStorage>; MAX_MESSAGES]> =
            messages.iter().take(count).map(|message| Some(message.to.into())).collect();
        // As many messages are sent as there are addresses.
        let sent = sendmmsg(io.as_raw_fd(), headers, slices.iter(), to, control, MsgFlags::MSG_DONTWAIT)?;
        Ok(sent.count())
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use quinn_udp::Transmit;

    use super::*;

    /// Sends the first message.
    pub(in crate::multi_send) fn send(
        state: &UdpSocketState,
        io: &UdpSocket,
        options: SendOptions,
        messages: &[Message<'_>],
    ) -> io::Result<usize> {
        let Some(first) = messages.first() else { return Ok(0) };
        let transmit = Transmit {
            destination: first.to,
            ecn: None,
            contents: first.bytes,
            segment_size: options.segment_size.map(usize::from),
            src_ip: options.source,
        };
        state.try_send(io.into(), &transmit).map(|()| 1)
    }
}

/// Sends messages in one system call.
#[derive(Debug, Default)]
pub(super) struct MultiSender {
    #[cfg(target_os = "linux")]
    pool: linux::HeaderPool,
}

impl MultiSender {
    /// Sends the first messages, at most [`MAX_MESSAGES`], and returns how many were taken.
    ///
    /// # Errors
    /// The kernel did not take the first one.
    pub(super) fn send(
        &mut self,
        (io, _state): (&UdpSocket, &UdpSocketState),
        options: SendOptions,
        messages: &[Message<'_>],
    ) -> io::Result<usize> {
        #[cfg(target_os = "linux")]
        {
            linux::send(&mut self.pool, io, options, messages)
        }
        #[cfg(not(target_os = "linux"))]
        {
            other::send(_state, io, options, messages)
        }
    }
}
