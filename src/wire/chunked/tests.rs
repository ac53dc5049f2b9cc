use super::*;

/// The chat body of the tables: 27 bytes.
const J: &str = r#"{"model":"m","messages":[]}"#;

/// Runs `cuts` of a stream through a decoder: the data, and the bytes behind the end if it came.
fn decode<'a>(cuts: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<u8>, Option<Vec<u8>>), BadChunk> {
    let mut body = Chunked::new(Limits::default());
    let (mut data, mut behind) = (Vec::new(), None::<Vec<u8>>);
    for mut cut in cuts {
        while behind.is_none() {
            let (piece, used) = body.step(cut)?;
            match piece {
                Piece::Data(span) => {
                    assert!(!body.is_done());
                    assert!(!span.is_empty() && span.end == used);
                    data.extend_from_slice(span.of(cut));
                }
                Piece::More => {
                    assert!(!body.is_done());
                    assert_eq!(used, cut.len());
                    cut = &cut[used..];
                    break;
                }
                Piece::End { consumed } => {
                    assert_eq!(consumed, used);
                    assert!(body.is_done());
                    behind = Some(Vec::new());
                }
            }
            cut = &cut[used..];
        }
        if let Some(behind) = &mut behind {
            behind.extend_from_slice(cut);
        }
    }
    Ok((data, behind))
}

/// The verdict over the whole input; the same at every cut, and byte by byte.
fn verdict(bytes: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), BadChunk> {
    let whole = decode([bytes]);
    for cut in 0..=bytes.len().min(2_000) {
        assert_eq!(decode([&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}: {}", bytes.escape_ascii());
    }
    assert_eq!(decode(bytes.chunks(1)), whole, "byte by byte: {}", bytes.escape_ascii());
    whole
}

#[track_caller]
fn reads(bytes: impl AsRef<[u8]>, data: &str, behind: &[u8]) {
    let bytes = bytes.as_ref();
    assert_eq!(
        verdict(bytes),
        Ok((data.as_bytes().to_vec(), Some(behind.to_vec()))),
        "{}",
        bytes.escape_ascii()
    );
}

#[track_caller]
fn refuses(bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    assert!(verdict(bytes).is_err(), "{}", bytes.escape_ascii());
}

#[test]
fn sizes_are_hex_in_any_case_with_leading_zeros() {
    for size in ["1b", "1B", "001B", "000000000000001b"] {
        reads(format!("{size}\r\n{J}\r\n0\r\n\r\n"), J, b""); // U01, U02
    }
    let ones: String = J.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
    reads(format!("{ones}0\r\n\r\n"), J, b"");
    reads("0\r\n\r\n", "", b"");
    reads("000\r\n\r\n", "", b"");
}

#[test]
fn every_digit_has_its_value_in_both_ways_of_reading() {
    for (size, digits) in
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "aA", "bB", "cC", "dD", "eE", "fF"]
            .iter()
            .enumerate()
    {
        let data = "x".repeat(0x10 + size);
        for digit in digits.chars() {
            reads(format!("1{digit}\r\n{data}\r\n0\r\n\r\n"), &data, b"");
            reads(format!("000000001{digit}\r\n{data}\r\n0\r\n\r\n"), &data, b"");
        }
    }
}

#[test]
fn a_plain_size_is_one_to_eight_digits_above_zero_and_crlf() {
    for (line, size) in [("1\r\n", 1), ("1b\r\nX", 0x1b), ("0A\r\n", 10), ("fedcba98\r\n", 0xfedc_ba98)] {
        assert_eq!(plain_size(line.as_bytes()), Some((size, line.find('\n').unwrap() + 1)), "{line:?}");
    }
    for line in ["", "1", "1\r", "1\n", "1;\r\n", "1 \r\n", "\r\n", "0\r\n", "00\r\n", "012345678\r\n"] {
        assert_eq!(plain_size(line.as_bytes()), None, "{line:?}");
    }
}

#[test]
fn sizes_that_are_not_plain_hex_are_refused() {
    refuses("\r\n\r\n"); // U03
    refuses(";a=b\r\n\r\n"); // U04
    for size in [" 1b", "1b ", "1b\t", "0x1b", "+1b", "-1", "1_b", "1bh", "0_2e", "1b ;a", ""] {
        refuses(format!("{size}\r\n{J}\r\n0\r\n\r\n")); // U05, U06
    }
    refuses(format!("1b\n{J}\r\n0\r\n\r\n")); // U08
    refuses("5\rXhello\r\n0\r\n\r\n"); // U11
    refuses("5\r\r\nhello\r\n0\r\n\r\n");
    refuses("5\x00\r\nhello\r\n0\r\n\r\n");
}

#[test]
fn sizes_no_body_can_have_are_refused() {
    for size in ["FFFFFFFFFFFFFFFF", "1000000000000000", "10000000000000000", "00000000000000001"] {
        refuses(format!("{size}\r\n")); // U07
    }
    refuses(format!("{}5\r\n", "0".repeat(1_000)));
    assert_eq!(verdict(b"FFFFFFFFFFFFFFF\r\nx"), Ok((b"x".to_vec(), None)));
}

#[test]
fn extensions_are_checked_and_dropped() {
    reads(format!("1b;a=b\r\n{J}\r\n0;c\r\n\r\n"), J, b""); // U14
    reads("5;a=\"b;\\\"\tc\";d;e=f\r\nhello\r\n0;x=\"\"\r\n\r\n", "hello", b"");
}

#[test]
fn broken_extensions_are_refused() {
    for line in [
        "5;a\n",        // U09
        "5;a\rX\r\n",   // U10
        "2\r\r;a\r\n",  // U10
        "5;\x00e\r\n",  // U12
        "5;\r\n",       // U13
        "5;bad[=x\r\n", // U13
        "5;a=\"\r\n",   // U15
        "5;a=\"b\\\r\n",
        "5;a=\r\n",
        "5;a=b c\r\n",
        "5; a\r\n",
        "5;a =b\r\n",
        "5;a=\"b\"c\r\n",
        "5;;a\r\n",
        "5;=b\r\n",
    ] {
        refuses(format!("{line}hello\r\n0\r\n\r\n"));
    }
}

#[test]
fn extensions_are_bounded_over_the_whole_body() {
    let long = "x".repeat(64 << 10);
    assert!(decode([format!("5;{long}\r\nhello\r\n0\r\n\r\n").as_bytes()]).is_err()); // U16
    let chunk = format!("1;{}\r\nx\r\n", "x".repeat(1_000));
    assert!(decode([chunk.repeat(16).as_bytes()]).is_ok());
    assert!(decode([chunk.repeat(17).as_bytes()]).is_err()); // U17
}

#[test]
fn extensions_and_trailers_fill_their_limits_exactly() {
    let within = |line_overhead_bytes, trailer_bytes, bytes: &[u8]| {
        let mut body = Chunked::new(Limits { line_overhead_bytes, trailer_bytes });
        let (mut at, mut piece) = (0, Piece::More);
        while at < bytes.len() {
            let (next, used) = body.step(&bytes[at..])?;
            (at, piece) = (at + used, next);
        }
        Ok(piece)
    };
    let extended = b"1;ab\r\nx\r\n0;c=d\r\n\r\n"; // three and four bytes
    assert!(matches!(within(7, 0, extended), Ok(Piece::End { .. })));
    assert!(matches!(within(8, 0, extended), Ok(Piece::End { .. })));
    assert_eq!(within(6, 0, extended), bad("chunk extensions are too long"));
    let trailed = b"0\r\nA:b\r\nC: d\r\n\r\n"; // five and six bytes
    assert!(matches!(within(0, 11, trailed), Ok(Piece::End { .. })));
    assert!(matches!(within(0, 12, trailed), Ok(Piece::End { .. })));
    assert_eq!(within(0, 10, trailed), bad("trailers are too long"));
}

#[test]
fn many_small_chunks_without_extensions_are_an_ordinary_stream() {
    let body = "1\r\nx\r\n".repeat(100_000);
    assert_eq!(decode([body.as_bytes()]), Ok((vec![b'x'; 100_000], None)));
}

#[test]
fn data_must_be_followed_by_crlf() {
    refuses("5\r\nhello0\r\n\r\n"); // U18
    refuses("5\r\nhello!!\r\n0\r\n\r\n"); // U19
    refuses("5\r\nhello\n0\r\n\r\n"); // U20
    refuses("5\r\nhelloXX0\r\n\r\n"); // U20
    refuses("5\r\nhello\r0\r\n\r\n");
    refuses("0\r\n\n"); // U21
    refuses("0\r\n\rX");
    refuses("5\r\nhello\r\n\r\n0\r\n\r\n"); // U22
}

#[test]
fn the_reason_names_the_part_that_is_wrong() {
    for (bytes, reason) in [
        ("x", "chunk size"),
        ("5 \r\n", "chunk size"),
        ("5\rX", "chunk size"),
        ("11111111111111111", "chunk size is too large"),
        ("5;=", "chunk extension"),
        ("1\r\nxy", "chunk data is not followed by CRLF"),
        ("1\r\nx\rX", "chunk data is not followed by CRLF"),
        ("0\r\n:", "trailer line"),
        ("0\r\nX:y\rX", "line end in trailers"),
        ("0\r\n\rX", "line end in trailers"),
    ] {
        assert_eq!(verdict(bytes.as_bytes()), Err(BadChunk { reason }), "{bytes:?}");
    }
}

#[test]
fn a_body_without_its_last_chunk_never_ends() {
    assert_eq!(verdict(b"5\r\nhello\r\n"), Ok((b"hello".to_vec(), None))); // U23
    assert_eq!(verdict(b"5\r\nhello\r\n0\r\n"), Ok((b"hello".to_vec(), None)));
    assert_eq!(verdict(b"5\r\nhel"), Ok((b"hel".to_vec(), None)));
    let mut long = format!("400\r\n{}\r\n", "x".repeat(1_024)).repeat(64);
    long.push_str("ZZ\r\n");
    assert!(decode([long.as_bytes()]).is_err()); // U25
}

#[test]
fn bytes_behind_the_end_belong_to_the_next_message() {
    reads(format!("1b\r\n{J}\r\n0\r\n\r\n\0"), J, b"\0"); // U24
    reads("0\r\n\r\nGET / HTTP/1.1\r\n\r\n", "", b"GET / HTTP/1.1\r\n\r\n");
}

#[test]
fn trailers_are_checked_and_dropped() {
    reads("0\r\nX:POST / HTTP/1.1\r\n\r\n", "", b""); // U26
    for line in [
        "Content-Length: 50",
        "Transfer-Encoding: chunked",
        "Host: evil",
        "Authorization: Bearer K2",
        "X:",
        "X: \u{e9}\t",
    ] {
        reads(format!("5\r\nhello\r\n0\r\n{line}\r\nY: z\r\n\r\n"), "hello", b""); // U28
    }
}

#[test]
fn broken_trailers_are_refused() {
    for lines in [
        "X: a\r\n b\r\n\r\n", // U29
        " X: a\r\n\r\n",
        "X: a\n\r\n",      // U29
        "NoColon\r\n\r\n", // U29
        ": x\r\n\r\n",
        "X : y\r\n\r\n",
        "X: a\rb\r\n\r\n",
        "X: a\0b\r\n\r\n",
        "X[: y\r\n\r\n",
    ] {
        refuses(format!("0\r\n{lines}"));
    }
}

#[test]
fn trailers_are_bounded() {
    let many = "X: y\r\n".repeat(10_000);
    assert!(decode([format!("0\r\n{many}\r\n").as_bytes()]).is_err()); // U27
    let long = "y".repeat(100 << 10);
    assert!(decode([format!("0\r\nX: {long}\r\n\r\n").as_bytes()]).is_err()); // U27
}

#[test]
fn the_boundary_is_between_chunks_only() {
    let bytes = b"2\r\nab\r\n0\r\n\r\n";
    let at: Vec<_> = (0..=bytes.len())
        .filter(|&cut| {
            let mut body = Chunked::new(Limits::default());
            let mut rest = &bytes[..cut];
            loop {
                match body.step(rest) {
                    Ok((Piece::Data(_), used)) => rest = &rest[used..],
                    _ => break body.at_boundary(),
                }
            }
        })
        .collect();
    assert_eq!(at, [0, 7]);
}

#[test]
fn mutated_bodies_have_one_verdict_at_every_cut() {
    let seed = 0x5eed_0002_u64;
    let mut noise = crate::wire::noise::Noise::new(seed);
    let sound = b"5;a=\"b\"\r\nhello\r\n1B;c\r\n{\"model\":\"m\",\"messages\":[]}\r\n0\r\nX: y\r\n\r\n";
    for round in 0..400 {
        let bytes = noise.mutate(sound);
        let whole = decode([&bytes[..]]);
        for cut in 0..=bytes.len() {
            assert_eq!(
                decode([&bytes[..cut], &bytes[cut..]]),
                whole,
                "seed {seed:#x} round {round} cut {cut}: {}",
                bytes.escape_ascii()
            );
        }
    }
}
