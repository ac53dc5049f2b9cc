use super::*;

const RATES: Rates = Rates { bytes_per_token: 4, image_tokens: 1_105 };

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let sextet = |group: &[u8], index: usize| {
        let bits =
            group.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        char::from(ALPHABET[(bits >> (18 - 6 * index) & 63) as usize])
    };
    bytes.chunks(3).flat_map(|group| (0..=group.len()).map(move |index| sextet(group, index))).collect()
}

/// An image of that head, 600 KB of base64.
fn image(head: &[u8]) -> String {
    let mut bytes = head.to_vec();
    bytes.extend((0..450_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8));
    base64(&bytes)
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    head.extend(width.to_be_bytes());
    head.extend(height.to_be_bytes());
    head
}

fn media(api: Api, body: &str) -> u64 {
    assert!(crate::wire::json::is_object(body.as_bytes()));
    let prompt = prompt(api, body.as_bytes(), &RATES);
    assert!(prompt.text < 500 || prompt.media == 0, "{prompt:?}");
    prompt.media
}

fn url(media_type: &str, base64: &str) -> String {
    format!("data:{media_type};base64,{base64}")
}

fn chat(part: &str) -> String {
    format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"look"}},{part}]}}]}}"#
    )
}

#[test]
fn an_image_is_counted_by_its_pixels_in_every_dialect() {
    let png = image(&png(1024, 1024));
    let data = url("image/png", &png);
    let cases = [
        (Api::Chat, chat(&format!(r#"{{"type":"image_url","image_url":{{"url":"{data}"}}}}"#)), 765),
        (
            Api::Chat,
            chat(&format!(
                r#"{{"image_url": {{ "detail": "high", "url" : "{data}" }} , "type":"image_url"}}"#
            )),
            765,
        ),
        (
            Api::Chat,
            chat(&format!(r#"{{"type":"image_url","image_url":{{"url":"{data}","detail":"low"}}}}"#)),
            85,
        ),
        (
            Api::Chat,
            chat(&format!(r#"{{"type":"image_url","image_url":{{"url":"{}"}}}}"#, data.replace('/', r"\/"))),
            765,
        ),
        (
            Api::Responses,
            format!(
                r#"{{"model":"m","input":[{{"role":"user","content":[{{"type":"input_image","detail":"auto","image_url":"{data}"}}]}}]}}"#
            ),
            765,
        ),
        (
            Api::Responses,
            format!(
                r#"{{"model":"m","input":[{{"type":"function_call_output","call_id":"c","output":[{{"type":"input_image","image_url":"{data}"}}]}},{{"type":"image_generation_call","id":"i","result":"{png}"}}]}}"#
            ),
            1530,
        ),
        (
            Api::Messages,
            chat(&format!(
                r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{png}"}}}}"#
            )),
            1399,
        ),
        (
            Api::Messages,
            chat(&format!(
                r#"{{"type":"tool_result","tool_use_id":"t","content":[{{"type":"image","source":{{"data":"{png}","media_type":"image/png","type":"base64"}}}}]}}"#
            )),
            1399,
        ),
        (Api::Embeddings, format!(r#"{{"model":"m","input":[{{"image":"{png}"}},{{"text":"a"}}]}}"#), 765),
        (Api::Embeddings, format!(r#"{{"model":"m","input":["a","{data}"]}}"#), 765),
        (Api::Embeddings, format!(r#"{{"model":"m","images":["{data}"]}}"#), 765),
        (
            Api::OllamaChat,
            format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":"a","images":["{png}","{png}"]}}]}}"#
            ),
            2 * 765,
        ),
        (Api::OllamaGenerate, format!(r#"{{"model":"m","prompt":"a","images":["{png}"]}}"#), 765),
        (Api::Rerank, format!(r#"{{"model":"m","query":"a","documents":[{{"image":"{data}"}}]}}"#), 765),
    ];
    for (index, (api, body, tokens)) in cases.iter().enumerate() {
        assert_eq!(media(*api, body), *tokens, "case {index}");
    }
}

#[test]
fn every_format_names_its_size() {
    let jpeg = {
        let mut head = b"\xff\xd8\xff\xe1\xff\xff".to_vec(); // a full segment of notes
        head.extend([7; 65_533]);
        head.extend(b"\xff\xc0\0\x11\x08\x04\0\x08\0"); // 1024 high, 2048 wide
        head
    };
    let cases: [(&[u8], u64); 7] = [
        (&png(512, 512), 255),
        (b"GIF89a\0\x02\0\x02", 255),
        (b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\xff\x01\0\xff\x01\0", 255),
        (b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\xff\xc1\x7f\0", 255),
        (b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\0\x02\0\x02", 255),
        (&jpeg, 85 + 170 * 6), // 1536 x 768
        (b"BM no size is read here", RATES.image_tokens),
    ];
    for (head, tokens) in cases {
        let data = url("image/any", &image(head));
        let body = chat(&format!(r#"{{"type":"image_url","image_url":{{"url":"{data}"}}}}"#));
        assert_eq!(media(Api::Chat, &body), tokens, "{}", head[..12].escape_ascii());
    }
}

#[test]
fn absurd_images_cost_a_bounded_number() {
    for head in [
        &png(0, 0)[..],
        &png(u32::MAX, 1),
        &png(1, u32::MAX),
        &png(u32::MAX, u32::MAX),
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xc0",
    ] {
        let data = url("image/png", &image(head));
        let body = chat(&format!(r#"{{"type":"image_url","image_url":{{"url":"{data}"}}}}"#));
        assert!((85..=2_805).contains(&media(Api::Chat, &body)), "{head:?}");
        let body = chat(&format!(
            r#"{{"source":{{"type":"base64","media_type":"image/png","data":"{}"}}}}"#,
            image(head)
        ));
        assert!((1..=1_640).contains(&media(Api::Messages, &body)), "{head:?}");
    }
}

#[test]
fn sound_films_and_documents_are_counted_by_their_length_in_time_or_pages() {
    let bytes = image(b"%PDF-1.7"); // 450 kB
    let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0".to_vec();
    wav.extend(32_000_u32.to_le_bytes());
    let part = |text: String| chat(&text);
    let cases = [
        (
            Api::Chat,
            part(format!(r#"{{"type":"input_audio","input_audio":{{"format":"mp3","data":"{bytes}"}}}}"#)),
            290,
        ),
        (
            Api::Chat,
            part(format!(
                r#"{{"type":"input_audio","input_audio":{{"data":"{}","format":"wav"}}}}"#,
                image(&wav)
            )),
            150,
        ),
        (
            Api::Chat,
            part(format!(r#"{{"type":"video_url","video_url":{{"url":"{}"}}}}"#, url("video/mp4", &bytes))),
            4 * 258,
        ),
        (
            Api::Chat,
            part(format!(
                r#"{{"type":"file","file":{{"filename":"a.pdf","file_data":"{}"}}}}"#,
                url("application/pdf", &bytes)
            )),
            20_000,
        ),
        (
            Api::Responses,
            part(format!(
                r#"{{"type":"input_file","file_data":"{}","filename":"a.pdf"}}"#,
                url("application/pdf", &bytes)
            )),
            20_000,
        ),
        (
            Api::Messages,
            part(format!(
                r#"{{"type":"document","source":{{"type":"base64","media_type":"application/pdf","data":"{bytes}"}}}}"#
            )),
            20_000,
        ),
    ];
    for (index, (api, body, tokens)) in cases.iter().enumerate() {
        assert_eq!(media(*api, body), *tokens, "case {index}");
    }
}

#[test]
fn what_only_looks_like_a_part_is_text() {
    let bytes = image(&png(64, 64));
    let data = url("image/png", &bytes);
    let cases = [
        (Api::Chat, format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{bytes}"}}]}}"#)),
        (Api::Chat, format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{data}"}}]}}"#)),
        (Api::Chat, chat(&format!(r#"{{"type":"text","text":"{data}"}}"#))),
        (Api::Chat, chat(&format!(r#"{{"type":"text","image_url":"{data}"}}"#))),
        (
            Api::Chat,
            format!(r#"{{"tools":[{{"function":{{"parameters":{{"image_url":{{"url":"{data}"}}}}}}}}]}}"#),
        ),
        (Api::Chat, chat(&format!(r#"{{"type":"x","data":"{bytes}"}}"#))),
        (Api::Chat, chat(&format!(r#"{{"type":"text","text":"{{\"image_url\":{{\"url\":\"{data}\"}}}}"}}"#))),
        (Api::Completions, format!(r#"{{"model":"m","prompt":"{data}"}}"#)),
        (Api::Responses, format!(r#"{{"model":"m","input":"{data}"}}"#)),
        (Api::Responses, format!(r#"{{"model":"m","input":[{{"type":"mcp_call","result":"{bytes}"}}]}}"#)),
        (
            Api::Messages,
            chat(&format!(
                r#"{{"type":"tool_use","input":{{"source":{{"type":"base64","data":"{bytes}"}}}}}}"#
            )),
        ),
        (
            Api::Messages,
            chat(&format!(
                r#"{{"type":"document","source":{{"data":"{bytes}","media_type":"text/plain","type":"text"}}}}"#
            )),
        ),
        (Api::Embeddings, format!(r#"{{"model":"m","input":["{bytes}"]}}"#)),
    ];
    for (index, (api, body)) in cases.iter().enumerate() {
        let prompt = prompt(*api, body.as_bytes(), &RATES);
        assert_eq!((prompt.text, prompt.media), (body.len() as u64 / 4 + 1, 0), "case {index}");
    }
}

#[test]
fn a_text_file_is_text_without_its_encoding() {
    let file = url(r"text\/plain", &base64(&b"word ".repeat(100_000)));
    let body = chat(&format!(r#"{{"type":"file","file":{{"file_data":"{file}"}}}}"#));
    let prompt = prompt(Api::Chat, body.as_bytes(), &RATES);
    assert_eq!(prompt.media, 0);
    assert!((125_000..125_200).contains(&prompt.text), "{prompt:?}");
}

#[test]
fn any_bytes_are_estimated() {
    let bodies: [&[u8]; 6] =
        [&[b'['; 9000], &[b'{'; 9000], &[b'}'; 9000], &[b'"'; 9001], &[b'\\'; 9000], b""];
    for body in bodies {
        assert_eq!(prompt(Api::Chat, body, &RATES).media, 0);
    }
    let mut cut =
        chat(&format!(r#"{{"type":"image_url","image_url":{{"url":"{}"}}}}"#, url("image/png", &image(b""))))
            .into_bytes();
    while cut.len() > 5_000 {
        cut.truncate(cut.len() * 2 / 3);
        let prompt = prompt(Api::Chat, &cut, &RATES);
        assert!(prompt.tokens() <= cut.len() as u64 / 4 + 1, "{prompt:?}");
    }
}
