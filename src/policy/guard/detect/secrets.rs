//! Secrets with a known form, and random tokens.

use super::Candidate;

/// The forms are those that the issuers publish (their documentation of key formats and of secret scanning).
pub(super) const SOURCES: &[&str] = &[
    // OpenAI, Anthropic, OpenRouter, DeepSeek and others: sk-, with parts. Ringway's own as well.
    r"(?-u:\b)sk-[A-Za-z0-9_-]{20,200}",
    // Amazon: access keys.
    r"(?-u:\b)(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?-u:\b)",
    // Google: API keys, OAuth tokens and client secrets.
    r"(?-u:\b)AIza[A-Za-z0-9_-]{35}",
    r"(?-u:\b)ya29\.[A-Za-z0-9_-]{20,300}",
    r"(?-u:\b)GOCSPX-[A-Za-z0-9_-]{28}",
    // GitHub, GitLab.
    r"(?-u:\b)gh[pousr]_[A-Za-z0-9]{36,255}",
    r"(?-u:\b)github_pat_[A-Za-z0-9_]{60,255}",
    r"(?-u:\b)gl(?:pat|ptt|dt|rt|cbt|ft|soat|agent|imt)-[A-Za-z0-9_.-]{20,100}",
    // Slack, Stripe, SendGrid, Twilio, Square, Shopify.
    r"(?-u:\b)xox[abeoprs]-[A-Za-z0-9-]{10,200}",
    r"(?-u:\b)xapp-[0-9]-[A-Za-z0-9-]{10,200}",
    r"(?-u:\b)[srp]k_(?:live|test)_[A-Za-z0-9]{16,120}",
    r"(?-u:\b)whsec_[A-Za-z0-9+/=]{24,80}",
    r"(?-u:\b)SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}",
    r"(?-u:\b)(?:AC|SK)[0-9a-f]{32}(?-u:\b)",
    r"(?-u:\b)sq0[a-z]{3}-[A-Za-z0-9_-]{22,43}",
    r"(?-u:\b)shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
    // Package registries, Hugging Face, Groq, xAI, Replicate, Fireworks, Perplexity, NVIDIA, Docker, Vault, DigitalOcean.
    r"(?-u:\b)npm_[A-Za-z0-9]{36}",
    r"(?-u:\b)pypi-[A-Za-z0-9_-]{50,255}",
    r"(?-u:\b)hf_[A-Za-z]{30,40}",
    r"(?-u:\b)gsk_[A-Za-z0-9]{40,64}",
    r"(?-u:\b)xai-[A-Za-z0-9]{60,100}",
    r"(?-u:\b)r8_[A-Za-z0-9]{37,40}",
    r"(?-u:\b)fw_[A-Za-z0-9]{20,32}",
    r"(?-u:\b)pplx-[A-Za-z0-9]{40,64}",
    r"(?-u:\b)nvapi-[A-Za-z0-9_-]{60,80}",
    r"(?-u:\b)dckr_pat_[A-Za-z0-9_-]{20,64}",
    r"(?-u:\b)hv[sb]\.[A-Za-z0-9_-]{20,200}",
    r"(?-u:\b)do[opr]_v1_[0-9a-f]{64}",
    // Private keys in PEM (RFC 7468), with what follows the first line as far as it has come.
    r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/= \t\r\n:,-]{0,4000}",
    // JSON web tokens (RFC 7519): two JSON objects and a signature.
    r"(?-u:\b)eyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{10,1000}",
    // Anything random: see `is_random`.
    r"(?-u:\b)[A-Za-z0-9][A-Za-z0-9_+/-]{31,127}={0,2}",
];

/// A candidate of a known form is a match; one of the last form only if it looks random.
pub(super) fn secret(candidate: &Candidate<'_>) -> Option<usize> {
    let text = &candidate.text[..candidate.longest];
    if FORMS.iter().any(|form| text.starts_with(form)) || is_twilio(text) {
        return Some(key_end(text));
    }
    let goes_on = candidate.text.get(text.len()).is_some_and(u8::is_ascii_alphanumeric);
    let continues = candidate.before.is_some_and(|byte| matches!(byte, b'/' | b'+' | b'-' | b'_' | b'='));
    (!goes_on && !continues && is_random(text)).then_some(text.len())
}

/// PEM ends at its last line; the text behind it is not a secret.
fn key_end(text: &[u8]) -> usize {
    if !text.starts_with(b"-----BEGIN") {
        return text.len();
    }
    let marker = b"-----END ";
    let end = text.windows(marker.len()).position(|window| window == marker);
    let close = end.and_then(|end| {
        let rest = &text[end + marker.len()..];
        rest.windows(5).position(|window| window == b"-----").map(|dashes| end + marker.len() + dashes + 5)
    });
    close.unwrap_or(text.len())
}

fn is_twilio(text: &[u8]) -> bool {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 34 && (text.starts_with(b"AC") || text.starts_with(b"SK")) && text[2..].iter().all(is_hex)
}

/// Letters of both cases and digits, at least 4.2 bits a character: a random base64 text of 32 characters has 4.7 on
/// average, a path or an identifier of that length below 4. Chosen, not measured.
fn is_random(text: &[u8]) -> bool {
    let has = |wanted: fn(&u8) -> bool| text.iter().filter(|byte| wanted(byte)).count();
    let mixed =
        has(u8::is_ascii_lowercase) >= 4 && has(u8::is_ascii_uppercase) >= 4 && has(u8::is_ascii_digit) >= 3;
    if !mixed || has(|byte| matches!(byte, b'-' | b'_' | b'/')) * 6 > text.len() {
        return false; // a path, a slug, words
    }
    let mut counts = [0_u16; 256];
    text.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let total = text.len() as f64;
    let share = |count: &u16| f64::from(*count) / total;
    let bits: f64 =
        counts.iter().filter(|count| **count > 0).map(|count| -share(count) * share(count).log2()).sum();
    bits >= 4.2
}

/// The beginnings of the known forms.
const FORMS: &[&[u8]] = &[
    b"sk-",
    b"AKIA",
    b"ASIA",
    b"ABIA",
    b"ACCA",
    b"AIza",
    b"ya29.",
    b"GOCSPX-",
    b"ghp_",
    b"gho_",
    b"ghu_",
    b"ghs_",
    b"ghr_",
    b"github_pat_",
    b"glpat-",
    b"glptt-",
    b"gldt-",
    b"glrt-",
    b"glcbt-",
    b"glft-",
    b"glsoat-",
    b"glagent-",
    b"glimt-",
    b"xox",
    b"xapp-",
    b"sk_live_",
    b"sk_test_",
    b"rk_live_",
    b"rk_test_",
    b"pk_live_",
    b"pk_test_",
    b"whsec_",
    b"SG.",
    b"sq0",
    b"shpat_",
    b"shpca_",
    b"shppa_",
    b"shpss_",
    b"npm_",
    b"pypi-",
    b"hf_",
    b"gsk_",
    b"xai-",
    b"r8_",
    b"fw_",
    b"pplx-",
    b"nvapi-",
    b"dckr_pat_",
    b"hvs.",
    b"hvb.",
    b"doo_v1_",
    b"dop_v1_",
    b"dor_v1_",
    b"-----BEGIN",
    b"eyJ",
];
