//! AWS's Signature Version 4: a request is signed with keys that are never sent.
//!
//! ```text
//! canonical request = METHOD \n path, each segment encoded once more \n query \n lines of the head \n\n their names \n SHA-256 of the body
//! text to sign      = AWS4-HMAC-SHA256 \n time \n DATE/REGION/SERVICE/aws4_request \n SHA-256 of the canonical request
//! key               = HMAC(HMAC(HMAC(HMAC("AWS4" + secret, DATE), REGION), SERVICE), "aws4_request")
//! ```
//!
//! Signed are the host, the time and the session's token, if there is one: what a proxy may change on the way is not.
//!
//! Source: AWS Identity and Access Management user guide, "Create a signed AWS API request".

use ring::{digest, hmac};

use crate::units::hex;

/// The keys of an account, and what they are used for.
#[derive(Clone)]
pub struct Signer {
    access_key: Box<str>,
    secret_key: Box<str>,
    session_token: Option<Box<str>>,
    region: Box<str>,
    service: &'static str,
}

/// What of a request is signed.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    /// `POST`
    pub method: &'a str,
    /// As it is sent, with its escapes and its query.
    pub target: &'a [u8],
    /// As it is sent.
    pub host: &'a [u8],
    /// All of it.
    pub body: &'a [u8],
    /// Now.
    pub unix_seconds: u64,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Signer").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Signer {
    /// For one region and service. The keys are visible ASCII.
    pub fn new(
        (access_key, secret_key): (&str, &str),
        session_token: Option<&str>,
        region: &str,
        service: &'static str,
    ) -> Self {
        Self {
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            session_token: session_token.map(Into::into),
            region: region.into(),
            service,
        }
    }

    /// Appends the header lines that sign a request, each ending in CRLF.
    ///
    /// Cost: SHA-256 of the body, and six more of short texts.
    pub fn lines(&self, unsigned: &Unsigned<'_>, out: &mut Vec<u8>) {
        let time = time(unsigned.unix_seconds);
        let date = &time[..8];
        let token = self.session_token.as_deref();
        let names = if token.is_some() { "host;x-amz-date;x-amz-security-token" } else { "host;x-amz-date" };
        let canonical = canonical(unsigned, &time, token, names);
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let hash = hex(digest::digest(&digest::SHA256, &canonical).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
        let signature = hex(sign(&self.key(date), text.as_bytes()).as_ref());
        let mut line = |words: &[&str]| {
            words.iter().for_each(|word| out.extend_from_slice(word.as_bytes()));
            out.extend_from_slice(b"\r\n");
        };
        line(&["x-amz-date: ", &time]);
        if let Some(token) = token {
            line(&["x-amz-security-token: ", token]);
        }
        line(&[
            "authorization: AWS4-HMAC-SHA256 Credential=",
            &self.access_key,
            "/",
            &scope,
            ", SignedHeaders=",
            names,
            ", Signature=",
            &signature,
        ]);
    }

    /// The key for one day.
    fn key(&self, date: &str) -> hmac::Tag {
        let secret = format!("AWS4{}", self.secret_key);
        let mut key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), date.as_bytes());
        for word in [&*self.region, self.service, "aws4_request"] {
            key = sign(&key, word.as_bytes());
        }
        key
    }
}

fn sign(key: &hmac::Tag, text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), text)
}

fn canonical(unsigned: &Unsigned<'_>, time: &str, token: Option<&str>, names: &str) -> Vec<u8> {
    let mark = unsigned.target.iter().position(|byte| *byte == b'?');
    let (path, query) = unsigned.target.split_at(mark.unwrap_or(unsigned.target.len()));
    let mut out = unsigned.method.as_bytes().to_vec();
    out.push(b'\n');
    for &byte in path {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => out.push(byte),
            _ if byte.is_ascii_alphanumeric() => out.push(byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out.push(b'\n');
    let mut parameters: Vec<Vec<u8>> = query
        .strip_prefix(b"?")
        .unwrap_or_default()
        .split(|byte| *byte == b'&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| [parameter, if parameter.contains(&b'=') { b"" } else { b"=" }].concat())
        .collect();
    parameters.sort();
    out.extend_from_slice(&parameters.join(&b'&'));
    out.extend_from_slice(b"\nhost:");
    out.extend_from_slice(unsigned.host);
    for piece in ["\nx-amz-date:", time] {
        out.extend_from_slice(piece.as_bytes());
    }
    if let Some(token) = token {
        for piece in ["\nx-amz-security-token:", token] {
            out.extend_from_slice(piece.as_bytes());
        }
    }
    let hash = hex(digest::digest(&digest::SHA256, unsigned.body).as_ref());
    for piece in ["\n\n", names, "\n", &hash] {
        out.extend_from_slice(piece.as_bytes());
    }
    out
}

/// `20150830T123600Z`
fn time(unix_seconds: u64) -> String {
    let civil = crate::dialect::civil_time(unix_seconds);
    let (year, month, day, second) = civil;
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of AWS's published test suite for this signature.
    const KEYS: (&str, &str) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    /// 2015-08-30 12:36:00 UTC, its time.
    const TIME: u64 = 1_440_938_160;

    fn signature(signer: &Signer, method: &str, target: &str, host: &str, body: &str) -> String {
        let unsigned = Unsigned {
            method,
            target: target.as_bytes(),
            host: host.as_bytes(),
            body: body.as_bytes(),
            unix_seconds: TIME,
        };
        let mut out = Vec::new();
        signer.lines(&unsigned, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("x-amz-date: 20150830T123600Z\r\n") && text.ends_with("\r\n"), "{text}");
        text.trim_end().rsplit('=').next().unwrap().to_owned()
    }

    #[test]
    fn signatures_are_those_of_the_published_test_suite() {
        let signer = Signer::new(KEYS, None, "us-east-1", "service");
        for (name, method, target, expected) in [
            ("get-vanilla", "GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("post-vanilla", "POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                "get-vanilla-query-order-key-case",
                "GET",
                "/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            assert_eq!(signature(&signer, method, target, "example.amazonaws.com", ""), expected, "{name}");
        }
    }

    #[test]
    fn the_key_of_a_day_is_the_one_of_the_guide() {
        let signer = Signer::new(KEYS, None, "us-east-1", "iam");
        assert_eq!(
            hex(signer.key("20150830").as_ref()),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
    }

    #[test]
    fn the_name_of_a_model_is_escaped_twice_and_a_sessions_token_is_signed() {
        let signer = Signer::new(KEYS, Some("token+/="), "eu-central-1", "bedrock");
        let target = "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A1%3Ainference-profile%2Feu.anthropic.claude-v1%3A0/converse";
        let host = "bedrock-runtime.eu-central-1.amazonaws.com";
        let unsigned = Unsigned {
            method: "POST",
            target: target.as_bytes(),
            host: host.as_bytes(),
            body: b"{}",
            unix_seconds: TIME,
        };
        let canonical = canonical(
            &unsigned,
            "20150830T123600Z",
            Some("token+/="),
            "host;x-amz-date;x-amz-security-token",
        );
        let text = String::from_utf8(canonical).unwrap();
        assert!(text.starts_with("POST\n/model/arn%253Aaws%253Abedrock"), "{text}");
        assert!(
            text.contains("inference-profile%252Feu.anthropic.claude-v1%253A0/converse\n\nhost:"),
            "{text}"
        );
        assert_eq!(
            signature(&signer, "POST", target, host, "{}"),
            "bd0a7833a1a2276c76a1102275f57348a9ba4118d5ca25110ae6446af71e45b5"
        );
        let mut out = Vec::new();
        signer.lines(&unsigned, &mut out);
        assert!(
            String::from_utf8_lossy(&out).contains("\r\nx-amz-security-token: token+/=\r\nauthorization: ")
        );
        assert!(!format!("{signer:?}").contains("EXAMPLE"), "keys are not shown");
    }
}
