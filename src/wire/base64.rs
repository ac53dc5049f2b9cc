//! Base64 (RFC 4648): the standard alphabet with padding, and the one for URLs without.

/// Section 4.
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Section 5.
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Appends `bytes` to `out` in the standard alphabet, with padding.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    write(bytes, STANDARD, out);
    out.extend(std::iter::repeat_n(b'=', (3 - bytes.len() % 3) % 3));
}

/// Appends `bytes` to `out` in the alphabet for URLs, without padding.
pub fn encode_url(bytes: &[u8], out: &mut Vec<u8>) {
    write(bytes, URL, out);
}

fn write(bytes: &[u8], alphabet: &[u8; 64], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let letters = [18, 12, 6, 0].map(|shift| alphabet[(bits >> shift & 63) as usize]);
        out.extend_from_slice(&letters[..group.len() + 1]);
    }
}

/// What a letter of either alphabet stands for.
pub fn value(letter: u8) -> Option<u8> {
    Some(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

/// The bytes of text in either alphabet, padded or not, as it stands in a JSON string (a slash may be escaped); `None` for what is
/// none. Bits that are left over do not count.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::with_capacity(text.len() / 4 * 3 + 2), 0_u32, 0);
    for letter in text.iter().filter(|letter| !matches!(letter, b'=' | b'\\')) {
        (bits, held) = (bits << 6 | u32::from(value(*letter)?), held + 6);
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

/// The bytes of text that [`encode_url`] has written; `None` for anything else: other letters, padding, bits that are left over.
pub fn decode_url(text: &[u8]) -> Option<Vec<u8>> {
    if memchr::memchr2(b'+', b'/', text).is_some() {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for four in text.chunks(4) {
        let mut word = 0;
        for at in 0..4 {
            let value = match four.get(at) {
                Some(&letter) => value(letter)?,
                None => 0,
            };
            word = word << 6 | u32::from(value);
        }
        let [_, first, second, third] = word.to_be_bytes();
        let whole = [first, second, third];
        let count = four.len().checked_sub(1).filter(|&count| count > 0)?;
        if whole[count..].iter().any(|&left_over| left_over != 0) {
            return None;
        }
        bytes.extend_from_slice(&whole[..count]);
    }
    Some(bytes)
}

/// Decodes the front of a text of either alphabet as it stands in JSON into `out`; how many bytes there are. Ends at the first
/// character that is none of the alphabet; escaped slashes and line ends are read as what they mean.
pub fn decode_front(text: &[u8], out: &mut [u8]) -> usize {
    let (mut bits, mut held, mut length) = (0_u32, 0, 0);
    let mut letters = text.iter().copied();
    while let Some(letter) = letters.next() {
        let value = match (letter, value(letter)) {
            (_, Some(value)) => value,
            (b'\\', None) => match letters.next() {
                Some(b'/') => 63,
                Some(b'n' | b'r') => continue,
                _ => return length,
            },
            _ => return length,
        };
        (bits, held) = (bits << 6 | u32::from(value), held + 6);
        if held >= 8 {
            held -= 8;
            let Some(place) = out.get_mut(length) else { return length };
            *place = (bits >> held) as u8;
            length += 1;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::noise::Noise;

    fn text(encode: fn(&[u8], &mut Vec<u8>), bytes: &[u8]) -> String {
        let mut out = Vec::new();
        encode(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_vectors_of_the_rfc() {
        for (plain, padded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(text(encode, plain.as_bytes()), padded);
            assert_eq!(text(encode_url, plain.as_bytes()), padded.trim_end_matches('='));
            assert_eq!(decode(padded.as_bytes()).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(
            (text(encode, b"\xfb\xff\xbf").as_str(), text(encode_url, b"\xfb\xff\xbf").as_str()),
            ("+/+/", "-_-_")
        );
        assert_eq!(decode(br"+\/-_"), Some(b"\xfb\xff\xbf".to_vec()));
        assert_eq!(
            (decode(b"a b"), decode_url(b"AB"), decode_url(b"+/+/"), decode_url(b"Zg==")),
            (None, None, None, None)
        );
    }

    #[test]
    fn any_bytes_come_back() {
        let mut noise = Noise::new(0xba5e_0064);
        let mut bytes = b"a seed of some length".to_vec();
        for _ in 0..2_000 {
            bytes = noise.mutate(&bytes);
            bytes.truncate(200);
            let (padded, url) = (text(encode, &bytes), text(encode_url, &bytes));
            assert_eq!(decode(padded.as_bytes()).as_deref(), Some(&bytes[..]));
            assert_eq!(decode(url.as_bytes()).as_deref(), Some(&bytes[..]));
            assert_eq!(decode_url(url.as_bytes()).as_deref(), Some(&bytes[..]));
            let mut front = [0; 40];
            let known = decode_front(padded.as_bytes(), &mut front);
            assert_eq!(&front[..known], &bytes[..bytes.len().min(40)]);
            let _ = (decode(&bytes), decode_url(&bytes), decode_front(&bytes, &mut front));
        }
    }
}
