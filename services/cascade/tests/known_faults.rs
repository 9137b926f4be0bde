//! Known faults of QUIC that can be asked of the library as it is.

#![allow(clippy::unwrap_used)]

use quinn_proto::Side;
use quinn_proto::transport_parameters::TransportParameters;

/// A transport parameter (RFC 9000, section 18) with one id that says one length.
fn parameter(id: u64, says: u8, content: &[u8]) -> Vec<u8> {
    // Varints of 8 bytes, and of 1.
    [&(id | 0xc000_0000_0000_0000).to_be_bytes()[..], &[says], content].concat()
}

/// RUSTSEC-2026-0037: a parameter with an invalid value or length ended the process.
#[test]
fn transport_parameters_with_invalid_lengths_and_values_are_refused_and_end_nothing() {
    let known = (0..=0x20).chain([0x2ab2, 0xff03_de1a, 0xff04_de1b]);
    let mut refused = 0;
    for id in known {
        for (says, has) in (0..=63_u8).flat_map(|says| (0..=63_usize).map(move |has| (says, has))) {
            for byte in [0, 1, 0x3f, 0x40, 0x80, 0xff] {
                let bytes = parameter(id, says, &vec![byte; has]);
                for side in [Side::Client, Side::Server] {
                    let read = TransportParameters::read(side, &mut &bytes[..]);
                    refused += usize::from(read.is_err());
                    assert!(read.is_err() || has >= usize::from(says), "{id:#x} is cut off: {bytes:?}");
                }
            }
        }
    }
    assert!(refused > 0);
    // Parameters that are valid are read.
    let valid = [parameter(0x04, 1, &[9]), parameter(0x0e, 1, &[2])].concat();
    TransportParameters::read(Side::Server, &mut &valid[..]).unwrap();
}
