//! The fields of encoded messages, read without decoding them. A field of two bytes can become a hundred in memory, so messages of
//! other nodes are counted first.

/// A field of an encoded message: its number, and its content if that has a length.
pub type Field<'a> = (u32, &'a [u8]);

/// The message is no sequence of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The fields of an encoded message, in order.
pub fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<Field<'_>, Malformed>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = next(&mut rest).ok_or(Malformed);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let key = varint(rest)?;
    let number = u32::try_from(key >> 3).ok()?;
    let length = match key & 7 {
        0 => {
            varint(rest)?;
            0
        }
        1 => 8,
        2 => usize::try_from(varint(rest)?).ok()?,
        5 => 4,
        // No node of any version sends groups.
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some((number, if key & 7 == 2 { content } else { &[] }))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::v1::{StateUpdate, Subscribe};
    use prost::Message as _;

    fn numbers(bytes: &[u8]) -> Result<Vec<u32>, Malformed> {
        fields(bytes).map(|field| field.map(|(number, _)| number)).collect()
    }

    #[test]
    fn fields_are_those_that_were_encoded() {
        let subscribe = Subscribe { track_sid: "TR_x".to_owned(), layer: 300, flow: 7 }.encode_to_vec();
        assert_eq!(numbers(&subscribe), Ok(vec![1, 2, 3]));
        assert_eq!(fields(&subscribe).next(), Some(Ok((1, &b"TR_x"[..]))));
        let updates = StateUpdate { updates: vec![vec![].into(), vec![1].into()], snapshot: true };
        assert_eq!(numbers(&updates.encode_to_vec()), Ok(vec![1, 1, 2]));
    }

    #[test]
    fn what_is_cut_off_or_a_group_is_malformed() {
        for bytes in [&[0x0a][..], &[0x0a, 5, 1], &[0x0b, 0x0c], &[0xff; 12], &[0x0d, 1, 2], &[0x08, 0x80]] {
            assert_eq!(numbers(bytes), Err(Malformed), "{bytes:?}");
        }
        assert_eq!(numbers(&[0x08, 1, 0x0a]), Err(Malformed), "after a field");
    }
}
