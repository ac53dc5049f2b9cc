//! Vectors: the base64 is that of the numbers that were written, and nothing else changes.

use ringway::dialect::embeddings::floats_to_base64;
use ringway::wire::json;
use serde_json::Value;

pub(crate) fn run(data: &[u8]) {
    let mut out = b"front".to_vec();
    let converted = floats_to_base64(data, &mut out);
    let told = out.strip_prefix(b"front").expect("what was there stays");
    let Ok(true) = converted else {
        return assert!(told.is_empty(), "what is not converted leaves nothing");
    };
    assert!(json::is_object(data) && json::is_object(told));
    assert_eq!(floats_to_base64(told, &mut Vec::new()), Ok(false), "there is nothing left to convert");
    let (Some(was), Some(mut is)) = (super::value(data), super::value(told)) else { return };
    let items = was["data"].as_array().expect("vectors stand in a list");
    for (index, item) in items.iter().enumerate() {
        let Value::Array(numbers) = &item["embedding"] else { continue };
        let text = is["data"][index]["embedding"].as_str().expect("a vector is a string now");
        let floats: Vec<f32> = decode(text)
            .chunks(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
            .collect();
        assert_eq!(floats.len(), numbers.len());
        for (float, number) in floats.iter().zip(numbers) {
            let number = number.as_f64().expect("a vector holds numbers");
            // Within one rounding by way of 64 bits of the one rounding that is promised.
            let near = [number as f32, (number as f32).next_up(), (number as f32).next_down()];
            assert!(float.is_finite() && near.contains(float), "{number} became {float}");
        }
        is["data"][index]["embedding"] = item["embedding"].clone();
    }
    assert_eq!(is, was, "nothing else changed");
}

/// RFC 4648 section 4, one digit at a time.
fn decode(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(4));
    let digits = text.trim_end_matches('=');
    assert!(text.len() - digits.len() <= 2);
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("no digit of base64: {digit}"),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    assert_eq!(bits & ((1 << count) - 1), 0, "no bits are left over");
    bytes
}
